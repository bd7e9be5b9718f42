package otelamqp_test

import (
	"context"
	"testing"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

func TestPublishIsAProducerSpan(t *testing.T) {
	w := newWorld(t)
	headers := amqp.Table{"k": "v"}
	msg := amqp.Message{Properties: amqp.Properties{MessageID: "m1", CorrelationID: "c1", Headers: headers}, Body: []byte("hello")}
	var parent trace.SpanContext
	require.NoError(t, w.channel(func(ctx context.Context, ch *amqp.Channel) error {
		ctx, outer := w.tracer.Tracer("test").Start(ctx, "outer")
		defer outer.End()
		parent = outer.SpanContext()
		return w.telemetry.Publish(ctx, ch, "", "jobs", msg)
	}))
	s := w.span("publish jobs")
	assert.Equal(t, trace.SpanKindProducer, s.SpanKind)
	assert.Equal(t, parent.SpanID(), s.Parent.SpanID())
	assert.Equal(t, codes.Unset, s.Status.Code)
	assert.Equal(t, map[string]any{
		"messaging.system": "rabbitmq", "messaging.operation.name": "publish", "messaging.operation.type": "send",
		"messaging.destination.name": "jobs", "messaging.rabbitmq.destination.routing_key": "jobs",
		"messaging.message.id": "m1", "messaging.message.conversation_id": "c1",
	}, attributes(s.Attributes))
	assert.Contains(t, s.Attributes, attribute.String("server.address", w.cfg.Host))
	assert.Contains(t, s.Attributes, attribute.Int("server.port", w.cfg.Port))

	sent := w.broker.Messages("jobs")
	require.Len(t, sent, 1)
	assert.Equal(t, "00-"+s.SpanContext.TraceID().String()+"-"+s.SpanContext.SpanID().String()+"-01", sent[0].Properties.Headers["traceparent"])
	assert.Equal(t, "v", sent[0].Properties.Headers["k"])
	assert.Equal(t, amqp.Table{"k": "v"}, headers, "the caller's table")
}

func TestPublishNamesTheDestination(t *testing.T) {
	for want, to := range map[string][2]string{
		"publish amq.topic:a.b": {"amq.topic", "a.b"}, "publish amq.fanout": {"amq.fanout", ""},
		"publish amq.default": {"", ""}, "publish key": {"", "key"},
	} {
		w := newWorld(t)
		require.NoError(t, w.channel(func(ctx context.Context, ch *amqp.Channel) error {
			return w.telemetry.Publish(ctx, ch, to[0], to[1], amqp.Message{})
		}))
		w.span(want)
	}
}

func TestPublishKeepsAContextThatIsThere(t *testing.T) {
	w := newWorld(t)
	const own = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
	require.NoError(t, w.channel(func(ctx context.Context, ch *amqp.Channel) error {
		return w.telemetry.Publish(ctx, ch, "", "jobs", amqp.Message{Properties: amqp.Properties{Headers: amqp.Table{"traceparent": []byte(own)}}})
	}))
	assert.Equal(t, []byte(own), w.broker.Messages("jobs")[0].Properties.Headers["traceparent"])
	s := w.span("publish jobs")
	require.Len(t, s.Links, 1)
	assert.Equal(t, "0123456789abcdef", s.Links[0].SpanContext.SpanID().String())
}

// The span lasts until the broker has confirmed, and says what went wrong.
func TestPublishTellsTheOutcome(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.channel(func(ctx context.Context, ch *amqp.Channel) error {
		require.NoError(t, ch.Confirm(ctx))
		require.ErrorIs(t, w.telemetry.Publish(ctx, ch, "", "nobody", amqp.Message{Mandatory: true}), amqp.ErrReturned)
		w.broker.NackNext(1)
		require.ErrorIs(t, w.telemetry.Publish(ctx, ch, "", "jobs", amqp.Message{}), amqp.ErrNacked)
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		require.ErrorIs(t, w.telemetry.Publish(cancelled, ch, "amq.fanout", "", amqp.Message{}), context.Canceled)
		return nil
	}))
	for span, want := range map[string]string{"publish nobody": "returned", "publish jobs": "nacked", "publish amq.fanout": "canceled"} {
		s := w.span(span)
		assert.Equal(t, codes.Error, s.Status.Code)
		assert.NotEmpty(t, s.Status.Description)
		assert.Equal(t, want, attributes(s.Attributes)["error.type"])
	}
	assert.ElementsMatch(t, []point{
		{1, map[string]any{"error.type": "returned"}}, {1, map[string]any{"error.type": "nacked"}},
	}, points(w.measured("leveret.publish.failures").Data))
	common := func(exchange, failure string) map[string]any {
		return map[string]any{
			"messaging.system": "rabbitmq", "messaging.operation.name": "publish", "messaging.destination.name": exchange, "error.type": failure,
		}
	}
	assert.ElementsMatch(t, []point{
		{1, common("amq.default", "returned")}, {1, common("amq.default", "nacked")}, {1, common("amq.fanout", "canceled")},
	}, points(w.measured("messaging.client.sent.messages").Data))
	for _, p := range points(w.measured("messaging.client.operation.duration").Data) {
		assert.Equal(t, "send", p.attrs["messaging.operation.type"])
		assert.Equal(t, int64(1), p.n)
	}
}

func TestSendAndOutboxCarryTheContext(t *testing.T) {
	w := newWorld(t)
	outbox := amqp.NewOutbox(amqp.OutboxOptions{})
	require.NoError(t, amqp.WithConnection(t.Context(), w.cfg, func(conn *amqp.Conn) error {
		conn.Go(func(context.Context) error { return outbox.Run(conn) })
		err := conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
			if _, err := ch.QueueDeclare(ch.Context(), amqp.Queue{Name: "jobs", Durable: true}); err != nil {
				return err
			}
			if err := w.telemetry.Publish(ch.Context(), outbox, "", "jobs", amqp.Message{}); err != nil {
				return err
			}
			return ch.WithPublisher(ch.Context(), amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
				receipt, err := w.telemetry.Send(p.Context(), p, "", "jobs", amqp.Message{})
				require.NoError(t, err)
				return receipt.Wait(p.Context())
			})
		})
		conn.Cancel(nil)
		return err
	}))
	sent := w.broker.Messages("jobs")
	require.Len(t, sent, 2)
	for _, m := range sent {
		assert.Regexp(t, "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$", m.Properties.Headers["traceparent"])
	}
	assert.Len(t, w.spans.GetSpans(), 2)
}
