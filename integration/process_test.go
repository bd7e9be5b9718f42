package integration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

func TestProcess(t *testing.T) {
	const messages = 100
	onAQueue(t, messages, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
		var mu sync.Mutex
		seen := map[string]int{}
		require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q, Prefetch: 20}, func(c *amqp.Consumer) error {
			return c.Process(8, func(_ context.Context, body []byte, env *amqp.Envelope) error {
				mu.Lock()
				defer mu.Unlock()
				seen[string(body)]++
				if len(seen) == messages {
					c.Stop()
				}
				return nil
			})
		}))
		assert.Len(t, seen, messages)
		for text, n := range seen {
			assert.Equal(t, 1, n, text)
		}
		requireEmpty(t, ctx, ch, q)
	})
}

func TestProcessSettlesByOutcome(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q, dead := withDeadLetters(t, ctx, ch, nil)
			send(t, ctx, ch, q, "ok", "retry", "drop")
			require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(c *amqp.Consumer) error {
				return c.Process(1, func(_ context.Context, body []byte, env *amqp.Envelope) error {
					switch {
					case string(body) == "drop":
						return fmt.Errorf("not that: %w", amqp.Drop)
					case string(body) == "retry" && !env.Redelivered:
						return errors.New("once more")
					case env.Redelivered:
						c.Stop()
					}
					return nil
				})
			}))
			requireEmpty(t, ctx, ch, q)
			text, env := await(t, ctx, ch, dead)
			assert.Equal(t, "drop", text)
			assert.Equal(t, "rejected", env.Properties.Headers["x-first-death-reason"])
			requireEmpty(t, ctx, ch, dead)
		})
	})
}

// A cancelled handler's message goes back to the queue.
func TestProcessCancelled(t *testing.T) {
	onAQueue(t, 10, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
		enough := errors.New("enough")
		cancelled, cancel := context.WithCancelCause(ctx)
		err := ch.WithConsumer(cancelled, amqp.Consume{Queue: q}, func(c *amqp.Consumer) error {
			return c.Process(3, func(ctx context.Context, _ []byte, _ *amqp.Envelope) error {
				cancel(enough)
				<-ctx.Done()
				return context.Cause(ctx)
			})
		})
		require.ErrorIs(t, err, enough)
		requireCount(t, ctx, conn, q, 10)
	})
}

func TestBatches(t *testing.T) {
	const messages = 95
	onAQueue(t, messages, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
		require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(c *amqp.Consumer) error {
			i := 0
			for batch := range c.Batches(10, 50*time.Millisecond) {
				assert.LessOrEqual(t, batch.Len(), 10)
				for body := range batch.All() {
					require.Equal(t, fmt.Sprint(i), string(body))
					i++
				}
				require.NoError(t, batch.Ack())
				require.ErrorIs(t, batch.Ack(), amqp.ErrAlreadySettled)
				if i == messages {
					break
				}
			}
			return nil
		}))
		requireEmpty(t, ctx, ch, q)
	})
}

func TestBatchesGivenBack(t *testing.T) {
	onAQueue(t, 10, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
		require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q, Prefetch: 4}, func(c *amqp.Consumer) error {
			for batch := range c.Batches(100, time.Minute) {
				assert.Equal(t, 4, batch.Len(), "no more than the prefetch can be had")
				for _, env := range batch.All() {
					require.NoError(t, env.Ack())
					break
				}
				require.NoError(t, batch.Nack(true), "those that are left")
				break
			}
			return nil
		}))
		requireCount(t, ctx, conn, q, 9)
	})
}

// How often a message failed is in a header that a quorum queue adds.
func TestQuorumQueueCountsAttempts(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			arguments := amqp.QueueArguments{Type: amqp.QuorumQueue}.Table()
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "counting", Durable: true, Arguments: arguments})
			require.NoError(t, err)
			for range 2 {
				require.NoError(t, ch.Publish(ctx, "", "counting", amqp.Message{}))
			}
			_, env := await(t, ctx, ch, "counting")
			if b.since(t, 4, 0) {
				assert.NotContains(t, env.Properties.Headers, "x-delivery-count")
			} else {
				assert.Equal(t, int64(0), env.Properties.Headers["x-delivery-count"], "got")
			}
			var counts []any
			require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: "counting"}, func(c *amqp.Consumer) error {
				return c.Process(1, func(_ context.Context, _ []byte, env *amqp.Envelope) error {
					counts = append(counts, env.Properties.Headers["x-delivery-count"])
					if len(counts) < 3 {
						return errors.New("not yet")
					}
					c.Stop()
					return nil
				})
			}))
			assert.Equal(t, []any{nil, int64(1), int64(2)}, counts)
		})
	})
}
