package scope_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/scope"
)

var errDied = errors.New("the connection died")

func TestAHandleRunsLikeRun(t *testing.T) {
	h := scope.Open(t.Context(), nil)
	s := h.Scope()
	s.Go(untilCancelled) // before the body, too
	err, echoed := h.Run(func() error {
		s.Go(func(context.Context) error { return errFirst })
		return nil
	})
	assert.Equal(t, errFirst, err)
	assert.False(t, echoed, "nothing was interrupted")
	assert.Error(t, s.Context().Err())
}

// errWords says more than the cause that it wraps.
var errWords = fmt.Errorf("get: %w", errDied)

// What a caller says around the reason of a cancellation stands for the reason, once.
func TestWordsAroundTheCauseAreKept(t *testing.T) {
	var err error
	synctest.Test(t, func(t *testing.T) {
		caller, cancel := context.WithCancelCause(t.Context())
		err = scope.Run(caller, func(s *scope.Scope) error {
			s.Go(func(ctx context.Context) error {
				<-ctx.Done()
				return errWords
			})
			cancel(errDied)
			synctest.Wait() // the task has ended
			return fmt.Errorf("second: %w", errDied)
		})
	})
	assert.Equal(t, errWords, err)

	err = scope.Run(t.Context(), func(s *scope.Scope) error {
		s.Go(func(ctx context.Context) error {
			<-ctx.Done()
			return fmt.Errorf("echo: %w", context.Cause(ctx))
		})
		return errFirst
	})
	assert.Equal(t, errFirst, err, "a failure of the scope's own needs no words around it")
}

func TestInterrupt(t *testing.T) {
	tests := map[string]struct {
		body   func(ctx context.Context) error
		err    error
		echoed bool
	}{
		"nobody noticed":            {func(context.Context) error { return nil }, nil, false},
		"the context's error":       {func(ctx context.Context) error { return ctx.Err() }, nil, true},
		"the cause, wrapped":        {func(context.Context) error { return errWords }, errWords, true},
		"a failure":                 {func(context.Context) error { return errFirst }, errFirst, false},
		"a failure besides an echo": {func(context.Context) error { return errors.Join(errDied, errFirst) }, errors.Join(errDied, errFirst), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, inTask := range []bool{false, true} {
				h := scope.Open(t.Context(), nil)
				err, echoed := h.Run(func() error {
					h.Interrupt(errDied)
					h.Interrupt(errSecond) // the first counts
					ctx := h.Scope().Context()
					assert.Equal(t, errDied, context.Cause(ctx))
					if !inTask {
						return tt.body(ctx)
					}
					h.Scope().Go(tt.body)
					return nil
				})
				assert.Equal(t, tt.err, err, "in a task: %v", inTask)
				assert.Equal(t, tt.echoed, echoed, "in a task: %v", inTask)
			}
		})
	}
}

func TestInterruptAfterAFailure(t *testing.T) {
	for name, tt := range map[string]struct {
		body   error
		echoed bool
	}{
		"an echo of the failure":      {context.Canceled, false},
		"an echo of the interruption": {errDied, true},
	} {
		h := scope.Open(t.Context(), nil)
		err, echoed := h.Run(func() error {
			h.Scope().Cancel(errFirst)
			h.Interrupt(errDied)
			h.Interrupt(errSecond) // the first counts
			return tt.body
		})
		assert.Equal(t, errFirst, err, name)
		assert.Equal(t, tt.echoed, echoed, name)
	}
}

func TestInterruptAfterTheCallersCancellation(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	h := scope.Open(ctx, nil)
	err, echoed := h.Run(func() error {
		cancel(errCaller)
		h.Interrupt(errDied)
		return h.Scope().Context().Err()
	})
	assert.Equal(t, errCaller, err)
	assert.False(t, echoed)
}

func TestInterruptWithoutACause(t *testing.T) {
	h := scope.Open(t.Context(), nil)
	err, echoed := h.Run(func() error {
		h.Interrupt(nil)
		return h.Scope().Context().Err()
	})
	assert.NoError(t, err)
	assert.True(t, echoed)
	h.Interrupt(errDied) // after the end
	assert.Equal(t, context.Canceled, context.Cause(h.Scope().Context()))
}

