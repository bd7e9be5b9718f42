package integration

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

func TestGet(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				requireEmpty(t, ctx, ch, q)
				require.NoError(t, ch.QueueBind(ctx, amqp.Binding{Queue: q, Exchange: "amq.topic", RoutingKey: "#"}))
				for _, text := range []string{"a", "b", ""} {
					require.NoError(t, ch.Publish(ctx, "amq.topic", "the.key", amqp.Message{Body: []byte(text), Properties: amqp.Properties{AppID: text}}))
				}
				requireCount(t, ctx, conn, q, 3)
				text, env := get(t, ctx, ch, q)
				assert.Equal(t, "a", text)
				assert.Equal(t, "amq.topic", env.Exchange)
				assert.Equal(t, "the.key", env.RoutingKey)
				assert.Equal(t, "a", env.Properties.AppID)
				assert.Equal(t, uint64(1), env.DeliveryTag)
				assert.Equal(t, 2, env.MessageCount)
				assert.Empty(t, env.ConsumerTag)
				assert.False(t, env.Redelivered)
				require.NoError(t, env.Ack())

				body, env, err := ch.Get(ctx, q, true)
				require.NoError(t, err)
				assert.Equal(t, "b", string(body))
				assert.Equal(t, 1, env.MessageCount)
				require.ErrorIs(t, env.Ack(), amqp.ErrAlreadySettled, "it was noAck")

				text, env = get(t, ctx, ch, q)
				assert.Empty(t, text)
				assert.Zero(t, env.MessageCount)
				requireEmpty(t, ctx, ch, q)
				require.NoError(t, env.Reject(false))
				requireEmpty(t, ctx, ch, q)
			}))
		})
	})
}

func TestGetFromAMissingQueue(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			_, _, err := ch.Get(ctx, "missing", false)
			requireException(t, err, amqp.NotFound, "no queue 'missing'")
			_, _, err = ch.Get(ctx, "missing", false)
			require.ErrorIs(t, err, amqp.NotFound, "on a channel that is closed")
			require.ErrorIs(t, err, amqp.ErrChannelClosed)
		})
	})
}

func TestGetWithASingleActiveConsumer(t *testing.T) {
	for name, arguments := range map[string]amqp.QueueArguments{
		"classic": {SingleActiveConsumer: true},
		"quorum":  {SingleActiveConsumer: true, Type: amqp.QuorumQueue},
	} {
		t.Run(name, func(t *testing.T) {
			eachBroker(t, func(t *testing.T, b broker) {
				b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
					_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q", Durable: true, Arguments: arguments.Table()})
					require.NoError(t, err)
					_, _, err = ch.Get(ctx, "q", false)
					if arguments.Type == amqp.QuorumQueue {
						requireException(t, err, amqp.ResourceLocked, "basic.get operations are not supported by ")
					} else {
						require.ErrorIs(t, err, amqp.ErrEmptyQueue)
					}
				})
			})
		})
	}
}

// Gets from many goroutines on one channel get a message each.
func TestGetConcurrently(t *testing.T) {
	const messages = 100
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			send(t, ctx, ch, q, texts(messages)...)
			got := make(chan string, messages)
			for range messages {
				ch.Go(func(ctx context.Context) error {
					body, env, err := ch.Get(ctx, q, false)
					if err != nil {
						return err
					}
					got <- string(body)
					return env.Ack()
				})
			}
			var all []string
			for range messages {
				select {
				case text := <-got:
					all = append(all, text)
				case <-ctx.Done():
					require.NoError(t, ctx.Err())
				}
			}
			assert.ElementsMatch(t, texts(messages), all)
		})
	})
}
