package otelamqp_test

import (
	"context"
	"fmt"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/otelamqp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// A trace goes from a publisher through the broker to a consumer. A program has
// exporters where this example has memory.
func Example() {
	broker := amqptest.NewBroker()
	defer broker.Close()
	cfg, err := amqp.ParseURI(broker.URI())
	if err != nil {
		fmt.Println(err)
		return
	}
	spans, metrics := tracetest.NewInMemoryExporter(), metric.NewManualReader()
	telemetry, err := otelamqp.New(&cfg, otelamqp.Options{
		TracerProvider: trace.NewTracerProvider(trace.WithSyncer(spans)),
		MeterProvider:  metric.NewMeterProvider(metric.WithReader(metrics)),
		Propagator:     propagation.TraceContext{},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	ctx := context.Background()
	err = amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "jobs", Durable: true}); err != nil {
			return err
		}
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		if err := telemetry.Publish(ctx, ch, "", "jobs", amqp.Message{Body: []byte("hop")}); err != nil {
			return err
		}
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs"}, func(c *amqp.Consumer) error {
			return telemetry.Process(c, 1, func(_ context.Context, body []byte, _ *amqp.Envelope) error {
				c.Stop()
				fmt.Printf("handled %q\n", body)
				return nil
			})
		})
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	list := spans.GetSpans()
	for _, s := range list {
		fmt.Println(s.Name, "·", s.SpanKind)
	}
	fmt.Println("one trace:", list[0].SpanContext.TraceID() == list[1].SpanContext.TraceID())
	var all metricdata.ResourceMetrics
	if err := metrics.Collect(ctx, &all); err != nil {
		fmt.Println(err)
		return
	}
	for _, m := range all.ScopeMetrics[0].Metrics[:4] {
		fmt.Println(m.Name)
	}
	// Unordered output:
	// handled "hop"
	// publish jobs · producer
	// process jobs · consumer
	// one trace: true
	// messaging.client.operation.duration
	// messaging.client.sent.messages
	// messaging.client.consumed.messages
	// messaging.process.duration
}
