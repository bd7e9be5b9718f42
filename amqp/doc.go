// Package amqp is a client for AMQP 0-9-1, the protocol of RabbitMQ, with
// structured concurrency: connections, channels, consumers and publishers are
// scopes. Each lives in a callback, and when the With… function that was given the
// callback returns, everything in it has ended.
//
//	err := amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
//		return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
//			return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs"}, func(c *amqp.Consumer) error {
//				for body, env := range c.Messages() {
//					if err := work(c.Context(), body); err != nil {
//						return err
//					}
//					if err := env.Ack(); err != nil {
//						return err
//					}
//				}
//				return c.Err()
//			})
//		})
//	})
//
// # Connecting
//
// [WithConnection] takes a [Config], by hand or from [ParseURI]. [Supervise] does
// the same again and again: what the callback declares and consumes, it declares
// and consumes anew on the next connection. [WithChannel] is a connection with one
// channel, for small programs.
//
// # Declaring
//
// There is a struct for each method, named as the protocol names it:
// [Channel.QueueDeclare] takes a [Queue], [Channel.QueueBind] a [Binding].
// [Channel.Declare] sends a whole [Topology] in one round trip, [QueueArguments]
// has the arguments of queues with their types, and [Conn.QueueStatus] looks
// whether a queue is there without losing a channel over it.
//
// # Publishing
//
// [Channel.Publish] sends and goes on; after [Channel.Confirm] it waits until the
// broker has the message. [Channel.WithPublisher] has many unconfirmed messages
// under way, and does not end before each has its outcome. An [Outbox] publishes
// from outside of connections, across their losses. Messages that no queue takes
// come back to their publishers when they are mandatory, and to [Channel.Returns].
// [Channel.WithTx] makes a transaction of what is published and settled in it.
//
// # Consuming
//
// [Channel.WithConsumer] gives a [Consumer], whose [Consumer.Messages] is ranged
// over, one by one, or in [Consumer.Batches], or handled by several workers with
// [Consumer.Process]. An [Envelope] settles its message. Acknowledgements are sent
// soon, many in one frame, and the end of the scope makes sure that they arrived.
// [Consumer.Stop] begins a graceful end.
//
// # Watching and testing
//
// What goes wrong without being an error of a call is a warning on Config.Logger.
// Config.Trace has hooks, [Conn.Stats] counts. Package amqp/rpc is request and
// reply, and package amqp/amqptest a broker for tests, without a network, too.
//
// # Errors
//
// What the broker says is an [*Error], found by its [ReplyCode]:
// errors.Is(err, amqp.NotFound). An exception that answers a call is that call's
// error; one that nobody was told comes out of the With… function. What dies,
// cancels: everything in the scope of a channel or connection that was lost ends,
// with the reason as context.Cause.
//
// # Guarantees
//
//   - Nothing outlives its scope: no goroutine, no buffer, no object at the broker.
//   - The caller's cancellation ends waits and ranges, and closes nothing by itself:
//     until the callback has returned, the message in hand can still be settled.
//   - Every call that can block takes a ctx, and abandoning it leaves the channel
//     usable.
//   - Everything is safe for concurrent use unless its documentation says otherwise.
//   - Received bytes belong to the receiver, for as long as it likes. Those handed to
//     Publish are the caller's again when it returns.
package amqp
