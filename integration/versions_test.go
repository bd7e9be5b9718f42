package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// since tells whether the broker is RabbitMQ of a version or a later one, or imitates it.
func (b broker) since(t *testing.T, major, minor int) (is bool) {
	t.Helper()
	b.connection(t, func(_ context.Context, conn *amqp.Conn) { is = since(t, conn, major, minor) })
	return is
}

func since(t *testing.T, conn *amqp.Conn, major, minor int) bool {
	t.Helper()
	var version [2]int
	_, err := fmt.Sscanf(fmt.Sprint(conn.ServerProperties()["version"]), "%d.%d", &version[0], &version[1])
	require.NoError(t, err)
	return version[0] > major || version[0] == major && version[1] >= minor
}

// eachSince43 runs a test of what is new in RabbitMQ 4.3 against both brokers.
func eachSince43(t *testing.T, test func(t *testing.T, b broker)) {
	t.Helper()
	t.Run("amqptest", func(t *testing.T) {
		t.Parallel()
		box := amqptest.NewBroker(amqptest.WithVersion(amqptest.V43))
		t.Cleanup(box.Close)
		test(t, broker{uri: box.URI(), vhost: "/", box: box})
	})
	onRabbitMQ(t, func(t *testing.T, b broker) {
		if !b.since(t, 4, 3) {
			t.Skip("SKIPPED: this RabbitMQ is older than 4.3, see task test:rabbitmq")
		}
		test(t, b)
	})
}

func TestSince43GlobalQosIsThatOfTheConsumersToCome(t *testing.T) {
	eachSince43(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				send(t, ctx, ch, q, texts(20)...)
				requireCount(t, ctx, conn, q, 20)
				require.NoError(t, ch.Qos(ctx, amqp.Qos{PrefetchCount: 4, Global: true}))
				require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(*amqp.Consumer) error {
					requireCount(t, ctx, conn, q, 16)
					return ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(*amqp.Consumer) error {
						requireCount(t, ctx, conn, q, 12)
						return nil
					})
				}))
			}))
		})
	})
}

// The broker keeps a consumer that has timed out, with its tag, until it hears from the client.
func TestSince43ATimeoutEndsTheConsumerAlone(t *testing.T) {
	eachSince43(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			arguments := amqp.QueueArguments{Type: amqp.QuorumQueue, ConsumerTimeout: 300 * time.Millisecond}.Table()
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "patient", Durable: true, Arguments: arguments})
			require.NoError(t, err)
			send(t, ctx, ch, "patient", "a")
			mine := amqp.Consume{Queue: "patient", Tag: "mine"}
			for range 2 {
				err = ch.WithConsumer(ctx, mine, func(c *amqp.Consumer) error {
					for _, env := range c.Messages() {
						<-c.Context().Done()
						_ = env.Ack() // too late, and no more than that
					}
					return c.Err()
				})
				require.ErrorIs(t, err, amqp.ErrConsumerCancelled)
			}
			require.NoError(t, consume(ctx, ch, mine, 1, func(_ int, _ []byte, env *amqp.Envelope) error {
				assert.True(t, env.Redelivered)
				assert.Equal(t, int64(2), env.Properties.Headers["x-acquired-count"])
				return env.Ack()
			}))
			requireEmpty(t, ctx, ch, "patient")
		})
	})
}

func TestSince43RefusedArguments(t *testing.T) {
	for arg, refusal := range map[string]struct {
		value any
		code  amqp.ReplyCode
		text  string
	}{
		"x-queue-version":        {int32(1), amqp.PreconditionFailed, "\"unsupported queue version '1'\""},
		"x-queue-master-locator": {"min-masters", amqp.InternalError, "Feature `queue_master_locator` is deprecated.\nBy default, this feature is not permitted anymore."},
	} {
		t.Run(arg, func(t *testing.T) {
			eachSince43(t, func(t *testing.T, b broker) {
				_ = b.channelEnds(t, func(ctx context.Context, ch *amqp.Channel) {
					_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q", Durable: true, Arguments: amqp.Table{arg: refusal.value}})
					requireException(t, err, refusal.code, refusal.text)
				})
			})
		})
	}
}

func TestSince43MessagesHave16MiBAtMost(t *testing.T) {
	eachSince43(t, func(t *testing.T, b broker) {
		_ = b.channelEnds(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			require.NoError(t, ch.Confirm(ctx))
			require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Body: make([]byte, 16<<20)}))
			err := ch.Publish(ctx, "", q, amqp.Message{Body: make([]byte, 16<<20+1)})
			requireException(t, err, amqp.PreconditionFailed, "message size 16777217 is larger than configured max size 16777216")
		})
	})
}

// A reply that arrives is routed, as far as the broker is concerned.
func TestSince43MandatoryDirectReplies(t *testing.T) {
	eachSince43(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			require.NoError(t, ch.Confirm(ctx))
			q := newQueue(t, ctx, ch, nil)
			const replies = "amq.rabbitmq.reply-to"
			require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: replies, NoAck: true}, func(c *amqp.Consumer) error {
				require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Properties: amqp.Properties{ReplyTo: replies}}))
				_, env := get(t, ctx, ch, q)
				require.NoError(t, ch.Publish(ctx, "", env.Properties.ReplyTo, amqp.Message{Body: []byte("reply"), Mandatory: true}))
				for body := range c.Messages() {
					assert.Equal(t, "reply", string(body))
					return nil
				}
				return c.Err()
			}))
		})
	})
}
