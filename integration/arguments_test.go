package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// Brokers take the arguments that QueueArguments makes, with the types that it gives them, and take them for the same when
// they come again.
func TestQueueArgumentsOfEveryKind(t *testing.T) {
	declare := func(t *testing.T, b broker, all map[string]amqp.QueueArguments) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			for name, arguments := range all {
				for range 2 {
					_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: name, Durable: true, Arguments: arguments.Table()})
					require.NoError(t, err, name)
				}
			}
		})
	}
	eachBroker(t, func(t *testing.T, b broker) {
		declare(t, b, map[string]amqp.QueueArguments{
			"classic": {
				Type: amqp.ClassicQueue, MessageTTL: time.Hour, Expires: time.Hour, MaxLength: 10, MaxLengthBytes: 1 << 20,
				Overflow: amqp.RejectPublishDLX, DeadLetterToDefault: true, DeadLetterRoutingKey: "dead", MaxPriority: 3, SingleActiveConsumer: true,
			},
			"quorum": {
				Type: amqp.QuorumQueue, MessageTTL: time.Hour, Expires: time.Hour, MaxLength: 10, MaxLengthBytes: 1 << 20,
				Overflow: amqp.RejectPublish, DeadLetterExchange: "dead", DeadLetterRoutingKey: "dead", DeadLetterStrategy: amqp.AtMostOnce,
				SingleActiveConsumer: true, DeliveryLimit: 5, LeaderLocator: amqp.Balanced, InitialGroupSize: 1,
			},
		})
	})
	onRabbitMQ(t, func(t *testing.T, b broker) {
		declare(t, b, map[string]amqp.QueueArguments{
			"at least once": {
				Type: amqp.QuorumQueue, Overflow: amqp.RejectPublish, DeadLetterToDefault: true, DeadLetterRoutingKey: "dead",
				DeadLetterStrategy: amqp.AtLeastOnce, LeaderLocator: amqp.ClientLocal,
			},
			"stream": {
				Type: amqp.StreamQueue, MaxLengthBytes: 1 << 20, MaxAge: "7D", MaxSegmentBytes: 1 << 20, FilterBytes: 16,
				LeaderLocator: amqp.ClientLocal, InitialClusterSize: 1,
			},
		})
	})
}
