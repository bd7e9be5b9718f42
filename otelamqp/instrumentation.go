package otelamqp

import (
	"errors"
	"net"
	"strconv"
	"sync/atomic"

	"github.com/leveret-mq/leveret/amqp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"
	"go.opentelemetry.io/otel/trace"
)

// Options says whom to tell. What is nil is OpenTelemetry's global one at the time
// of New.
type Options struct {
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
	// Propagator writes the headers that carry a context, and reads them. The
	// global one carries nothing until the program sets it.
	Propagator propagation.TextMapPropagator
}

// Instrumentation tells of what is done with one broker. It is safe for concurrent
// use, and lives as long as the program.
type Instrumentation struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	server     atomic.Pointer[[]attribute.KeyValue]

	published messagingconv.ClientOperationDuration
	sent      messagingconv.ClientSentMessages
	consumed  messagingconv.ClientConsumedMessages
	processed messagingconv.ProcessDuration
}

const scopeName = "github.com/leveret-mq/leveret/otelamqp"

// buckets are those that the conventions want for durations, in seconds.
var buckets = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}

// New instruments the connections that are made with cfg from now on: it adds
// hooks to cfg.Trace. One Instrumentation serves one Config.
func New(cfg *amqp.Config, opts Options) (*Instrumentation, error) {
	if opts.TracerProvider == nil {
		opts.TracerProvider = otel.GetTracerProvider()
	}
	if opts.MeterProvider == nil {
		opts.MeterProvider = otel.GetMeterProvider()
	}
	if opts.Propagator == nil {
		opts.Propagator = otel.GetTextMapPropagator()
	}
	in := &Instrumentation{propagator: opts.Propagator}
	in.tracer = opts.TracerProvider.Tracer(scopeName,
		trace.WithInstrumentationVersion(amqp.Version), trace.WithSchemaURL(semconv.SchemaURL))
	meter := opts.MeterProvider.Meter(scopeName,
		metric.WithInstrumentationVersion(amqp.Version), metric.WithSchemaURL(semconv.SchemaURL))
	if err := in.instruments(meter); err != nil {
		return nil, err
	}
	hooks, err := in.connections(meter)
	if err != nil {
		return nil, err
	}
	in.setServer(net.JoinHostPort(cfg.Host, strconv.Itoa(cfg.Port)))
	cfg.Trace = amqp.JoinTraces(cfg.Trace, hooks)
	return in, nil
}

func (in *Instrumentation) instruments(meter metric.Meter) error {
	var err1, err2, err3, err4 error
	in.published, err1 = messagingconv.NewClientOperationDuration(meter, metric.WithExplicitBucketBoundaries(buckets...))
	in.sent, err2 = messagingconv.NewClientSentMessages(meter)
	in.consumed, err3 = messagingconv.NewClientConsumedMessages(meter)
	in.processed, err4 = messagingconv.NewProcessDuration(meter, metric.WithExplicitBucketBoundaries(buckets...))
	return errors.Join(err1, err2, err3, err4)
}
