package amqp_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// The broker sends every direct reply with the delivery tag that the next ordinary delivery will have, too. Neither may
// be taken for the other.
func TestDirectRepliesHaveNoTagsOfTheirOwn(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("requests", 0)
		require.NoError(t, w.channel(func(ch *amqp.Channel) error {
			ctx := ch.Context()
			replies := amqp.Consume{Queue: "amq.rabbitmq.reply-to", NoAck: true}
			return ch.WithConsumer(ctx, replies, func(replies *amqp.Consumer) error {
				request := amqp.Message{Properties: amqp.Properties{ReplyTo: "amq.rabbitmq.reply-to"}}
				for range 2 {
					require.NoError(t, ch.Publish(ctx, "", "requests", request))
				}
				_, first, err := ch.Get(ctx, "requests", false)
				require.NoError(t, err)
				for _, text := range []string{"a", "b", "c"} {
					require.NoError(t, ch.Publish(ctx, "", first.Properties.ReplyTo, amqp.Message{Body: []byte(text)}))
				}
				var got []string
				var last *amqp.Envelope
				for body, env := range replies.Messages() {
					got, last = append(got, string(body)), env
					if len(got) == 3 {
						break
					}
				}
				require.Equal(t, []string{"a", "b", "c"}, got)

				_, second, err := ch.Get(ctx, "requests", false)
				require.NoError(t, err)
				require.Equal(t, last.DeliveryTag, second.DeliveryTag, "otherwise this test shows nothing")
				require.ErrorIs(t, last.Ack(), amqp.ErrAlreadySettled)
				require.ErrorIs(t, last.AckUpTo(), amqp.ErrAlreadySettled)
				require.ErrorIs(t, last.Nack(false), amqp.ErrAlreadySettled)
				require.ErrorIs(t, last.Reject(false), amqp.ErrAlreadySettled)
				require.NoError(t, first.Context().Err())
				require.NoError(t, last.Context().Err())
				require.NoError(t, second.Ack())
				return first.Nack(true)
			})
		}))
		require.Equal(t, 1, w.state("requests").Ready)
	})
}
