// Hello publishes a message, hears from the broker that it has it, and consumes
// it.
package main

import (
	"context"
	"fmt"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/examples/internal/demo"
)

func main() { demo.Main(hello) }

func hello(ctx context.Context, cfg amqp.Config) error {
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		// A queue of this connection alone, which the broker names.
		queue, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
		if err != nil {
			return err
		}
		// With confirms, Publish returns when the broker has the message.
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		msg := amqp.Message{Body: []byte("Hello, hare!"), Mandatory: true}
		if err := ch.Publish(ctx, "", queue.Name, msg); err != nil {
			return err
		}
		fmt.Println("published, and confirmed by the broker")

		return ch.WithConsumer(ctx, amqp.Consume{Queue: queue.Name}, func(c *amqp.Consumer) error {
			for body, env := range c.Messages() {
				fmt.Printf("received %q\n", body)
				return env.Ack()
			}
			return c.Err()
		})
	})
}
