package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
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

// deeply has a client send a table with so many tables in each other, where a
// header is the []byte that it starts with.
type deeply struct {
	net.Conn
	from, to []byte
}

func deeplyNested(levels int) deeply {
	var inner []byte
	field := func(kind byte, b []byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(b))), b...)
	}
	for range levels {
		inner = append([]byte{1, 'k'}, field('F', inner)...)
	}
	return deeply{from: field('x', bytes.Repeat([]byte{0xAB}, len(inner))), to: field('F', inner)}
}

func (d deeply) Write(b []byte) (int, error) {
	return d.Conn.Write(bytes.ReplaceAll(bytes.Clone(b), d.from, d.to))
}

// RabbitMQ takes tables however deep they lie in each other, and anybody who may
// publish may send one. It is a message like others, and can be published again.
func TestTableThatIsNestedDeeply(t *testing.T) {
	deep := deeplyNested(500)
	eachBroker(t, func(t *testing.T, b broker) {
		cfg := b.config(t)
		cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			return deeply{c, deep.from, deep.to}, err
		}
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			require.NoError(t, amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
				require.NoError(t, ch.Confirm(ctx))
				headers := amqp.Table{"table": deep.from[5:]}
				return ch.Publish(ctx, "", q, amqp.Message{Properties: amqp.Properties{Headers: headers}})
			}))
			var headers []amqp.Table
			require.NoError(t, consume(ctx, ch, amqp.Consume{Queue: q}, 2, func(i int, body []byte, env *amqp.Envelope) error {
				headers = append(headers, env.Properties.Headers)
				if i == 0 {
					require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Properties: *env.Properties}))
				}
				return env.Ack()
			}))
			assert.Equal(t, headers[0], headers[1])
			inner := headers[0]["table"]
			for range 100 {
				inner = inner.(amqp.Table)["k"]
			}
			assert.IsType(t, []byte{}, inner)
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
