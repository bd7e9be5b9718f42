package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

func TestRecoverRedelivers(t *testing.T) {
	recoveries := map[string]func(ctx context.Context, ch *amqp.Channel) error{
		"recover":       func(ctx context.Context, ch *amqp.Channel) error { return ch.Recover(ctx, true) },
		"recover-async": func(_ context.Context, ch *amqp.Channel) error { return ch.RecoverAsync(true) },
	}
	for name, recover := range recoveries {
		t.Run(name, func(t *testing.T) {
			onAQueue(t, 3, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
				all := take(t, ctx, ch, q, 3)
				require.NoError(t, all[1].Ack())
				require.NoError(t, recover(ctx, ch))
				for _, want := range []string{"0", "2"} {
					text, env := await(t, ctx, ch, q)
					assert.Equal(t, want, text)
					assert.True(t, env.Redelivered)
					require.NoError(t, env.Ack())
				}
				requireEmpty(t, ctx, ch, q)
				require.Error(t, all[0].Ack(), "that delivery was taken back")
				newQueue(t, ctx, ch, nil)
			})
		})
	}
}

func TestRecoverInAConsumer(t *testing.T) {
	onAQueue(t, 4, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
		require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q, Prefetch: 2}, func(c *amqp.Consumer) error {
			n := 0
			for range c.Messages() {
				if n++; n == 2 {
					break
				}
			}
			require.NoError(t, ch.Recover(ctx, true))
			n = 0
			for body, env := range c.Messages() {
				require.Equal(t, fmt.Sprint(n), string(body))
				require.NoError(t, env.Ack())
				if n++; n == 4 {
					break
				}
			}
			return nil
		}))
		requireEmpty(t, ctx, ch, q)
	})
}

// What waits in a no-ack consumer was settled when it was sent: it does not come
// again, and stays.
func TestRecoverLeavesNoAckMessages(t *testing.T) {
	ranges := map[string]func(c *amqp.Consumer, take func(body []byte)){
		"messages": func(c *amqp.Consumer, take func([]byte)) {
			for body := range c.Messages() {
				take(body)
			}
		},
		"batches": func(c *amqp.Consumer, take func([]byte)) {
			for batch := range c.Batches(10, time.Millisecond) {
				for body := range batch.All() {
					take(body)
				}
			}
		},
	}
	for name, all := range ranges {
		t.Run(name, func(t *testing.T) {
			onAQueue(t, 10, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
				require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q, NoAck: true}, func(c *amqp.Consumer) error {
					requireCount(t, ctx, conn, q, 0) // they are on their way, before the answer to what follows
					require.NoError(t, ch.Recover(ctx, true))
					require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Body: []byte("last")}))
					var got []string
					all(c, func(body []byte) {
						if got = append(got, string(body)); string(body) == "last" {
							c.Stop()
						}
					})
					assert.Equal(t, append(texts(10), "last"), got)
					return nil
				}))
			})
		})
	}
}

func TestRecoverWithoutRequeue(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				requireException(t, ch.Recover(ctx, false), amqp.NotImplemented, "requeue=false")
			}))
		})
	})
}
