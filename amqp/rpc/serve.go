package rpc

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/leveret-mq/leveret/amqp"
)

// Serve consumes requests from queue, calls handle for each in as many goroutines
// as workers says, and sends what it returns to where the request says. It returns
// when ctx ends, with its cause, or when the consumer, the channel or the
// connection has ended, with why.
//
// A request is settled as amqp.Consumer.Process settles: after its reply has been
// sent it is acknowledged; when handle fails it is rejected and comes again, or,
// if the error wraps amqp.Drop, is dead-lettered or dropped, and nobody is
// answered. So a failure that the caller should hear of is a reply like any other.
// A request without ReplyTo is handled and not answered; a reply to somebody who
// has gone is dropped by the broker.
//
// A request that was delivered before, and is to be answered directly (ReplyTo
// begins with amq.rabbitmq.reply-to.), is acknowledged just before its reply is
// sent. There are such names at which RabbitMQ 3.10.8 ends the connection, and who
// may send requests can choose one; this way it costs two connections, where else
// the request would come again for ever. A reply that can't be sent then, or whose
// server dies just then, is lost, and its caller waits until its ctx ends.
//
// When ctx ends, no request is begun any more, and handlers are told by theirs.
// What a handler returns all the same is sent, and its request acknowledged, before
// Serve returns; a broker that takes no messages is waited for no longer than five
// seconds. A request whose handler gives up waits for another server.
func Serve(ctx context.Context, ch *amqp.Channel, queue string, workers int, handle func(ctx context.Context, body []byte, env *amqp.Envelope) (amqp.Message, error)) error {
	return ch.WithConsumer(ctx, amqp.Consume{Queue: queue, Prefetch: max(workers, 1)}, func(c *amqp.Consumer) error {
		return c.Process(workers, func(ctx context.Context, body []byte, env *amqp.Envelope) error {
			reply, err := handle(ctx, body, env)
			if err != nil || env.Properties.ReplyTo == "" {
				return err
			}
			reply.Properties.CorrelationID = env.Properties.CorrelationID
			once := isSuspect(env)
			if once {
				_ = env.Ack() // what keeps it from being sent keeps the reply as well
			}
			err = send(ctx, ch, env.Properties.ReplyTo, reply)
			switch {
			case err != nil && once:
				return fmt.Errorf("rpc: reply to a request that came again: %w: %w", err, amqp.Drop)
			case err != nil:
				return fmt.Errorf("rpc: reply: %w", err)
			}
			return nil
		})
	})
}

// isSuspect tells whether the reply to a request may be what ended the connection
// of the server that had it before.
func isSuspect(env *amqp.Envelope) bool {
	return env.Redelivered && strings.HasPrefix(env.Properties.ReplyTo, replyTo+".")
}

// grace is how long after the end of a Serve's ctx a reply may take to get out.
const grace = 5 * time.Second

// send publishes a reply. The end of ctx does not cut that off, or the work would
// be done again by another server.
func send(ctx context.Context, ch *amqp.Channel, to string, reply amqp.Message) error {
	live, giveUp := context.WithCancelCause(context.WithoutCancel(ctx))
	defer giveUp(nil)
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(grace, func() { giveUp(context.Cause(ctx)) })
		context.AfterFunc(live, func() { timer.Stop() })
	})
	defer stop()
	return ch.Publish(live, "", to, reply)
}
