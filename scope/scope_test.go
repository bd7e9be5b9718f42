package scope_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/scope"
)

var (
	errFirst  = errors.New("first")
	errSecond = errors.New("second")
	errCaller = errors.New("the caller has had enough")
)

// untilCancelled is a task that does what it is told.
func untilCancelled(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// leaves are the errors that err joins.
func leaves(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

func TestRunWaitsForTasksAndDoesNotCancelThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var finished atomic.Int32
		err := scope.Run(t.Context(), func(s *scope.Scope) error {
			for range 3 {
				s.Go(func(ctx context.Context) error {
					select {
					case <-time.After(time.Hour):
						finished.Add(1)
						return nil
					case <-ctx.Done():
						return context.Cause(ctx)
					}
				})
			}
			return nil
		})
		require.NoError(t, err)
		assert.EqualValues(t, 3, finished.Load())
	})
}

func TestTheBodyRunsOnTheCallersGoroutine(t *testing.T) {
	goexited := make(chan bool)
	go func() {
		defer close(goexited)
		_ = scope.Run(context.Background(), func(*scope.Scope) error { runtime.Goexit(); return nil })
		goexited <- false // reached only if the body had a goroutine of its own
	}()
	_, returned := <-goexited
	assert.False(t, returned)
}

func TestTheBodysErrorCancelsTheTasks(t *testing.T) {
	var cause error
	err := scope.Run(t.Context(), func(s *scope.Scope) error {
		s.Go(func(ctx context.Context) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return nil
		})
		return errFirst
	})
	assert.Equal(t, errFirst, err, "one error is returned as it is")
	assert.Equal(t, errFirst, cause)
}

func TestATasksErrorCancelsTheBodyAndItsSiblings(t *testing.T) {
	err := scope.Run(t.Context(), func(s *scope.Scope) error {
		s.Go(untilCancelled)
		s.Go(func(context.Context) error { return errFirst })
		<-s.Context().Done()
		assert.Equal(t, errFirst, context.Cause(s.Context()))
		return s.Context().Err()
	})
	assert.Equal(t, errFirst, err)
}

func TestAllFailuresAreJoinedInOrder(t *testing.T) {
	err := scope.Run(t.Context(), func(s *scope.Scope) error {
		s.Go(func(ctx context.Context) error {
			<-ctx.Done()
			return errSecond
		})
		return errFirst
	})
	assert.Equal(t, []error{errFirst, errSecond}, leaves(err))
}

type grumpy struct{ reasons []string } // an error that Go cannot compare

func (g grumpy) Error() string { return fmt.Sprint(g.reasons) }

type hollow struct{ inner error }

func (h hollow) Error() string { return "hollow" }
func (h hollow) Unwrap() error { return h.inner }

func TestEchoesAreLeftOut(t *testing.T) {
	dialed := func(ctx context.Context) error {
		_, err := new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:9")
		return err
	}
	tests := map[string]struct {
		err  func(ctx context.Context) error
		kept bool
	}{
		"the context's error":         {func(ctx context.Context) error { return ctx.Err() }, false},
		"the cause":                   {context.Cause, false},
		"wrapped":                     {func(ctx context.Context) error { return fmt.Errorf("reading: %w", ctx.Err()) }, false},
		"the cause wrapped":           {func(ctx context.Context) error { return fmt.Errorf("reading: %w", context.Cause(ctx)) }, false},
		"joined":                      {func(ctx context.Context) error { return errors.Join(ctx.Err(), context.Cause(ctx)) }, false},
		"net's spelling":              {dialed, false},
		"a failure":                   {func(context.Context) error { return errSecond }, true},
		"a failure in a join":         {func(ctx context.Context) error { return errors.Join(ctx.Err(), errSecond) }, true},
		"a failure deep in a join":    {func(ctx context.Context) error { return fmt.Errorf("%w (%w)", ctx.Err(), hollow{errSecond}) }, true},
		"a deadline of the task's":    {func(context.Context) error { return context.DeadlineExceeded }, true},
		"an error of no kind":         {func(context.Context) error { return grumpy{[]string{"no"}} }, true},
		"a wrapper of nothing":        {func(context.Context) error { return hollow{} }, true},
		"a shielded clean-up's delay": {shieldedFor, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var told error
			err := scope.Run(t.Context(), func(s *scope.Scope) error {
				s.Go(func(ctx context.Context) error {
					<-ctx.Done()
					told = tt.err(ctx)
					return told
				})
				return errFirst
			})
			require.Error(t, told)
			if tt.kept {
				assert.Equal(t, []error{errFirst, told}, leaves(err), "kept whole")
			} else {
				assert.Equal(t, errFirst, err)
			}
		})
	}
}

