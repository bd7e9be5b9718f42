package amqp

import (
	"maps"
	"strconv"
	"time"
)

// The kinds of queue that RabbitMQ has, for QueueArguments.Type.
const (
	ClassicQueue = "classic"
	QuorumQueue  = "quorum" // replicated; durable, and not exclusive
	StreamQueue  = "stream" // an append-only log; consumed with a prefetch, an offset, and acknowledgements
)

// What a queue does when it is full, for QueueArguments.Overflow.
const (
	DropHead         = "drop-head"          // drop or dead-letter the oldest
	RejectPublish    = "reject-publish"     // refuse the newest (basic.nack)
	RejectPublishDLX = "reject-publish-dlx" // refuse and dead-letter it
)

// QueueArguments are the arguments of queue.declare that people use, with their
// types; Table makes the Queue.Arguments of them. Zero values are left out.
// Times are rounded up to what the broker counts in.
// https://www.rabbitmq.com/docs/queues#optional-arguments
type QueueArguments struct {
	Type                 string        // x-queue-type
	MessageTTL           time.Duration // x-message-ttl, milliseconds; negative: 0, expire unless delivered at once
	Expires              time.Duration // x-expires, milliseconds without use until the queue goes
	MaxLength            int           // x-max-length, messages
	MaxLengthBytes       int64         // x-max-length-bytes
	Overflow             string        // x-overflow
	DeadLetterExchange   string        // x-dead-letter-exchange; DeadLetterToDefault for ""
	DeadLetterRoutingKey string        // x-dead-letter-routing-key
	MaxPriority          uint8         // x-max-priority, of classic queues
	SingleActiveConsumer bool          // x-single-active-consumer
	DeliveryLimit        int           // x-delivery-limit, of quorum queues; negative: none
	MaxAge               string        // x-max-age, of streams, such as "7D"
	MaxSegmentBytes      int64         // x-stream-max-segment-size-bytes
	Other                Table         // whatever else; it wins over the fields
	// DeadLetterToDefault has DeadLetterExchange be the default exchange.
	DeadLetterToDefault bool
}

// Table is the arguments as the protocol has them.
func (a QueueArguments) Table() Table {
	t := Table{}
	setText(t, "x-queue-type", a.Type)
	setMilliseconds(t, "x-message-ttl", a.MessageTTL)
	setMilliseconds(t, "x-expires", a.Expires)
	setNumber(t, "x-max-length", int64(a.MaxLength))
	setNumber(t, "x-max-length-bytes", a.MaxLengthBytes)
	setText(t, "x-overflow", a.Overflow)
	setText(t, "x-dead-letter-exchange", a.DeadLetterExchange)
	if a.DeadLetterToDefault {
		t["x-dead-letter-exchange"] = ""
	}
	setText(t, "x-dead-letter-routing-key", a.DeadLetterRoutingKey)
	setNumber(t, "x-max-priority", int64(a.MaxPriority))
	if a.SingleActiveConsumer {
		t["x-single-active-consumer"] = true
	}
	setNumber(t, "x-delivery-limit", int64(max(a.DeliveryLimit, -1)))
	setText(t, "x-max-age", a.MaxAge)
	setNumber(t, "x-stream-max-segment-size-bytes", a.MaxSegmentBytes)
	maps.Copy(t, a.Other)
	return t
}

func setText(t Table, key, v string) {
	if v != "" {
		t[key] = v
	}
}

func setNumber(t Table, key string, v int64) {
	if v != 0 {
		t[key] = v
	}
}

func setMilliseconds(t Table, key string, d time.Duration) {
	if d != 0 {
		t[key] = int64((max(d, 0) + time.Millisecond - 1) / time.Millisecond)
	}
}

// Where a consumer of a stream may begin, for StreamFrom.
// https://www.rabbitmq.com/docs/streams#consuming
const (
	OffsetFirst = "first" // the oldest message there is
	OffsetLast  = "last"  // the newest chunk of messages
	OffsetNext  = "next"  // what is published from now on; the broker's default
)

// StreamFrom is Consume.Arguments for a stream from one of OffsetFirst, OffsetLast
// and OffsetNext.
func StreamFrom(offset string) Table { return Table{"x-stream-offset": offset} }

// StreamFromOffset begins with the message of that offset, counted from 0.
func StreamFromOffset(n int64) Table { return Table{"x-stream-offset": n} }

// StreamFromTime begins with the chunk of messages that holds t.
func StreamFromTime(t time.Time) Table { return Table{"x-stream-offset": t} }

// StreamFromAgo begins with what was published d ago, in whole seconds.
func StreamFromAgo(d time.Duration) Table {
	return Table{"x-stream-offset": strconv.FormatInt(int64(max(d, 0)/time.Second), 10) + "s"}
}

// StreamOffset is the message's offset in the stream that it was consumed from.
func (e *Envelope) StreamOffset() (offset int64, ok bool) {
	if e.Properties == nil {
		return 0, false
	}
	offset, ok = e.Properties.Headers["x-stream-offset"].(int64)
	return offset, ok
}

func (e *Envelope) isOfStream() bool {
	_, is := e.StreamOffset()
	return is
}
