package rpc

import (
	"context"
	"fmt"

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
func Serve(ctx context.Context, ch *amqp.Channel, queue string, workers int, handle func(ctx context.Context, body []byte, env *amqp.Envelope) (amqp.Message, error)) error {
	return ch.WithConsumer(ctx, amqp.Consume{Queue: queue, Prefetch: max(workers, 1)}, func(c *amqp.Consumer) error {
		return c.Process(workers, func(ctx context.Context, body []byte, env *amqp.Envelope) error {
			reply, err := handle(ctx, body, env)
			if err != nil || env.Properties.ReplyTo == "" {
				return err
			}
			reply.Properties.CorrelationID = env.Properties.CorrelationID
			if err := ch.Publish(ctx, "", env.Properties.ReplyTo, reply); err != nil {
				return fmt.Errorf("rpc: reply: %w", err)
			}
			return nil
		})
	})
}
