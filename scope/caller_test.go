package scope_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/scope"
)

func TestTheCallersCancellation(t *testing.T) {
	tests := map[string]struct {
		before bool // the body returned
		task   error
		want   error
	}{
		"before the body returned, and all well":  {true, nil, errCaller},
		"before the body returned, and echoed":    {true, context.Canceled, errCaller},
		"before the body returned, and a failure": {true, errFirst, errors.Join(errCaller, errFirst)},
		"before, and the cause told in a failure": {true, fmt.Errorf("%w (%w)", errFirst, errCaller), fmt.Errorf("%w (%w)", errFirst, errCaller)},
		"after the body returned, and all well":   {false, nil, nil},
		"after the body returned, and echoed":     {false, context.Canceled, errCaller},
		"after the body returned, cause echoed":   {false, errCaller, errCaller},
		"after the body returned, and a failure":  {false, errFirst, errFirst},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				err := scope.Run(ctx, func(s *scope.Scope) error {
					s.Go(func(ctx context.Context) error {
						if !tt.before {
							time.Sleep(time.Second) // the body has returned by then
							cancel(errCaller)
						}
						<-ctx.Done()
						return tt.task
					})
					if tt.before {
						cancel(errCaller)
					}
					return nil
				})
				assert.Equal(t, tt.want, err)
			})
		})
	}
}

func TestACallersDeadlineIsTheCallersCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := scope.Run(ctx, func(s *scope.Scope) error {
			s.Go(untilCancelled)
			return nil
		})
		assert.Equal(t, context.DeadlineExceeded, err)

		ctx, cancel = context.WithTimeoutCause(t.Context(), time.Second, errCaller)
		defer cancel()
		err = scope.Run(ctx, func(s *scope.Scope) error { return untilCancelled(s.Context()) })
		assert.Equal(t, errCaller, err, "the deadline's echo is left out, its cause is told")
	})
}

// foreign is a context from outside the standard library, whose end reaches derived contexts through a goroutine.
type foreign struct {
	context.Context
	done chan struct{}
}

func (f foreign) Done() <-chan struct{} { return f.done }
func (f foreign) Value(any) any         { return nil }

func (f foreign) Err() error {
	select {
	case <-f.done:
		return context.Canceled
	default:
		return nil
	}
}

func TestACancellationThatIsStillOnItsWayCounts(t *testing.T) {
	for range 100 {
		ctx := foreign{context.Background(), make(chan struct{})}
		err := scope.Run(ctx, func(*scope.Scope) error {
			close(ctx.done)
			return nil
		})
		require.Equal(t, context.Canceled, err)
	}
}

func TestADeadlineThatIsStillOnItsWayCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errCaller)
		defer cancel()
		never := struct{ context.Context }{foreignDone{ctx, make(chan struct{})}}
		err := scope.Run(never, func(*scope.Scope) error {
			<-ctx.Done()
			return ctx.Err()
		})
		assert.Equal(t, errCaller, err)
	})
}

// foreignDone is a context whose end takes for ever to reach derived contexts.
type foreignDone struct {
	context.Context
	done chan struct{}
}

func (f foreignDone) Done() <-chan struct{} { return f.done }

func TestAFailureIsNotTheCallersCancellation(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	err := scope.Run(ctx, func(s *scope.Scope) error {
		s.Cancel(errFirst)
		cancel(errCaller)
		return ctx.Err()
	})
	assert.Equal(t, errFirst, err, "it came too late to cut anything short")
}
