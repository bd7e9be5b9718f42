package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// Values that have one type in Go and one on the wire come back as they went.
func TestTableRoundTrip(t *testing.T) {
	table := amqp.Table{
		"nil":     nil,
		"bool":    true,
		"int8":    int8(-8),
		"int16":   int16(-16),
		"int32":   int32(-32),
		"int64":   int64(-64),
		"uint8":   uint8(200),
		"uint16":  uint16(60_000),
		"uint32":  uint32(4_000_000_000),
		"float32": float32(1.5),
		"float64": 2.5,
		"string":  "text",
		"empty":   "",
		"bytes":   []byte{0, 1, 255},
		"decimal": amqp.Decimal{Scale: 2, Value: 314},
		"time":    time.Unix(1_700_000_000, 0).UTC(),
		"table":   amqp.Table{"inner": amqp.Table{"innermost": int32(1)}},
		"list":    []any{int32(1), "two", nil, []any{true}, amqp.Table{"k": "v"}},
	}
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Properties: amqp.Properties{Headers: table}}))
			_, env := await(t, ctx, ch, q)
			got := env.Properties.Headers
			require.Len(t, got, len(table))
			for name, want := range table {
				if when, ok := want.(time.Time); ok {
					assert.True(t, when.Equal(got[name].(time.Time)), name)
					continue
				}
				assert.Equal(t, want, got[name], name)
			}
		})
	})
}

// Values of other Go types come back as what the wire has for them.
func TestTableConversions(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			headers := amqp.Table{
				"int": 42, "uint": uint(42), "uint64": uint64(42),
				"strings": []string{"a", "b"}, "map": map[string]any{"k": "v"},
			}
			require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Properties: amqp.Properties{Headers: headers}}))
			_, env := await(t, ctx, ch, q)
			got := env.Properties.Headers
			for _, name := range []string{"int", "uint", "uint64"} {
				assert.EqualValues(t, 42, got[name], name)
			}
			assert.Equal(t, []any{"a", "b"}, got["strings"])
			assert.Equal(t, amqp.Table{"k": "v"}, got["map"])
		})
	})
}