// shieldedFor is a clean-up that takes longer than it may.
func shieldedFor(ctx context.Context) error {
	return scope.Shield(ctx, time.Nanosecond, func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
}

func TestTheCauseMayBeAnyError(t *testing.T) {
	cause := grumpy{[]string{"not comparable"}}
	err := scope.Run(t.Context(), func(s *scope.Scope) error {
		s.Go(untilCancelled)
		s.Cancel(cause)
		return cause
	})
	assert.Equal(t, cause, err)
}

func TestACancellationOfTheTasksOwnIsAFailure(t *testing.T) {
	err := scope.Run(t.Context(), func(s *scope.Scope) error {
		s.Go(func(context.Context) error { return context.Canceled })
		<-s.Context().Done()
		return nil
	})
	assert.Equal(t, context.Canceled, err)
}

func TestCancel(t *testing.T) {
	run := func(body func(s *scope.Scope) error) error { return scope.Run(t.Context(), body) }
	t.Run("nil ends early without an error", func(t *testing.T) {
		assert.NoError(t, run(func(s *scope.Scope) error {
			s.Go(untilCancelled)
			s.Cancel(nil)
			<-s.Context().Done()
			return fmt.Errorf("body: %w", s.Context().Err())
		}))
	})
	t.Run("nil hides no failure", func(t *testing.T) {
		assert.Equal(t, errFirst, run(func(s *scope.Scope) error {
			s.Cancel(nil)
			return errFirst
		}))
	})
	t.Run("nil hides no failure that came before", func(t *testing.T) {
		assert.Equal(t, errFirst, run(func(s *scope.Scope) error {
			s.Cancel(errFirst)
			s.Cancel(nil)
			return nil
		}))
	})
	t.Run("a cause is a failure", func(t *testing.T) {
		assert.Equal(t, errFirst, run(func(s *scope.Scope) error {
			s.Go(untilCancelled)
			s.Cancel(errFirst)
			assert.Equal(t, errFirst, context.Cause(s.Context()))
			return nil
		}))
	})
	t.Run("told once", func(t *testing.T) {
		told := fmt.Errorf("told: %w", errSecond)
		assert.Equal(t, []error{errFirst, told}, leaves(run(func(s *scope.Scope) error {
			s.Cancel(errFirst)
			s.Cancel(errFirst)
			s.Cancel(told)
			s.Cancel(errSecond)
			return errFirst
		})))
	})
	t.Run("the first cause is the context's", func(t *testing.T) {
		assert.Equal(t, []error{errFirst, errSecond}, leaves(run(func(s *scope.Scope) error {
			s.Cancel(errFirst)
			s.Cancel(errSecond)
			assert.Equal(t, errFirst, context.Cause(s.Context()))
			return nil
		})))
	})
	t.Run("an echo is no failure", func(t *testing.T) {
		assert.Equal(t, errFirst, run(func(s *scope.Scope) error {
			s.Cancel(errFirst)
			s.Cancel(context.Canceled)
			return nil
		}))
	})
	t.Run("after the end it does nothing", func(t *testing.T) {
		var kept *scope.Scope
		require.NoError(t, run(func(s *scope.Scope) error { kept = s; return nil }))
		kept.Cancel(errFirst)
		assert.Equal(t, scope.ErrEnded, context.Cause(kept.Context()))
	})
}

func TestTheBodysPanicGoesUpAfterTheTasks(t *testing.T) {
	var cancelled, waited atomic.Bool
	ended := func() (v any, stack string) {
		defer func() {
			v = recover()
			buf := make([]byte, 1<<16)
			stack = string(buf[:runtime.Stack(buf, false)])
			assert.True(t, waited.Load(), "the tasks are over before the panic arrives")
		}()
		_ = scope.Run(t.Context(), func(s *scope.Scope) error {
			s.Go(func(ctx context.Context) error {
				<-ctx.Done()
				cancelled.Store(!errors.Is(context.Cause(ctx), context.Canceled))
				runtime.Gosched()
				waited.Store(true)
				return errFirst
			})
			return explode()
		})
		return nil, ""
	}
	v, stack := ended()
	assert.Equal(t, "the body is broken", v)
	assert.Contains(t, stack, "scope_test.explode(", "its own stack")
	assert.True(t, cancelled.Load())
}

//go:noinline
func explode() error { panic("the body is broken") }

func TestTheBodysGoexitWaitsForTheTasks(t *testing.T) {
	var waited bool
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { assert.True(t, waited) }()
		_ = scope.Run(context.Background(), func(s *scope.Scope) error {
			s.Go(func(ctx context.Context) error {
				<-ctx.Done()
				waited = true
				return nil
			})
			runtime.Goexit()
			return nil
		})
	})
	wg.Wait()
}

