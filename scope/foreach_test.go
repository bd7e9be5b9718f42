package scope_test

import (
	"context"
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/scope"
)

// numbers counts from 0 to n-1, and how many were pulled.
func numbers(n int, pulled *atomic.Int32) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		for i := range n {
			pulled.Add(1)
			if !yield(i, "item") {
				return
			}
		}
	}
}

func TestForEachCallsForEveryPairOnce(t *testing.T) {
	for _, workers := range []int{1, 3, 1000, 1 << 30} {
		var mu sync.Mutex
		var got []int
		var pulled atomic.Int32
		require.NoError(t, scope.ForEach(t.Context(), workers, numbers(500, &pulled), func(_ context.Context, k int, v string) error {
			assert.Equal(t, "item", v)
			mu.Lock()
			defer mu.Unlock()
			got = append(got, k)
			return nil
		}))
		slices.Sort(got)
		require.Len(t, got, 500)
		require.Len(t, slices.Compact(got), 500)
	}
}

func TestForEachRunsAtMostItsWorkersAndPullsNothingAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pulled atomic.Int32
		var running, most atomic.Int32
		begin := time.Now()
		done := make(chan error)
		go func() {
			done <- scope.ForEach(t.Context(), 4, numbers(12, &pulled), func(context.Context, int, string) error {
				raise(&most, running.Add(1))
				defer running.Add(-1)
				time.Sleep(time.Second)
				return nil
			})
		}()
		synctest.Wait()
		assert.EqualValues(t, 4, pulled.Load(), "a pair is pulled when a worker is free for it")
		require.NoError(t, <-done)
		assert.EqualValues(t, 4, most.Load())
		assert.Equal(t, 3*time.Second, time.Since(begin), "they work at the same time")
	})
}

// raise makes n the most if it is. Others may do the same meanwhile.
func raise(most *atomic.Int32, n int32) {
	for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
	}
}

func TestForEachRefusesToWorkWithoutWorkers(t *testing.T) {
	var pulled atomic.Int32
	for _, workers := range []int{0, -1} {
		err := scope.ForEach(t.Context(), workers, numbers(3, &pulled), func(context.Context, int, string) error { return nil })
		assert.ErrorContains(t, err, "at least one worker")
	}
	assert.Zero(t, pulled.Load())
}

func TestForEachStopsAtTheFirstErrorAndJoinsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pulled atomic.Int32
		var calls atomic.Int32
		err := scope.ForEach(t.Context(), 3, numbers(100, &pulled), func(ctx context.Context, k int, _ string) error {
			calls.Add(1)
			switch k {
			case 0:
				time.Sleep(time.Second)
				return errFirst
			case 1:
				<-ctx.Done()
				assert.Equal(t, errFirst, context.Cause(ctx))
				time.Sleep(time.Second)
				return errSecond
			default:
				return untilCancelled(ctx)
			}
		})
		assert.Equal(t, []error{errFirst, errSecond}, leaves(err))
		assert.EqualValues(t, 3, pulled.Load())
		assert.EqualValues(t, 3, calls.Load())
	})
}

func TestForEachStopsAtTheCallersCancellation(t *testing.T) {
	for range 20 { // a free worker and the cancellation come at the same time, and chance must not choose
		ctx, cancel := context.WithCancelCause(t.Context())
		var pulled atomic.Int32
		var calls int
		err := scope.ForEach(ctx, 1, numbers(100, &pulled), func(_ context.Context, k int, _ string) error {
			if calls++; k == 4 {
				cancel(errCaller)
			}
			return nil
		})
		assert.Equal(t, errCaller, err, "although every call went well")
		assert.EqualValues(t, 5, pulled.Load())
		assert.Equal(t, 5, calls)

		err = scope.ForEach(ctx, 1, numbers(100, &pulled), func(context.Context, int, string) error { calls++; return nil })
		assert.Equal(t, errCaller, err)
		assert.EqualValues(t, 5, pulled.Load(), "nothing is pulled in vain")
	}
}

func TestForEachGivesAwayWhatItPulled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var got []int
	late := func(yield func(int, int) bool) { // as a queue that has just handed out a message
		cancel()
		assert.False(t, yield(7, 7))
	}
	err := scope.ForEach(ctx, 1, late, func(ctx context.Context, k, _ int) error {
		assert.Error(t, ctx.Err())
		got = append(got, k)
		return nil
	})
	assert.Equal(t, context.Canceled, err)
	assert.Equal(t, []int{7}, got)
}

// What the doc comment warns of.
func TestForEachWaitsForASequenceThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		slow := func(yield func(int, int) bool) {
			for yield(0, 0) {
				time.Sleep(time.Hour)
			}
		}
		var calls atomic.Int32
		err := scope.ForEach(t.Context(), 2, slow, func(context.Context, int, int) error {
			synctest.Wait() // the next pair is waited for
			calls.Add(1)
			return errFirst
		})
		assert.Equal(t, errFirst, err)
		assert.EqualValues(t, 2, calls.Load(), "what was pulled is given to fn")
		assert.Equal(t, time.Hour, time.Since(begin))
	})
}

func TestForEachEndsTheSequenceBeforeItReturns(t *testing.T) {
	ended := false
	err := scope.ForEach(t.Context(), 2, func(yield func(int, int) bool) {
		defer func() { ended = true }()
		for yield(0, 0) {
		}
	}, func(context.Context, int, int) error { return errFirst })
	assert.ErrorIs(t, err, errFirst)
	assert.True(t, ended)
}

func TestForEachLetsTheSequencesPanicThrough(t *testing.T) {
	var waited atomic.Bool
	assert.PanicsWithValue(t, "the body is broken", func() {
		_ = scope.ForEach(t.Context(), 2, func(yield func(int, int) bool) {
			yield(0, 0)
			_ = explode()
		}, func(ctx context.Context, _, _ int) error {
			<-ctx.Done()
			waited.Store(true)
			return nil
		})
	})
	assert.True(t, waited.Load())
}

func TestAWorkersGoexitEndsForEach(t *testing.T) {
	var pulled atomic.Int32
	err := scope.ForEach(t.Context(), 1, numbers(5, &pulled), func(context.Context, int, string) error { runtime.Goexit(); return nil })
	assert.ErrorContains(t, err, "Goexit")
	assert.EqualValues(t, 1, pulled.Load())
}

func TestForEachUnderStress(t *testing.T) {
	for n := range 100 {
		var pulled atomic.Int32
		var calls atomic.Int32
		err := scope.ForEach(t.Context(), 1+n%7, numbers(200, &pulled), func(_ context.Context, k int, _ string) error {
			calls.Add(1)
			if k == n {
				return errFirst
			}
			return nil
		})
		require.ErrorIs(t, err, errFirst)
		require.Equal(t, pulled.Load(), calls.Load())
	}
}
