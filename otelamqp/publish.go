package otelamqp

import (
	"context"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"
	"go.opentelemetry.io/otel/trace"
)

// Sender is what Publish sends with: an *amqp.Channel or an *amqp.Outbox.
type Sender interface {
	Publish(ctx context.Context, exchange, routingKey string, msg amqp.Message) error
}

// Publish is to.Publish in a producer span, whose context goes with the message.
// The span ends when that returns: with the broker's confirm, if to waits for it.
func (in *Instrumentation) Publish(ctx context.Context, to Sender, exchange, routingKey string, msg amqp.Message) error {
	return in.publish(ctx, exchange, routingKey, msg, func(ctx context.Context, msg amqp.Message) error {
		return to.Publish(ctx, exchange, routingKey, msg)
	})
}

// Send is p.Publish in a producer span, whose context goes with the message. The
// span ends when the message is on its way; what becomes of it then is counted by
// leveret.publish.failures, and told by the receipt.
func (in *Instrumentation) Send(ctx context.Context, p *amqp.Publisher, exchange, routingKey string, msg amqp.Message) (receipt amqp.Receipt, err error) {
	err = in.publish(ctx, exchange, routingKey, msg, func(ctx context.Context, msg amqp.Message) error {
		receipt, err = p.Publish(ctx, exchange, routingKey, msg)
		return err
	})
	return receipt, err
}

const publishing = "publish"

func (in *Instrumentation) publish(ctx context.Context, exchange, routingKey string, msg amqp.Message, send func(context.Context, amqp.Message) error) error {
	to := destination(exchange, routingKey)
	attrs := append(in.with(
		semconv.MessagingSystemRabbitMQ, semconv.MessagingOperationName(publishing), semconv.MessagingOperationTypeSend,
		semconv.MessagingDestinationName(to),
	), message(&msg.Properties)...)
	if routingKey != "" {
		attrs = append(attrs, semconv.MessagingRabbitMQDestinationRoutingKey(routingKey))
	}
	opts := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(attrs...)}
	// A context that the program has put there itself stays.
	own := trace.SpanContextFromContext(in.propagator.Extract(context.Background(), Carrier(msg.Properties.Headers)))
	if own.IsValid() {
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: own}))
	}
	began := time.Now()
	ctx, span := in.tracer.Start(ctx, publishing+" "+to, opts...)
	defer span.End()
	if !own.IsValid() {
		in.Inject(ctx, &msg)
	}
	err := send(ctx, msg)
	in.record(ctx, exchange, time.Since(began), err)
	if err != nil {
		failed(span, err)
	}
	return err
}

// record measures one publish.
func (in *Instrumentation) record(ctx context.Context, exchange string, took time.Duration, err error) {
	attrs := in.with(semconv.MessagingDestinationName(destination(exchange)))
	if err != nil {
		attrs = append(attrs, errorType(err))
	}
	in.sent.Add(ctx, 1, publishing, messagingconv.SystemRabbitMQ, attrs...)
	attrs = append(attrs, semconv.MessagingOperationTypeSend)
	in.published.Record(ctx, took.Seconds(), publishing, messagingconv.SystemRabbitMQ, attrs...)
}

// failed has the span say why.
func failed(span trace.Span, err error, attrs ...attribute.KeyValue) {
	span.SetAttributes(append(attrs, errorType(err))...)
	span.SetStatus(codes.Error, err.Error())
}
