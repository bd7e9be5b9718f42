package amqp

import (
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
