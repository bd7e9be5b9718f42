package otelamqp

import (
	"context"
	"maps"

	"github.com/leveret-mq/leveret/amqp"
	"go.opentelemetry.io/otel/propagation"
)

// Carrier has a propagator write to a message's headers, and read them.
type Carrier amqp.Table

var _ propagation.TextMapCarrier = Carrier(nil)

// Get returns a header that is text, or "".
func (c Carrier) Get(key string) string {
	switch v := c[key].(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

// Set writes a header.
func (c Carrier) Set(key, value string) { c[key] = value }

// Keys lists the headers.
func (c Carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for key := range c {
		keys = append(keys, key)
	}
	return keys
}

// Inject puts ctx's span and baggage into the headers of msg, for messages that
// are sent in other ways than by Publish and Send. The table that msg had is left
// as it was.
func (in *Instrumentation) Inject(ctx context.Context, msg *amqp.Message) {
	headers := make(amqp.Table, len(msg.Properties.Headers)+2)
	maps.Copy(headers, msg.Properties.Headers)
	in.propagator.Inject(ctx, Carrier(headers))
	if len(headers) > 0 {
		msg.Properties.Headers = headers
	}
}

// Extract returns ctx with the span and baggage that a message's headers carry, for
// messages that are received in other ways than by Process, Handle and Batch.
func (in *Instrumentation) Extract(ctx context.Context, env *amqp.Envelope) context.Context {
	return in.propagator.Extract(ctx, Carrier(env.Properties.Headers))
}
