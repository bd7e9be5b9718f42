package amqp_test

import (
	"fmt"
	"time"

	"github.com/leveret-mq/leveret/amqp"
)

// Where a consumer of a stream begins, for Consume.Arguments.
func ExampleStreamFrom() {
	consume := amqp.Consume{Queue: "events", Prefetch: 100, Arguments: amqp.StreamFrom(amqp.OffsetFirst)}
	fmt.Println(consume.Arguments)
	// Output: map[x-stream-offset:first]
}

func ExampleStreamFromOffset() {
	fmt.Println(amqp.StreamFromOffset(4711))
	// Output: map[x-stream-offset:4711]
}

func ExampleStreamFromTime() {
	fmt.Println(amqp.StreamFromTime(time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)))
	// Output: map[x-stream-offset:2026-07-01 12:00:00 +0000 UTC]
}

func ExampleStreamFromAgo() {
	fmt.Println(amqp.StreamFromAgo(90 * time.Minute))
	// Output: map[x-stream-offset:5400s]
}

// An offset that is kept lets a consumer go on where it was.
func ExampleEnvelope_StreamOffset() {
	env := &amqp.Envelope{Properties: &amqp.Properties{Headers: amqp.Table{"x-stream-offset": int64(4711)}}}
	if offset, ok := env.StreamOffset(); ok {
		fmt.Println("next time:", amqp.StreamFromOffset(offset+1))
	}
	// Output: next time: map[x-stream-offset:4712]
}
