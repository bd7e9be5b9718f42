//go:build unix

package amqp_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// A loop inside of a transaction reads what it acknowledges there. With a commit that is gone, and with a rollback it can
// be acknowledged again.
func TestALoopReadsInsideOfATransaction(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		const n, each = 2000, 20 // as many as the prefetch: no more come before the commit
		w.queue("q", 0)
		var reads ledReads
		led := map[error]int{}
		err := w.dense(ctx, &reads, func(_ *amqp.Conn, ch *amqp.Channel, c *amqp.Consumer) error {
			c.Go(func(ctx context.Context) error { return w.oneByOne(ctx, n) })
			for i := range n / each {
				outcome := []error{nil, errBroken}[i%2]
				before := reads.byLoop.Load()
				var taken []*amqp.Envelope
				require.ErrorIs(w, ch.WithTx(ctx, func() error {
					for _, env := range c.Messages() {
						require.NoError(w, env.Ack())
						if taken = append(taken, env); len(taken) == each {
							return outcome
						}
					}
					return c.Err()
				}), outcome)
				if reads.byLoop.Load() > before {
					led[outcome]++
				}
				if outcome != nil {
					require.Equal(w, each, w.state("q").Unacked, "the broker has them")
					require.NoError(w, ch.WithTx(ctx, func() error { return ackAll(taken) }), "they are not settled")
				}
			}
			return nil
		})
		require.NoError(w, err)
		assert.True(w, w.isDone("q"))
		assert.Positive(w, led[nil])
		assert.Positive(w, led[errBroken])
	})
}

// oneByOne publishes to queue "q", each message when the broker has the one before.
func (w *world) oneByOne(ctx context.Context, n int) error {
	return amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		for range n {
			if err := ch.Publish(ctx, "", "q", amqp.Message{}); err != nil {
				return err
			}
		}
		return nil
	})
}

func ackAll(all []*amqp.Envelope) (err error) {
	for _, env := range all {
		err = errors.Join(err, env.Ack())
	}
	return err
}

// A transaction that another goroutine ends while the loop is in a read: the loop reads the answer, and reads on.
func TestATransactionIsEndedWhileALoopReads(t *testing.T) {
	for name, outcome := range map[string]error{"commit": nil, "rollback": errBroken} {
		t.Run(name, func(t *testing.T) {
			overTCP(t, func(ctx context.Context, w *world) {
				w.queue("q", 0)
				err := w.dense(ctx, new(ledReads), func(_ *amqp.Conn, ch *amqp.Channel, c *amqp.Consumer) error {
					taken := make(chan *amqp.Envelope)
					c.Go(func(ctx context.Context) error {
						defer c.Stop()
						for led := false; !led; {
							var all []*amqp.Envelope
							err := ch.WithTx(ctx, func() (err error) {
								all, err = w.prefetched(ctx, taken)
								led = comesToRead(c)
								return errors.Join(err, outcome)
							})
							require.ErrorIs(w, err, outcome)
							if led {
								require.Eventually(w, c.IsReading, hanging, time.Millisecond, "the loop has read the answer, and reads on")
							}
							if outcome != nil {
								require.Equal(w, len(all), w.state("q").Unacked)
								require.NoError(w, ch.WithTx(ctx, func() error { return ackAll(all) }), "they are not settled")
							}
							require.True(w, w.isDone("q"))
						}
						return nil
					})
					for _, env := range c.Messages() {
						if err := env.Ack(); err != nil {
							return err
						}
						taken <- env
					}
					return c.Err()
				})
				require.NoError(w, err)
			})
		})
	}
}

// prefetched publishes as many messages as the prefetch to queue "q", and collects what the loop has taken.
func (w *world) prefetched(ctx context.Context, taken <-chan *amqp.Envelope) (all []*amqp.Envelope, err error) {
	err = amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error { return fill(ch, "q", 0, 20) })
	for err == nil && len(all) < 20 {
		select {
		case env := <-taken:
			all = append(all, env)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	return all, err
}