// The caller's ctx may be any other than the outer scope's: derived from it, or not.
func TestTheOuterScopesEnd(t *testing.T) {
	contexts := map[string]func(outer *scope.Scope) context.Context{
		"its context": func(outer *scope.Scope) context.Context { return outer.Context() },
		"another":     func(*scope.Scope) context.Context { return context.Background() },
	}
	for name, choose := range contexts {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				run := func(outer *scope.Scope, body func(s *scope.Scope) error) error {
					h := scope.Open(choose(outer), outer)
					err, echoed := h.Run(func() error { return body(h.Scope()) })
					assert.False(t, echoed)
					return err
				}
				// before the body returned, though it returned nil
				outer := scope.Open(context.Background(), nil)
				err, echoed := outer.Run(func() error {
					err := run(outer.Scope(), func(s *scope.Scope) error {
						outer.Interrupt(errDied)
						<-s.Context().Done()
						assert.Equal(t, errDied, context.Cause(s.Context()))
						return nil
					})
					assert.Equal(t, errDied, err)
					return err
				})
				assert.NoError(t, err)
				assert.True(t, echoed, "what the inner scope returns is the outer one's echo")

				// after the body returned, and the task was not cut short
				err = scope.Run(context.Background(), func(s *scope.Scope) error {
					s.Go(func(context.Context) error {
						time.Sleep(time.Second)
						return errFirst
					})
					assert.NoError(t, run(s, func(inner *scope.Scope) error {
						inner.Go(func(ctx context.Context) error { <-ctx.Done(); return nil })
						return nil
					}))
					assert.Equal(t, errFirst, run(s, func(inner *scope.Scope) error { return nil }), "over before it began")
					return nil
				})
				assert.Equal(t, errFirst, err)
			})
		})
	}
}

func TestTheOuterScopesEndMayStillBeOnItsWay(t *testing.T) {
	for range 100 {
		outer := scope.Open(context.Background(), nil)
		_, echoed := outer.Run(func() error {
			h := scope.Open(t.Context(), outer.Scope())
			err, _ := h.Run(func() error {
				outer.Interrupt(errDied)
				return nil // at once
			})
			require.Equal(t, errDied, err)
			return err
		})
		require.True(t, echoed)
	}
}

func TestTheOuterScopesDeadlineIsNoFailureOfTheInner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errCaller)
		defer cancel()
		err := scope.Run(ctx, func(outer *scope.Scope) error {
			h := scope.Open(context.Background(), outer)
			err, _ := h.Run(func() error {
				<-h.Scope().Context().Done()
				return outer.Context().Err()
			})
			assert.Equal(t, errCaller, err)
			return err
		})
		assert.Equal(t, errCaller, err)
	})
}

func TestAnInnerScopeDoesNotEndTheOuter(t *testing.T) {
	require.NoError(t, scope.Run(t.Context(), func(outer *scope.Scope) error {
		h := scope.Open(t.Context(), outer)
		err, _ := h.Run(func() error { return errFirst })
		assert.Equal(t, errFirst, err)
		return outer.Context().Err()
	}))
}

// A connection's death reaches the scopes in it by several ways at once. Whichever is first, it is told once.
func TestInterruptRacesWithEverything(t *testing.T) {
	for range 200 {
		outer := scope.Open(context.Background(), nil)
		var wg sync.WaitGroup
		err, echoed := outer.Run(func() error {
			h := scope.Open(t.Context(), outer.Scope())
			wg.Go(func() { outer.Interrupt(errDied) })
			wg.Go(func() { h.Interrupt(errDied) })
			err, echoed := h.Run(func() error {
				for range 3 {
					h.Scope().Go(func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
				}
				return untilCancelled(h.Scope().Context())
			})
			if !errors.Is(err, errDied) {
				assert.NoError(t, err)
				assert.True(t, echoed)
				err = errDied
			}
			require.Len(t, leaves(err), 1)
			wg.Wait()
			return err
		})
		require.NoError(t, err)
		require.True(t, echoed)
	}
}
