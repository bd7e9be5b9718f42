//go:build unix

package amqp_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// besideIdle starts a consumer on a channel of its own, and runs body when the loop over c is in a read.
func (w *world) besideIdle(ctx context.Context, conn *amqp.Conn, c *amqp.Consumer, idle amqp.Consume, body func(idle *amqp.Consumer) error) error {
	return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, idle, func(idle *amqp.Consumer) error {
			if err := w.untilItReads(ctx, c); err != nil {
				return err
			}
			return body(idle)
		})
	})
}

// What a loop reads may be for a consumer that takes nothing. When that has as much as it may, the loop leaves it to the
// reader to wait, and calls are answered all the same; then it reads again.
func TestAnIdleConsumerHoldsBackALoopThatReads(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		const n, size = 8000, 4 << 10
		w.queue("q", 0)
		w.queue("idle", 0)
		err := w.dense(ctx, new(ledReads), func(conn *amqp.Conn, _ *amqp.Channel, c *amqp.Consumer) error {
			conn.Go(func(ctx context.Context) error {
				defer c.Stop()
				return w.besideIdle(ctx, conn, c, amqp.Consume{Queue: "idle", NoAck: true}, func(idle *amqp.Consumer) error {
					w.flood("idle", n, size)
					require.Eventually(w, conn.IsHeldBack, hanging, time.Millisecond)
					_, err := conn.QueueStatus(ctx, "q")
					require.NoError(w, err)
					require.Eventually(w, conn.IsHeldBack, hanging, time.Millisecond)
					taken := 0
					for range idle.Messages() {
						if taken++; taken == n {
							break
						}
					}
					return w.untilItReads(ctx, c)
				})
			})
			return acknowledge(c)
		})
		require.NoError(w, err)
	})
}

// With a prefetch an idle consumer has no more than that, and the loop reads on.
func TestALoopReadsOnBesideAnIdleConsumerWithAPrefetch(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		w.queue("q", 0)
		w.queue("idle", 0)
		err := w.dense(ctx, new(ledReads), func(conn *amqp.Conn, _ *amqp.Channel, c *amqp.Consumer) error {
			conn.Go(func(ctx context.Context) error {
				defer c.Stop()
				return w.besideIdle(ctx, conn, c, amqp.Consume{Queue: "idle", Prefetch: 50}, func(*amqp.Consumer) error {
					before := conn.Stats().Delivered
					w.flood("idle", 1000, 100)
					require.Eventually(w, func() bool { return conn.Stats().Delivered == before+50 }, hanging, time.Millisecond)
					if err := w.untilItReads(ctx, c); err != nil {
						return err
					}
					require.Equal(w, 50, conn.Stats().Unsettled)
					return w.burst(ctx, 100)
				})
			})
			return acknowledge(c)
		})
		require.NoError(w, err)
		assert.Equal(w, 1000, w.state("idle").Ready, "its messages went back")
	})
}

// While a call waits for its answer, which may be behind the messages, the loop reads on for a consumer that takes
// nothing, up to the bound.
func TestALoopThatReadsMeetsASlowConsumer(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		w.queue("q", 0)
		w.queue("idle", 0)
		var reads ledReads
		err := w.dense(ctx, &reads, func(conn *amqp.Conn, ch *amqp.Channel, c *amqp.Consumer) error {
			conn.SetUnreadBound(10_000)
			conn.Go(func(ctx context.Context) error {
				return w.besideIdle(ctx, conn, c, amqp.Consume{Queue: "idle", NoAck: true}, func(*amqp.Consumer) error {
					defer w.lose("queue.delete")()
					conn.Go(func(ctx context.Context) error {
						_, err := ch.QueueDelete(ctx, amqp.QueueDelete{Name: "unanswered"})
						return err
					})
					require.Eventually(w, func() bool { return conn.Stats().Waiting == 1 }, hanging, time.Millisecond)
					require.True(w, c.IsReading())
					before := reads.byReader.Load()
					for range 1000 {
						if conn.Context().Err() != nil {
							break
						}
						w.flood("idle", 1, 100)
					}
					<-conn.Context().Done()
					assert.Equal(w, before, reads.byReader.Load(), "it was the loop that read")
					return nil
				})
			})
			return acknowledge(c)
		})
		require.ErrorIs(w, err, amqp.ErrSlowConsumer)
		require.ErrorIs(w, err, amqp.ErrConnectionClosed)
	})
}
