package docs

import (
	"context"
	"fmt"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// The first program of trio-amqp's documentation.
func Example_trioHello() {
	onBroker(func(ctx context.Context, cfg amqp.Config, _ *amqptest.Broker) error {
		return amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
			return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				queue, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "my_queue", Durable: true})
				if err != nil {
					return err
				}
				if err := ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "my_exch", Kind: amqp.Topic}); err != nil {
					return err
				}
				if err := ch.QueueBind(ctx, amqp.Binding{Queue: queue.Name, Exchange: "my_exch", RoutingKey: "hello.*"}); err != nil {
					return err
				}
				if err := ch.Publish(ctx, "my_exch", "hello.there", amqp.Message{Body: []byte("hello")}); err != nil {
					return err
				}
				return ch.WithConsumer(ctx, amqp.Consume{Queue: queue.Name}, func(c *amqp.Consumer) error {
					for body, env := range c.Messages() {
						fmt.Printf("%s from %s\n", body, env.RoutingKey)
						return env.Ack()
					}
					return c.Err()
				})
			})
		})
	})
	// Output: hello from hello.there
}

// A task that takes what comes back, and that is listening before anything is published.
func Example_trioReturns() {
	onBroker(func(ctx context.Context, cfg amqp.Config, _ *amqptest.Broker) error {
		return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			returns := ch.Returns() // from here on nothing is missed
			ch.Go(func(context.Context) error {
				for body, ret := range returns {
					fmt.Printf("%s came back: %s\n", body, ret.ReplyText)
					ch.Cancel(nil) // enough for an example
				}
				return nil
			})
			return ch.Publish(ctx, "", "nobody's", amqp.Message{Body: []byte("hello"), Mandatory: true})
		})
	})
	// Output: hello came back: NO_ROUTE
}
