// Receive prints what comes to the queue "hello", into which ../send puts it,
// until Ctrl-C.
package main

import (
	"context"
	"fmt"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/examples/internal/demo"
)

func main() {
	demo.Consumer(receive, demo.Publish("", demo.Text{RoutingKey: "hello", Body: "Hello World!"}))
}

func receive(ctx context.Context, cfg amqp.Config) error {
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		queue, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "hello", Durable: true})
		if err != nil {
			return err
		}
		return ch.WithConsumer(ctx, amqp.Consume{Queue: queue.Name}, func(c *amqp.Consumer) error {
			fmt.Println("waiting for messages; Ctrl-C ends this")
			for body, env := range c.Messages() {
				fmt.Printf("received %q\n", body)
				if err := env.Ack(); err != nil {
					return err
				}
			}
			return c.Err()
		})
	})
}
