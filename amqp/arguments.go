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

// How a quorum queue dead-letters, for QueueArguments.DeadLetterStrategy.
const (
	AtMostOnce  = "at-most-once"  // the default
	AtLeastOnce = "at-least-once" // with RejectPublish alone: until the other queue has it
)

// Where the leader of a quorum queue or a stream is made, and a classic queue, for
// QueueArguments.LeaderLocator.
const (
	ClientLocal = "client-local" // on the node that the client is connected to
	Balanced    = "balanced"
)

// Which messages a quorum queue holds back before it delivers them again, for
// QueueArguments.DelayedRetry.
const (
	RetryFailed   = "failed"   // those that count as a failed attempt: Reject, and Process's errors
	RetryReturned = "returned" // the others: Nack, and what Process gives back
	RetryAll      = "all"
)

// QueueArguments are the arguments of queue.declare that people use, with their
// types; Table makes the Queue.Arguments of them. Zero values are left out.
// Times are rounded up to what the broker counts in.
// https://www.rabbitmq.com/docs/queues#optional-arguments
type QueueArguments struct {
	Type                 string        // x-queue-type; without, what the virtual host's default is
	MessageTTL           time.Duration // x-message-ttl, milliseconds; negative: 0, expire unless delivered at once
	Expires              time.Duration // x-expires, milliseconds without use until the queue goes
	MaxLength            int           // x-max-length, messages
	MaxLengthBytes       int64         // x-max-length-bytes
	Overflow             string        // x-overflow
	DeadLetterExchange   string        // x-dead-letter-exchange; DeadLetterToDefault for ""
	DeadLetterRoutingKey string        // x-dead-letter-routing-key
	DeadLetterStrategy   string        // x-dead-letter-strategy, of quorum queues
	MaxPriority          uint8         // x-max-priority, of classic queues
	SingleActiveConsumer bool          // x-single-active-consumer
	DeliveryLimit        int           // x-delivery-limit, of quorum queues; negative: none
	LeaderLocator        string        // x-queue-leader-locator
	InitialGroupSize     int           // x-quorum-initial-group-size, members of a quorum queue
	InitialClusterSize   int           // x-initial-cluster-size, members of a stream
	MaxAge               string        // x-max-age, of streams, such as "7D"
	MaxSegmentBytes      int64         // x-stream-max-segment-size-bytes
	FilterBytes          uint8         // x-stream-filter-size-bytes, from 16 on, of streams
	// ConsumerTimeout is x-consumer-timeout, of quorum queues since RabbitMQ 4.3, in
	// milliseconds: how long a delivery may stay unsettled.
	ConsumerTimeout time.Duration
	// DelayedRetry is x-delayed-retry-type, of quorum queues since RabbitMQ 4.3:
	// what is delivered again waits for DelayedRetryMin (x-delayed-retry-min, to be
	// set with it, milliseconds) times its deliveries, DelayedRetryMax at most.
	DelayedRetry                     string
	DelayedRetryMin, DelayedRetryMax time.Duration
	// Other is whatever else there is; it wins over the fields. RabbitMQ 4.3 and
	// later refuse x-queue-mode, x-queue-master-locator and an x-queue-version of 1.
	Other Table
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
	setText(t, "x-dead-letter-strategy", a.DeadLetterStrategy)
	setNumber(t, "x-max-priority", int64(a.MaxPriority))
	if a.SingleActiveConsumer {
		t["x-single-active-consumer"] = true
	}
	setNumber(t, "x-delivery-limit", int64(max(a.DeliveryLimit, -1)))
	setText(t, "x-max-age", a.MaxAge)
	setNumber(t, "x-stream-max-segment-size-bytes", a.MaxSegmentBytes)
	setNumber(t, "x-stream-filter-size-bytes", int64(a.FilterBytes))
	setText(t, "x-queue-leader-locator", a.LeaderLocator)
	setNumber(t, "x-quorum-initial-group-size", int64(a.InitialGroupSize))
	setNumber(t, "x-initial-cluster-size", int64(a.InitialClusterSize))
	setMilliseconds(t, "x-consumer-timeout", a.ConsumerTimeout)
	setText(t, "x-delayed-retry-type", a.DelayedRetry)
	setMilliseconds(t, "x-delayed-retry-min", a.DelayedRetryMin)
	setMilliseconds(t, "x-delayed-retry-max", a.DelayedRetryMax)
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

// Where a consumer of a stream may begin, for StreamFrom. Have every one say so, by
// OffsetNext as well: without, the client takes the stream for a queue, and before 4.0
// RabbitMQ closes the connection with NotImplemented when it gives a message back.
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

// StreamOffset is the message's offset in the stream that it was consumed from. On a
// message from a queue it is what its publisher wrote there.
func (e *Envelope) StreamOffset() (offset int64, ok bool) {
	if e.Properties == nil {
		return 0, false
	}
	offset, ok = e.Properties.Headers["x-stream-offset"].(int64)
	return offset, ok
}

// ofStream tells whether a stream is consumed. A message's header does not tell
// it: whoever publishes to an ordinary queue may set that, too.
func (o *Consume) ofStream() bool {
	_, is := o.Arguments["x-stream-offset"]
	return is
}
