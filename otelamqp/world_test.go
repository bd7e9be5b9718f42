package otelamqp_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/otelamqp"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// world is a broker, an instrumented Config for it, and what OpenTelemetry was told.
type world struct {
	*testing.T
	broker    *amqptest.Broker
	cfg       amqp.Config
	telemetry *otelamqp.Instrumentation
	tracer    *trace.TracerProvider
	spans     *tracetest.InMemoryExporter
	metrics   *metric.ManualReader
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, broker: amqptest.NewBroker(), spans: tracetest.NewInMemoryExporter(), metrics: metric.NewManualReader()}
	t.Cleanup(w.broker.Close)
	var err error
	w.cfg, err = amqp.ParseURI(w.broker.URI())
	require.NoError(t, err)
	w.cfg.Logger = slog.New(slog.DiscardHandler)
	w.tracer = trace.NewTracerProvider(trace.WithSyncer(w.spans))
	w.telemetry, err = otelamqp.New(&w.cfg, otelamqp.Options{
		TracerProvider: w.tracer,
		MeterProvider:  metric.NewMeterProvider(metric.WithReader(w.metrics)),
		Propagator:     propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}),
	})
	require.NoError(t, err)
	return w
}

// channel runs body on a channel on which there is the queue "jobs".
func (w *world) channel(body func(ctx context.Context, ch *amqp.Channel) error) error {
	w.Helper()
	return amqp.WithChannel(w.Context(), w.cfg, func(ch *amqp.Channel) error {
		if _, err := ch.QueueDeclare(ch.Context(), amqp.Queue{Name: "jobs", Durable: true}); err != nil {
			return err
		}
		return body(ch.Context(), ch)
	})
}

// consume has telemetry process what is in the queue "jobs", until handle stops it.
func (w *world) consume(ctx context.Context, ch *amqp.Channel, handle func(ctx context.Context, c *amqp.Consumer, env *amqp.Envelope) error) error {
	w.Helper()
	return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs", Tag: "c"}, func(c *amqp.Consumer) error {
		return w.telemetry.Process(c, 1, func(ctx context.Context, _ []byte, env *amqp.Envelope) error {
			return handle(ctx, c, env)
		})
	})
}

// span is the one span of a name.
func (w *world) span(name string) tracetest.SpanStub {
	w.Helper()
	var found []tracetest.SpanStub
	for _, s := range w.spans.GetSpans() {
		if s.Name == name {
			found = append(found, s)
		}
	}
	require.Len(w, found, 1, "%q in %v", name, w.spans.GetSpans())
	return found[0]
}

// attributes are those of a span or a point of measurement, without where the broker is.
func attributes(list []attribute.KeyValue) map[string]any {
	all := map[string]any{}
	for _, kv := range list {
		if kv.Key != "server.address" && kv.Key != "server.port" {
			all[string(kv.Key)] = kv.Value.AsInterface()
		}
	}
	return all
}

// measured is the instrument of a name, with all that it has measured.
func (w *world) measured(name string) metricdata.Metrics {
	w.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(w, w.metrics.Collect(w.Context(), &all))
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name == name {
				return m
			}
		}
	}
	require.Fail(w, "nothing was measured", name)
	return metricdata.Metrics{}
}

// point is a sum or a histogram's count, with its attributes.
type point struct {
	n     int64
	attrs map[string]any
}

func points(data metricdata.Aggregation) (list []point) {
	switch data := data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			list = append(list, point{p.Value, attributes(p.Attributes.ToSlice())})
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			list = append(list, point{int64(p.Count), attributes(p.Attributes.ToSlice())}) // #nosec G115 -- it is small
		}
	}
	return list
}

// sum is what an instrument without attributes of its own shows.
func (w *world) sum(name string) int64 {
	w.Helper()
	list := points(w.measured(name).Data)
	require.Len(w, list, 1)
	return list[0].n
}
