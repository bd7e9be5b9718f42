package integration

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// A consumer of a stream begins where it says, and each delivery knows its offset.
func TestStreamOffsets(t *testing.T) {
	onRabbitMQ(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			newLog(t, ctx, ch, 10)
			for name, c := range map[string]struct {
				from  amqp.Table
				first int64
			}{
				"first":         {amqp.StreamFrom(amqp.OffsetFirst), 0},
				"last":          {amqp.StreamFrom(amqp.OffsetLast), 9},
				"an offset":     {amqp.StreamFromOffset(4), 4},
				"a time":        {amqp.StreamFromTime(time.Now().Add(-time.Hour)), 0},
				"some time ago": {amqp.StreamFromAgo(time.Hour), 0},
			} {
				assert.Equal(t, c.first, firstOffset(t, ctx, ch, c.from, func() {}), name)
			}
			next := firstOffset(t, ctx, ch, amqp.StreamFrom(amqp.OffsetNext), func() {
				require.NoError(t, ch.Publish(ctx, "", "log", amqp.Message{Body: []byte("new")}))
			})
			assert.Equal(t, int64(10), next, "next")
		})
	})
}

// Whether a stream is consumed is said by the consumer. A header that says so is
// anybody's to set, and a message that was published again has it still.
func TestHeaderOfAStreamOnAQueue(t *testing.T) {
	headers := amqp.Table{"x-stream-offset": int64(7)}
	onAQueue(t, 0, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
		for _, text := range texts(3) {
			require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Body: []byte(text), Properties: amqp.Properties{Headers: headers}}))
		}
		require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(c *amqp.Consumer) error {
			return c.Process(1, func(context.Context, []byte, *amqp.Envelope) error {
				c.Stop()
				return errors.New("the database is away")
			})
		}))
		requireCount(t, ctx, conn, q, 3)
		require.Panics(t, func() {
			_ = ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(c *amqp.Consumer) error {
				return c.Process(1, func(context.Context, []byte, *amqp.Envelope) error { panic("oh") })
			})
		})
		requireCount(t, ctx, conn, q, 3)
	})
}

// A stream takes nothing back: what fails and what nobody takes is left to it.
func TestStreamGetsNothingBack(t *testing.T) {
	onRabbitMQ(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			newLog(t, ctx, ch, 10)
			opts := amqp.Consume{Queue: "log", Prefetch: 5, Arguments: amqp.StreamFrom(amqp.OffsetFirst)}
			handled := 0
			require.NoError(t, ch.WithConsumer(ctx, opts, func(c *amqp.Consumer) error {
				return c.Process(1, func(context.Context, []byte, *amqp.Envelope) error {
					if handled++; handled == 7 {
						c.Stop()
					}
					return errors.New("the database is away")
				})
			}))
			require.Panics(t, func() {
				_ = ch.WithConsumer(ctx, opts, func(c *amqp.Consumer) error {
					return c.Process(1, func(context.Context, []byte, *amqp.Envelope) error { panic("oh") })
				})
			})
			newQueue(t, ctx, ch, nil)
		})
	})
}

// A consumer that does not say where to start is taken for one of a queue. Before 4.0
// RabbitMQ does not take that from a stream.
func TestStreamWithoutAStart(t *testing.T) {
	onRabbitMQ(t, func(t *testing.T, b broker) {
		if b.since(t, 4, 0) {
			t.Skip("SKIPPED: the broker takes a refusal for a settlement")
		}
		err := b.channelEnds(t, func(ctx context.Context, ch *amqp.Channel) {
			newLog(t, ctx, ch, 0)
			err := ch.WithConsumer(ctx, amqp.Consume{Queue: "log", Prefetch: 5}, func(c *amqp.Consumer) error {
				require.NoError(t, ch.Publish(ctx, "", "log", amqp.Message{}))
				return c.Process(1, func(context.Context, []byte, *amqp.Envelope) error { return errors.New("the database is away") })
			})
			requireException(t, err, amqp.NotImplemented, "basic.nack and basic.reject not supported by stream queues")
		})
		requireException(t, err, amqp.NotImplemented, "basic.nack and basic.reject not supported by stream queues")
	})
}

// newLog declares a stream that has so many messages.
func newLog(t *testing.T, ctx context.Context, ch *amqp.Channel, messages int) {
	t.Helper()
	arguments := amqp.QueueArguments{Type: amqp.StreamQueue, MaxLengthBytes: 1 << 20}.Table()
	_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "log", Durable: true, Arguments: arguments})
	require.NoError(t, err)
	require.NoError(t, ch.Confirm(ctx))
	replaced := amqp.Properties{Headers: amqp.Table{"x-stream-offset": int64(4711)}}
	for _, text := range texts(messages) {
		require.NoError(t, ch.Publish(ctx, "", "log", amqp.Message{Body: []byte(text), Properties: replaced}))
	}
}

// firstOffset is that of the first delivery of a consumer that begins at from;
// begun is called when it has.
func firstOffset(t *testing.T, ctx context.Context, ch *amqp.Channel, from amqp.Table, begun func()) (offset int64) {
	t.Helper()
	opts := amqp.Consume{Queue: "log", Prefetch: 10, Arguments: from}
	require.NoError(t, ch.WithConsumer(ctx, opts, func(c *amqp.Consumer) error {
		begun()
		for _, env := range c.Messages() {
			var ok bool
			offset, ok = env.StreamOffset()
			require.True(t, ok)
			return env.Ack()
		}
		return c.Err()
	}))
	return offset
}