func TestATasksGoexitFailsTheScope(t *testing.T) {
	err := scope.Run(t.Context(), func(s *scope.Scope) error {
		s.Go(func(context.Context) error { runtime.Goexit(); return nil })
		return untilCancelled(s.Context())
	})
	assert.ErrorContains(t, err, "Goexit")
}

func TestTasksStartTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran atomic.Int32
		err := scope.Run(t.Context(), func(s *scope.Scope) error {
			var grow func(depth int) func(context.Context) error
			grow = func(depth int) func(context.Context) error {
				return func(context.Context) error {
					time.Sleep(time.Second) // the body has returned
					ran.Add(1)
					if depth > 0 {
						s.Go(grow(depth - 1))
						s.Go(grow(depth - 1))
					}
					return nil
				}
			}
			s.Go(grow(3))
			return nil
		})
		require.NoError(t, err)
		assert.EqualValues(t, 15, ran.Load())
	})
}

func TestATaskOfACancelledScopeRuns(t *testing.T) {
	ran := false
	require.NoError(t, scope.Run(t.Context(), func(s *scope.Scope) error {
		s.Cancel(nil)
		s.Go(func(ctx context.Context) error { ran = true; return ctx.Err() })
		return nil
	}))
	assert.True(t, ran)
}

func TestNothingStartsAfterTheEnd(t *testing.T) {
	var kept *scope.Scope
	err := scope.Run(t.Context(), func(s *scope.Scope) error { kept = s; return io.EOF })
	require.Equal(t, io.EOF, err)
	kept.Go(func(context.Context) error { t.Error("a task in a scope that is over"); return nil })
	err = kept.Start(func(context.Context, func()) error { t.Error("as above"); return nil })
	assert.ErrorIs(t, err, scope.ErrEnded)
	assert.ErrorIs(t, err, io.EOF, "and why")
}

// Goroutines outside of a scope may hold on to it and race with its end: each task either runs before Run returns, or
// not at all.
func TestStartingRacesWithTheEnd(t *testing.T) {
	for range 200 {
		var over atomic.Bool
		var ran, refused atomic.Int32
		var outside sync.WaitGroup
		require.NoError(t, scope.Run(t.Context(), func(s *scope.Scope) error {
			for range 4 {
				outside.Go(func() {
					for range 20 {
						err := s.Start(func(_ context.Context, started func()) error {
							assert.False(t, over.Load())
							ran.Add(1)
							started()
							return nil
						})
						if err != nil {
							assert.ErrorIs(t, err, scope.ErrEnded)
							refused.Add(1)
						}
						s.Go(func(context.Context) error { assert.False(t, over.Load()); return nil })
					}
				})
			}
			return nil
		}))
		over.Store(true)
		outside.Wait()
		require.EqualValues(t, 80, ran.Load()+refused.Load())
	}
}
