package scope

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// nest opens a scope in each of the others, the innermost last, with the contexts that callers says, and calls body in
// the innermost. callers are given the scopes so far.
func nest(scopes []*Handle, callers []func([]*Handle) context.Context, body func([]*Handle) error) error {
	if len(callers) == 0 {
		return body(scopes)
	}
	var outer *Scope
	if len(scopes) > 0 {
		outer = scopes[len(scopes)-1].Scope()
	}
	h := Open(callers[0](scopes), outer)
	err, _ := h.Run(func() error { return nest(append(scopes, h), callers[1:], body) })
	return err
}

// Whatever the callers' contexts are, the end of a scope or of a caller ends all that is inside, with its cause, and
// they hear of it.
func TestTheEndIsHeardInside(t *testing.T) {
	end := errors.New("the end")
	type key struct{}
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			roots := make([]context.Context, 3)
			cancels := make([]context.CancelCauseFunc, 3)
			for i := range roots {
				roots[i], cancels[i] = context.WithCancelCause(t.Context()) //nolint:fatcontext // each is apart from the others
				defer cancels[i](nil)
			}
			depth := 2 + rnd.IntN(4)
			callers := make([]func([]*Handle) context.Context, depth)
			under := make([]map[int]bool, depth) // the roots that end a scope
			for i := range callers {
				callers[i] = func(open []*Handle) context.Context {
					under[i] = map[int]bool{}
					for _, o := range under[:i] {
						for r := range o {
							under[i][r] = true
						}
					}
					var ctx context.Context
					switch n := rnd.IntN(5); {
					case n < 3:
						under[i][n] = true
						ctx = roots[n]
					case n == 3 && len(open) > 0:
						ctx = open[rnd.IntN(len(open))].Scope().Context()
					default:
						ctx = t.Context() // which ends later
					}
					if rnd.IntN(4) == 0 {
						ctx = context.WithValue(ctx, key{}, 1)
					}
					return ctx
				}
			}
			_ = nest(nil, callers, func(open []*Handle) error {
				heard := make([]atomic.Int32, depth)
				for i, h := range open {
					if rnd.IntN(2) == 0 {
						heard[i].Store(-1) // it does not want to
						continue
					}
					h.OnEnd(func() { heard[i].Add(1) })
				}
				ended := make([]bool, depth)
				if victim := rnd.IntN(depth + len(roots)); victim < depth {
					open[victim].Interrupt(end)
					for i := victim; i < depth; i++ {
						ended[i] = true
					}
				} else {
					cancels[victim-depth](end)
					for i := range open {
						ended[i] = under[i][victim-depth]
					}
				}
				synctest.Wait()
				for i, h := range open {
					if !ended[i] {
						require.NoError(t, h.Scope().Context().Err(), "seed %d: %d of %d", seed, i, depth)
						require.LessOrEqual(t, heard[i].Load(), int32(0))
						continue
					}
					require.Equal(t, end, context.Cause(h.Scope().Context()), "seed %d: %d of %d", seed, i, depth)
					require.NotZero(t, heard[i].Load(), "seed %d: %d of %d", seed, i, depth)
					require.LessOrEqual(t, heard[i].Load(), int32(1))
				}
				return nil
			})
		})
	}
}

// Scopes come and go in one that ends meanwhile: each of them ends, and none is kept.
func TestScopesComeAndGoInOneThatEnds(t *testing.T) {
	for round := range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		outer := Open(ctx, nil)
		middle := Open(ctx, outer.Scope())
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				for j := 0; ; j++ {
					callers := [3]context.Context{ctx, t.Context(), middle.Scope().Context()}
					h := Open(callers[(i+j)%3], middle.Scope())
					var told atomic.Bool
					if j%2 == 0 {
						h.OnEnd(func() { told.Store(true) })
					}
					over := false
					_, _ = h.Run(func() error {
						if j > 20 {
							<-h.Scope().Context().Done()
							over = true
						}
						return nil
					})
					if over {
						return
					}
				}
			})
		}
		switch round % 3 {
		case 0:
			cancel()
		case 1:
			outer.Interrupt(context.Canceled)
		case 2:
			middle.Scope().Cancel(nil)
		}
		all.Wait()
		assert.Nil(t, middle.scope.inner.first)
		_, _ = middle.Run(func() error { return nil })
		assert.Nil(t, outer.scope.inner.first)
		_, _ = outer.Run(func() error { return nil })
		cancel()
	}
}

// A scope that is opened in one that has returned is over from the start.
func TestAScopeInOneThatHasReturned(t *testing.T) {
	outer := Open(t.Context(), nil)
	_, _ = outer.Run(func() error { return nil })
	inner := Open(t.Context(), outer.Scope())
	_, _ = inner.Run(func() error {
		assert.Equal(t, ErrEnded, context.Cause(inner.Scope().Context()))
		return nil
	})
}

func TestOnEndIsForAnEarlyEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			body func(*Handle) error
			told bool
		}{
			"a body that returns": {func(*Handle) error { return nil }, false},
			"a body that cancels": {func(h *Handle) error { h.Scope().Cancel(nil); return nil }, true},
			"a task that fails": {func(h *Handle) error {
				h.Scope().Go(func(context.Context) error { return errors.New("failed") })
				<-h.Scope().Context().Done()
				return nil
			}, true},
		} {
			var told atomic.Bool
			h := Open(t.Context(), nil)
			h.OnEnd(func() { told.Store(true) })
			_, _ = h.Run(func() error { return c.body(h) }) // which waits for what OnEnd has called
			assert.Equal(t, c.told, told.Load(), name)
		}
	})
}

// What is asked for when the context has ended already is done at once.
func TestOnEndAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outer := Open(t.Context(), nil)
		_, _ = outer.Run(func() error {
			outer.Interrupt(errors.New("the end"))
			var told atomic.Int32
			inner := Open(context.Background(), outer.Scope())
			inner.OnEnd(func() { told.Add(1) })
			inner.Overdue(time.Second, func(bool, int) bool { told.Add(1); return true })
			_, _ = inner.Run(func() error { time.Sleep(time.Minute); return nil })
			assert.EqualValues(t, 2, told.Load())
			return nil
		})
	})
}
