package amqp_test

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// Each field becomes the argument that its comment names, with the type that the broker wants.
func TestQueueArgumentsHaveTheirNamesAndTypes(t *testing.T) {
	untried := map[string]bool{}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[amqp.QueueArguments]()) {
		untried[f.Name] = true
	}
	for _, c := range []struct {
		field string
		set   amqp.QueueArguments
		want  amqp.Table
	}{
		{"Type", amqp.QueueArguments{Type: amqp.StreamQueue}, amqp.Table{"x-queue-type": "stream"}},
		{"MessageTTL", amqp.QueueArguments{MessageTTL: 1500 * time.Microsecond}, amqp.Table{"x-message-ttl": int64(2)}},
		{"MessageTTL", amqp.QueueArguments{MessageTTL: -1}, amqp.Table{"x-message-ttl": int64(0)}},
		{"Expires", amqp.QueueArguments{Expires: time.Minute}, amqp.Table{"x-expires": int64(60_000)}},
		{"MaxLength", amqp.QueueArguments{MaxLength: 7}, amqp.Table{"x-max-length": int64(7)}},
		{"MaxLengthBytes", amqp.QueueArguments{MaxLengthBytes: 1 << 40}, amqp.Table{"x-max-length-bytes": int64(1 << 40)}},
		{"Overflow", amqp.QueueArguments{Overflow: amqp.RejectPublishDLX}, amqp.Table{"x-overflow": "reject-publish-dlx"}},
		{"DeadLetterExchange", amqp.QueueArguments{DeadLetterExchange: "dead"}, amqp.Table{"x-dead-letter-exchange": "dead"}},
		{"DeadLetterToDefault", amqp.QueueArguments{DeadLetterToDefault: true}, amqp.Table{"x-dead-letter-exchange": ""}},
		{"DeadLetterRoutingKey", amqp.QueueArguments{DeadLetterRoutingKey: "dead"}, amqp.Table{"x-dead-letter-routing-key": "dead"}},
		{"DeadLetterStrategy", amqp.QueueArguments{DeadLetterStrategy: amqp.AtLeastOnce}, amqp.Table{"x-dead-letter-strategy": "at-least-once"}},
		{"MaxPriority", amqp.QueueArguments{MaxPriority: 9}, amqp.Table{"x-max-priority": int64(9)}},
		{"SingleActiveConsumer", amqp.QueueArguments{SingleActiveConsumer: true}, amqp.Table{"x-single-active-consumer": true}},
		{"DeliveryLimit", amqp.QueueArguments{DeliveryLimit: 20}, amqp.Table{"x-delivery-limit": int64(20)}},
		{"DeliveryLimit", amqp.QueueArguments{DeliveryLimit: -20}, amqp.Table{"x-delivery-limit": int64(-1)}},
		{"LeaderLocator", amqp.QueueArguments{LeaderLocator: amqp.Balanced}, amqp.Table{"x-queue-leader-locator": "balanced"}},
		{"InitialGroupSize", amqp.QueueArguments{InitialGroupSize: 3}, amqp.Table{"x-quorum-initial-group-size": int64(3)}},
		{"InitialClusterSize", amqp.QueueArguments{InitialClusterSize: 3}, amqp.Table{"x-initial-cluster-size": int64(3)}},
		{"MaxAge", amqp.QueueArguments{MaxAge: "7D"}, amqp.Table{"x-max-age": "7D"}},
		{"MaxSegmentBytes", amqp.QueueArguments{MaxSegmentBytes: 1 << 20}, amqp.Table{"x-stream-max-segment-size-bytes": int64(1 << 20)}},
		{"FilterBytes", amqp.QueueArguments{FilterBytes: 16}, amqp.Table{"x-stream-filter-size-bytes": int64(16)}},
		{"ConsumerTimeout", amqp.QueueArguments{ConsumerTimeout: time.Hour}, amqp.Table{"x-consumer-timeout": int64(3_600_000)}},
		{"DelayedRetry", amqp.QueueArguments{DelayedRetry: amqp.RetryFailed}, amqp.Table{"x-delayed-retry-type": "failed"}},
		{"DelayedRetryMin", amqp.QueueArguments{DelayedRetryMin: time.Second}, amqp.Table{"x-delayed-retry-min": int64(1000)}},
		{"DelayedRetryMax", amqp.QueueArguments{DelayedRetryMax: time.Minute}, amqp.Table{"x-delayed-retry-max": int64(60_000)}},
		{"Other", amqp.QueueArguments{MaxLength: 1, Other: amqp.Table{"x-max-length": 2, "y": "z"}}, amqp.Table{"x-max-length": 2, "y": "z"}},
	} {
		require.Equal(t, c.want, c.set.Table(), c.field)
		delete(untried, c.field)
	}
	require.Empty(t, untried)
}

// What only newer brokers know, older ones are not told by mistake.
func TestQueueArgumentsOfNewerBrokers(t *testing.T) {
	for _, a := range []amqp.QueueArguments{
		{Type: amqp.QuorumQueue, ConsumerTimeout: time.Hour},
		{Type: amqp.QuorumQueue, DelayedRetry: amqp.RetryAll, DelayedRetryMin: time.Second, DelayedRetryMax: time.Minute},
	} {
		declare := func(w *world) error {
			return w.channel(func(ch *amqp.Channel) error {
				_, err := ch.QueueDeclare(context.Background(), amqp.Queue{Name: "q", Durable: true, Arguments: a.Table()})
				return err
			})
		}
		bubble(t, func(w *world) { require.NoError(w, declare(w)) }, amqptest.WithVersion(amqptest.V43))
		bubble(t, func(w *world) { require.ErrorIs(w, declare(w), amqp.PreconditionFailed) })
	}
}
