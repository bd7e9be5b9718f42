package integration

import (
	"context"
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
			arguments := amqp.QueueArguments{Type: amqp.StreamQueue, MaxLengthBytes: 1 << 20}.Table()
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "log", Durable: true, Arguments: arguments})
			require.NoError(t, err)
			require.NoError(t, ch.Confirm(ctx))
			for _, text := range texts(10) {
				require.NoError(t, ch.Publish(ctx, "", "log", amqp.Message{Body: []byte(text)}))
			}
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
