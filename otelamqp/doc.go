// Package otelamqp tells OpenTelemetry what a program does with package amqp:
// traces that go through the broker with the message, and metrics, both by the
// semantic conventions for messaging and RabbitMQ.
//
// New instruments a Config, and its Instrumentation has a wrapper for each thing
// that a program does with messages:
//
//	telemetry, err := otelamqp.New(&cfg, otelamqp.Options{})
//	…
//	err := telemetry.Publish(ctx, ch, "orders", "new", msg)    // ch.Publish, or an Outbox's
//	err := telemetry.Process(c, 8, handle)                     // c.Process
//
// # Spans
//
// Publish and Send make a producer span, "publish orders:new", and put its context
// into the message's headers, unless there is one already, which is linked to
// then. Publish ends it with the broker's confirm on a channel with confirms.
//
// Process, Handle and Batch make a consumer span, "process orders:new:jobs", that
// links to the context in each message's headers. A span for one message is also
// the child of that context, unless there is a span in the context already, such
// as one around the whole consumer: it is the child of that then.
//
// # Metrics
//
// messaging.client.operation.duration and messaging.client.sent.messages are of
// what is published, messaging.client.consumed.messages and
// messaging.process.duration of what is handled. Their destination is the exchange
// or the queue alone: a routing key may have any number of values, and so may the
// name of a queue that the broker has named, which is left out.
//
// For the connections of the Config there are leveret.connections and, of those
// open now, leveret.connections.blocked, leveret.channels, leveret.consumers,
// leveret.calls.waiting, leveret.messages.unconfirmed and
// leveret.messages.unsettled, as amqp.Stats counts them. leveret.retries counts
// how often Supervise connected again, and leveret.publish.failures the messages
// that were nacked, returned or left unconfirmed, those of a Publisher and an
// Outbox included.
//
// # Errors
//
// error.type is one of nacked, returned, unconfirmed, drop, connection_closed,
// channel_closed, timeout, canceled and panic, a reply code of the broker's, such
// as 404, or the name of the error's Go type.
package otelamqp
