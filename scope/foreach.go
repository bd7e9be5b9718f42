package scope

import (
	"context"
	"fmt"
	"iter"
)

// ForEach calls fn for every pair of seq, on up to workers goroutines at a time, and returns when all have returned.
//
// The sequence runs on the caller's goroutine, and a pair is pulled only when a worker is free for it, so that every
// pair that was pulled is given to fn. The first error cancels fn's ctx and stops the pulling; all errors are joined as
// in [Run], which also says what happens when ctx is cancelled. Fewer than one worker is an error.
//
// ForEach cannot interrupt a sequence that waits. That must end by itself when ctx does; and when fn fails, which ends
// only fn's ctx, ForEach returns no sooner than the next pair has come or the sequence has ended. For the messages of
// package amqp's Consumer this may be never: use its Process for them.
func ForEach[K, V any](ctx context.Context, workers int, seq iter.Seq2[K, V], fn func(ctx context.Context, k K, v V) error) error {
	if workers < 1 {
		return fmt.Errorf("scope: ForEach needs at least one worker, got %d", workers)
	}
	return Run(ctx, func(s *Scope) error {
		c := crew[K, V]{scope: s, fn: fn, busy: make(chan struct{}, workers), work: make(chan pair[K, V])}
		defer close(c.work)
		if !c.reserve() {
			return nil
		}
		for k, v := range seq {
			c.give(pair[K, V]{k, v})
			if !c.reserve() {
				return nil
			}
		}
		return nil
	})
}

type pair[K, V any] struct {
	key K
	val V
}

// crew is the workers of one ForEach. They are hired when all others are busy.
type crew[K, V any] struct {
	scope *Scope
	fn    func(ctx context.Context, k K, v V) error
	hired int
	busy  chan struct{} // holds one token for each worker that has a pair or is about to be given one
	work  chan pair[K, V]
}

// reserve waits for a free worker. It reports false when the scope has been cancelled.
func (c *crew[K, V]) reserve() bool {
	ctx := c.scope.ctx
	select {
	case c.busy <- struct{}{}:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// give hands p to the worker that was reserved.
func (c *crew[K, V]) give(p pair[K, V]) {
	select {
	case c.work <- p:
		return
	default:
	}
	if c.hired < cap(c.busy) {
		c.hired++
		c.scope.Go(func(ctx context.Context) error { return c.labour(ctx, p) })
		return
	}
	c.work <- p // the reserved worker is on its way back to the channel
}

// labour handles p and all that comes after. A worker that fails keeps its token: nobody can be given its place.
func (c *crew[K, V]) labour(ctx context.Context, p pair[K, V]) error {
	for ok := true; ok; p, ok = <-c.work {
		if err := c.fn(ctx, p.key, p.val); err != nil {
			return err
		}
		<-c.busy
	}
	return nil
}
