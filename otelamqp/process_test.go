package otelamqp_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// The trace goes through the broker: the consumer's span is the child of the producer's, and links to it.
func TestProcessContinuesTheTraceOfTheMessage(t *testing.T) {
	w := newWorld(t)
	var seen, bag string
	require.NoError(t, w.channel(func(ctx context.Context, ch *amqp.Channel) error {
		member, err := baggage.NewMember("tenant", "hare")
		require.NoError(t, err)
		b, err := baggage.New(member)
		require.NoError(t, err)
		msg := amqp.Message{Properties: amqp.Properties{MessageID: "m1"}}
		require.NoError(t, w.telemetry.Publish(baggage.ContextWithBaggage(ctx, b), ch, "", "jobs", msg))
		return w.consume(ctx, ch, func(ctx context.Context, c *amqp.Consumer, _ *amqp.Envelope) error {
			c.Stop()
			seen, bag = trace.SpanContextFromContext(ctx).SpanID().String(), baggage.FromContext(ctx).Member("tenant").Value()
			return nil
		})
	}))
	producer, consumer := w.span("publish jobs"), w.span("process jobs")
	assert.Equal(t, trace.SpanKindConsumer, consumer.SpanKind)
	assert.Equal(t, producer.SpanContext.TraceID(), consumer.SpanContext.TraceID())
	assert.Equal(t, producer.SpanContext.SpanID(), consumer.Parent.SpanID())
	require.Len(t, consumer.Links, 1)
	assert.Equal(t, producer.SpanContext.SpanID(), consumer.Links[0].SpanContext.SpanID())
	assert.Equal(t, consumer.SpanContext.SpanID().String(), seen)
	assert.Equal(t, "hare", bag)
	assert.Equal(t, map[string]any{
		"messaging.system": "rabbitmq", "messaging.operation.name": "process", "messaging.operation.type": "process",
		"messaging.destination.name": "jobs", "messaging.rabbitmq.destination.routing_key": "jobs",
		"messaging.message.id": "m1", "messaging.rabbitmq.message.delivery_tag": int64(1),
	}, attributes(consumer.Attributes))
	common := map[string]any{"messaging.system": "rabbitmq", "messaging.operation.name": "process", "messaging.destination.name": "jobs"}
	assert.Equal(t, []point{{1, common}}, points(w.measured("messaging.client.consumed.messages").Data))
	assert.Equal(t, []point{{1, common}}, points(w.measured("messaging.process.duration").Data))
	assert.Equal(t, "s", w.measured("messaging.process.duration").Unit)
}

// A span around the consumer stays the parent, and the message's is linked to.
func TestProcessStaysInTheSpanAroundIt(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.channel(func(ctx context.Context, ch *amqp.Channel) error {
		require.NoError(t, w.telemetry.Publish(ctx, ch, "", "jobs", amqp.Message{}))
		ctx, outer := w.tracer.Tracer("test").Start(ctx, "outer")
		defer outer.End()
		return w.consume(ctx, ch, func(_ context.Context, c *amqp.Consumer, _ *amqp.Envelope) error {
			c.Stop()
			return nil
		})
	}))
	consumer := w.span("process jobs")
	assert.Equal(t, w.span("outer").SpanContext.SpanID(), consumer.Parent.SpanID())
	require.Len(t, consumer.Links, 1)
	assert.Equal(t, w.span("publish jobs").SpanContext.SpanID(), consumer.Links[0].SpanContext.SpanID())
}

func TestProcessTellsFailures(t *testing.T) {
	for want, failure := range map[string]error{
		"drop": errors.Join(amqp.Drop, errors.New("no such customer")), "timeout": context.DeadlineExceeded,
		"404": amqp.NotFound, "connection_closed": amqp.ErrConnectionClosed, "channel_closed": amqp.ErrChannelClosed,
		"*errors.errorString": errors.New("no more carrots"),
	} {
		t.Run(want, func(t *testing.T) {
			w := newWorld(t)
			require.NoError(t, w.channel(func(ctx context.Context, ch *amqp.Channel) error {
				require.NoError(t, ch.Publish(ctx, "", "jobs", amqp.Message{}))
				return w.consume(ctx, ch, func(_ context.Context, c *amqp.Consumer, _ *amqp.Envelope) error {
					c.Stop()
					return failure
				})
			}))
			s := w.span("process jobs")
			assert.Equal(t, codes.Error, s.Status.Code)
			assert.Equal(t, failure.Error(), s.Status.Description)
			assert.Equal(t, want, attributes(s.Attributes)["error.type"])
			assert.Empty(t, s.Links, "the message carries no context")
			assert.Equal(t, want, points(w.measured("messaging.process.duration").Data)[0].attrs["error.type"])
		})
	}
}

func TestProcessEndsTheSpanOfAPanic(t *testing.T) {
	w := newWorld(t)
	assert.PanicsWithValue(t, "oh", func() {
		_ = w.channel(func(ctx context.Context, ch *amqp.Channel) error {
			require.NoError(t, ch.Publish(ctx, "", "jobs", amqp.Message{}))
			return w.consume(ctx, ch, func(context.Context, *amqp.Consumer, *amqp.Envelope) error { panic("oh") })
		})
	})
	assert.Equal(t, "panic", attributes(w.span("process jobs").Attributes)["error.type"])
}

func TestBatchLinksToEveryMessage(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.channel(func(ctx context.Context, ch *amqp.Channel) error {
		for range 3 {
			require.NoError(t, w.telemetry.Publish(ctx, ch, "", "jobs", amqp.Message{}))
		}
		require.NoError(t, ch.Publish(ctx, "", "jobs", amqp.Message{})) // without a context
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs"}, func(c *amqp.Consumer) error {
			for b := range c.Batches(4, time.Minute) {
				return w.telemetry.Batch(ctx, c, b, func(_ context.Context, b *amqp.Batch) error { return b.Ack() })
			}
			return c.Err()
		})
	}))
	s := w.span("process jobs")
	assert.Len(t, s.Links, 3)
	assert.False(t, s.Parent.IsValid())
	assert.Equal(t, int64(4), attributes(s.Attributes)["messaging.batch.message_count"])
	assert.Equal(t, int64(4), w.sum("messaging.client.consumed.messages"))
}

// Names that the broker makes up are told as such, and are not in the metrics.
func TestProcessOfAnUnnamedQueue(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.channel(func(ctx context.Context, ch *amqp.Channel) error {
		queue, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
		require.NoError(t, err)
		require.NoError(t, ch.QueueBind(ctx, amqp.Binding{Queue: queue.Name, Exchange: "amq.topic", RoutingKey: "#"}))
		require.NoError(t, ch.Publish(ctx, "amq.topic", "a.b", amqp.Message{}))
		return ch.WithConsumer(ctx, amqp.Consume{Queue: queue.Name}, func(c *amqp.Consumer) error {
			for body, env := range c.Messages() {
				return w.telemetry.Handle(ctx, c, body, env, func(_ context.Context, _ []byte, env *amqp.Envelope) error { return env.Ack() })
			}
			return c.Err()
		})
	}))
	spans := w.spans.GetSpans()
	require.Len(t, spans, 1)
	assert.Regexp(t, "^process amq.topic:a.b:amq.gen-", spans[0].Name)
	assert.Equal(t, true, attributes(spans[0].Attributes)["messaging.destination.anonymous"])
	assert.NotContains(t, points(w.measured("messaging.process.duration").Data)[0].attrs, "messaging.destination.name")
}
