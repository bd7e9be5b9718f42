package amqp

import (
	"bytes"
	"slices"
	"strconv"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// Table is a map[string]any: the arguments of a declaration, the headers of a
// message. Its values may be nil, bool, every int and uint kind, float32,
// float64, string, []byte, Decimal, time.Time (whole seconds), Table,
// map[string]any, []any and []string; anything else is an error at the call,
// which names the key path, before a byte is sent. Keys have at most 255
// bytes.
//
// A received table holds bool, int8 to int64, uint8 to uint64, float32,
// float64, string, []byte, Decimal, time.Time in UTC, Table, []any and nil. Tables
// and lists that lie in each other more than 100 deep are an error at the call;
// received, those that lie deeper are a []byte, not decoded, and published again
// as such.
// https://www.rabbitmq.com/amqp-0-9-1-errata#section_3
type Table = wire.Table

// Decimal is the protocol's decimal number: Value divided by ten to the power
// of Scale. Its fields are Scale uint8 and Value int32.
type Decimal = wire.Decimal

// cloneTable copies a table whose Size was without error, all the way down.
func cloneTable(t Table) Table {
	if t == nil {
		return nil
	}
	clone := make(Table, len(t))
	for key, v := range t {
		clone[key] = cloneValue(v)
	}
	return clone
}

func cloneValue(v any) any {
	switch v := v.(type) {
	case []byte:
		return bytes.Clone(v)
	case []string:
		return slices.Clone(v)
	case Table:
		return cloneTable(v)
	case map[string]any:
		return cloneTable(v)
	case []any:
		clone := make([]any, len(v))
		for i, item := range v {
			clone[i] = cloneValue(item)
		}
		return clone
	}
	return v
}

// TTL is d in the form that Properties.Expiration wants: whole milliseconds,
// rounded up, so that a short time does not become none. A negative d is "0":
// the message expires unless it can be delivered at once.
// https://www.rabbitmq.com/docs/ttl#per-message-ttl-in-publishers
func TTL(d time.Duration) string {
	d = max(d, 0)
	ms := d / time.Millisecond
	if d%time.Millisecond > 0 {
		ms++
	}
	return strconv.FormatInt(int64(ms), 10)
}
