package otelamqp

import (
	"context"
	"strings"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"
	"go.opentelemetry.io/otel/trace"
)

// Handler handles one message, as that of amqp.Consumer.Process.
type Handler = func(ctx context.Context, body []byte, env *amqp.Envelope) error

// Process is c.Process with each call of handle in a consumer span.
func (in *Instrumentation) Process(c *amqp.Consumer, workers int, handle Handler) error {
	return c.Process(workers, func(ctx context.Context, body []byte, env *amqp.Envelope) error {
		return in.Handle(ctx, c, body, env, handle)
	})
}

// Handle calls handle with one of c's messages in a consumer span, for loops over
// c.Messages. It settles nothing.
func (in *Instrumentation) Handle(ctx context.Context, c *amqp.Consumer, body []byte, env *amqp.Envelope, handle Handler) error {
	from := destination(env.Exchange, env.RoutingKey, c.Queue())
	attrs := append(in.consumer(c, from), message(env.Properties)...)
	attrs = append(attrs, semconv.MessagingRabbitMQMessageDeliveryTag(int(env.DeliveryTag))) // #nosec G115 -- it counts from 1
	if env.RoutingKey != "" {
		attrs = append(attrs, semconv.MessagingRabbitMQDestinationRoutingKey(env.RoutingKey))
	}
	ambient := trace.SpanFromContext(ctx)
	ctx = in.Extract(ctx, env) // with the message's span, if it has one, and its baggage
	created := trace.SpanContextFromContext(ctx)
	if ambient.SpanContext().IsValid() {
		ctx = trace.ContextWithSpan(ctx, ambient)
	}
	return in.process(ctx, c, from, attrs, linksTo(created, ambient.SpanContext()), 1, func(ctx context.Context) error {
		return handle(ctx, body, env)
	})
}

// Batch calls handle with the messages of b, which are c's, in a consumer span that
// links to each message's. It settles nothing.
func (in *Instrumentation) Batch(ctx context.Context, c *amqp.Consumer, b *amqp.Batch, handle func(ctx context.Context, b *amqp.Batch) error) error {
	from := destination(c.Queue())
	attrs := append(in.consumer(c, from), semconv.MessagingBatchMessageCount(b.Len()))
	var links []trace.Link
	for _, env := range b.All() {
		links = append(links, linksTo(trace.SpanContextFromContext(in.Extract(context.Background(), env)), trace.SpanContext{})...)
	}
	return in.process(ctx, c, from, attrs, links, b.Len(), func(ctx context.Context) error { return handle(ctx, b) })
}

const processing = "process"

// process runs handle in a consumer span.
func (in *Instrumentation) process(ctx context.Context, c *amqp.Consumer, from string, attrs []attribute.KeyValue, links []trace.Link, messages int, handle func(context.Context) error) (err error) {
	began := time.Now()
	ctx, span := in.tracer.Start(ctx, processing+" "+from,
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attrs...), trace.WithLinks(links...))
	defer span.End()
	err = errPanic
	defer func() {
		attrs := in.with(queue(c)...)
		in.consumed.Add(ctx, int64(messages), processing, messagingconv.SystemRabbitMQ, attrs...)
		if err != nil {
			attrs = append(attrs, errorType(err))
			failed(span, err)
		}
		in.processed.Record(ctx, time.Since(began).Seconds(), processing, messagingconv.SystemRabbitMQ, attrs...)
	}()
	return handle(ctx)
}

// consumer are the attributes of all that c handles.
func (in *Instrumentation) consumer(c *amqp.Consumer, from string) []attribute.KeyValue {
	attrs := in.with(
		semconv.MessagingSystemRabbitMQ, semconv.MessagingOperationName(processing), semconv.MessagingOperationTypeProcess,
		semconv.MessagingDestinationName(from),
	)
	if isGenerated(c.Queue()) {
		attrs = append(attrs, semconv.MessagingDestinationAnonymous(true))
	}
	return attrs
}

// queue is the destination for metrics: none if its names have no end.
func queue(c *amqp.Consumer) []attribute.KeyValue {
	if isGenerated(c.Queue()) {
		return nil
	}
	return []attribute.KeyValue{semconv.MessagingDestinationName(c.Queue())}
}

// isGenerated tells whether the broker has made up a queue's name.
func isGenerated(queue string) bool { return queue == "" || strings.HasPrefix(queue, "amq.gen-") }

// linksTo is a link to a message's span, unless there is none, or only that around
// the consumer.
func linksTo(created, ambient trace.SpanContext) []trace.Link {
	if !created.IsValid() || created.Equal(ambient) {
		return nil
	}
	return []trace.Link{{SpanContext: created}}
}
