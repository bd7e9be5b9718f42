package integration

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

func TestQosPerConsumer(t *testing.T) {
	onAQueue(t, 20, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
		require.NoError(t, ch.Qos(ctx, amqp.Qos{PrefetchCount: 4}))
		require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(*amqp.Consumer) error {
			requireCount(t, ctx, conn, q, 16)
			return ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(*amqp.Consumer) error {
				requireCount(t, ctx, conn, q, 12)
				return nil
			})
		}))
		requireCount(t, ctx, conn, q, 20)
	})
}

func TestQosForTheChannel(t *testing.T) {
	onAQueue(t, 20, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
		if since(t, conn, 4, 3) {
			t.Skip("SKIPPED: the broker takes it for that of a consumer, which another test is about")
		}
		require.NoError(t, ch.Qos(ctx, amqp.Qos{PrefetchCount: 4, Global: true}))
		require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(c *amqp.Consumer) error {
			return ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(*amqp.Consumer) error {
				requireCount(t, ctx, conn, q, 16)
				require.NoError(t, ch.Qos(ctx, amqp.Qos{PrefetchCount: 7, Global: true}), "raised while it is used up")
				requireCount(t, ctx, conn, q, 13)
				return nil
			})
		}))
	})
}

func TestQosConsumeOverridesIt(t *testing.T) {
	onAQueue(t, 20, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
		require.NoError(t, ch.Qos(ctx, amqp.Qos{PrefetchCount: 4}))
		require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q, Prefetch: 6}, func(*amqp.Consumer) error {
			requireCount(t, ctx, conn, q, 14)
			return nil
		}))
		require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(*amqp.Consumer) error {
			requireCount(t, ctx, conn, q, 16)
			return nil
		}))
	})
}

func TestQosDoesNotHoldNoAckBack(t *testing.T) {
	onAQueue(t, 20, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
		require.NoError(t, ch.Qos(ctx, amqp.Qos{PrefetchCount: 1}))
		n := 0
		require.NoError(t, consume(ctx, ch, amqp.Consume{Queue: q, NoAck: true}, 20, func(int, []byte, *amqp.Envelope) error {
			n++
			return nil
		}))
		assert.Equal(t, 20, n)
	})
}

func TestQosFairness(t *testing.T) {
	onAQueue(t, 0, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
		require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q, Prefetch: 3}, func(one *amqp.Consumer) error {
			return ch.WithConsumer(ctx, amqp.Consume{Queue: q, Prefetch: 3}, func(two *amqp.Consumer) error {
				send(t, ctx, ch, q, texts(10)...)
				requireCount(t, ctx, conn, q, 4)
				for _, c := range []*amqp.Consumer{one, two} {
					n := 0
					for _, env := range c.Messages() {
						assert.Equal(t, c.Tag(), env.ConsumerTag)
						if n++; n == 3 {
							break
						}
					}
				}
				return nil
			})
		}))
	})
}

func TestQosThatMakesNoSense(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			require.Error(t, ch.Qos(ctx, amqp.Qos{PrefetchCount: -1}))
			require.Error(t, ch.Qos(ctx, amqp.Qos{PrefetchCount: 65536}))
			require.Error(t, ch.Qos(ctx, amqp.Qos{PrefetchSize: -1}))
			require.NoError(t, ch.Qos(ctx, amqp.Qos{PrefetchCount: 65535}))
			require.NoError(t, ch.Qos(ctx, amqp.Qos{}))
		})
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				err := ch.Qos(ctx, amqp.Qos{PrefetchSize: 1000})
				requireException(t, err, amqp.NotImplemented, "prefetch_size")
			}))
		})
	})
}

func TestFlow(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				require.NoError(t, ch.Flow(ctx, true))
				requireException(t, ch.Flow(ctx, false), amqp.NotImplemented, "active=false")
			}))
		})
	})
}
