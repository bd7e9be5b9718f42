// Send puts one message into the queue "hello", from which ../receive takes it.
package main

import (
	"context"
	"fmt"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/examples/internal/demo"
)

func main() { demo.Publisher(send, demo.PrintQueue("hello")) }

func send(ctx context.Context, cfg amqp.Config) error {
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		// Both sides declare the queue, so that either may be started first.
		queue, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "hello", Durable: true})
		if err != nil {
			return err
		}
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		// The default exchange, "", routes to the queue that the routing key names.
		if err := ch.Publish(ctx, "", queue.Name, amqp.Message{Body: []byte("Hello World!")}); err != nil {
			return err
		}
		fmt.Println(`sent "Hello World!"`)
		return nil
	})
}
