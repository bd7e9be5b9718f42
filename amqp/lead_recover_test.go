//go:build unix

package amqp_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// recalls are the ways to have the broker take back what is not settled.
var recalls = map[string]func(ctx context.Context, ch *amqp.Channel) error{
	"recover":       func(ctx context.Context, ch *amqp.Channel) error { return ch.Recover(ctx, true) },
	"recover-async": func(_ context.Context, ch *amqp.Channel) error { return ch.RecoverAsync(true) },
}

// A loop that reads has what it holds and what waits for it taken back, again and again: everything comes again, and is
// acknowledged once and in order.
func TestALoopThatReadsHasItsMessagesTakenBack(t *testing.T) {
	for name, recall := range recalls {
		t.Run(name, func(t *testing.T) {
			overTCP(t, func(ctx context.Context, w *world) {
				const n = 5000
				w.queue("q", n)
				var reads ledReads
				count := 0
				err := w.dense(ctx, &reads, func(_ *amqp.Conn, ch *amqp.Channel, c *amqp.Consumer) error {
					var before int64
					again := -1
					return w.ackInOrder(c, n, func(next int, env *amqp.Envelope) error {
						if again == next && name == "recover" { // when it has returned, nothing comes that it took back
							assert.True(w, env.Redelivered)
						}
						if led := reads.byLoop.Load(); led == before || again == next {
							return nil
						}
						before, again = reads.byLoop.Load(), next
						count++
						if err := recall(ctx, ch); err != nil {
							return err
						}
						require.ErrorIs(w, env.Ack(), amqp.ErrAlreadySettled)
						return nil
					})
				})
				require.NoError(w, err)
				assert.Greater(w, count, 3)
				assert.True(w, w.isDone("q"))
			})
		})
	}
}

// ackInOrder acknowledges "0", "1" and so on up to n. Before each it calls first, by which or beside which it may be taken
// back, so that it comes again.
func (w *world) ackInOrder(c *amqp.Consumer, n int, first func(next int, env *amqp.Envelope) error) error {
	next, recalled := 0, -1
	for body, env := range c.Messages() {
		if err := first(next, env); err != nil {
			return err
		}
		number, err := strconv.Atoi(string(body))
		require.NoError(w, err)
		err = env.Ack()
		if errors.Is(err, amqp.ErrAlreadySettled) {
			recalled = max(recalled, number)
			continue
		}
		if err != nil {
			return err
		}
		require.Equal(w, next, number)
		require.True(w, env.Redelivered || number > recalled)
		if next++; next == n {
			return nil
		}
	}
	return errors.Join(c.Err(), errors.New("the messages ended too early"))
}

// Beside a loop that reads and acknowledges, another goroutine has the broker take back what is not settled.
func TestMessagesAreTakenBackBesideALoopThatReads(t *testing.T) {
	for name, recall := range recalls {
		t.Run(name, func(t *testing.T) {
			overTCP(t, func(ctx context.Context, w *world) {
				const n = 10_000
				w.queue("q", n)
				var reads ledReads
				again := 0
				err := w.dense(ctx, &reads, func(_ *amqp.Conn, ch *amqp.Channel, c *amqp.Consumer) error {
					now := make(chan struct{}, 1)
					defer close(now)
					c.Go(func(ctx context.Context) error {
						for range now {
							if err := recall(ctx, ch); err != nil {
								return err
							}
						}
						return nil
					})
					return w.ackInOrder(c, n, func(next int, env *amqp.Envelope) error {
						if env.Redelivered {
							again++
						}
						if next%100 == 0 {
							select {
							case now <- struct{}{}:
							default:
							}
						}
						return nil
					})
				})
				require.NoError(w, err)
				assert.Positive(w, again)
				assert.Positive(w, reads.byLoop.Load())
				assert.True(w, w.isDone("q"))
			})
		})
	}
}

// While the loop is in a read it is the one who hears that nothing was to be taken back, and reads on.
func TestRecoverIsAnsweredWhileALoopReads(t *testing.T) {
	for name, recall := range recalls {
		t.Run(name, func(t *testing.T) {
			overTCP(t, func(ctx context.Context, w *world) {
				w.queue("q", 0)
				err := w.dense(ctx, new(ledReads), func(_ *amqp.Conn, ch *amqp.Channel, c *amqp.Consumer) error {
					c.Go(func(ctx context.Context) error {
						defer c.Stop()
						if err := w.untilItReads(ctx, c); err != nil {
							return err
						}
						if err := recall(ctx, ch); err != nil {
							return err
						}
						require.Eventually(w, c.IsReading, hanging, time.Millisecond)
						return w.burst(ctx, 100)
					})
					for _, env := range c.Messages() {
						if err := env.Ack(); err != nil && !errors.Is(err, amqp.ErrAlreadySettled) {
							return err // what came before the answer comes again
						}
					}
					return c.Err()
				})
				require.NoError(w, err)
			})
		})
	}
}
