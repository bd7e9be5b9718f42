// Hello publishes a message and consumes it. It talks to the broker of AMQP_URL,
// or to a RabbitMQ on this machine.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/leveret-mq/leveret/amqp"
)

func main() {
	log.SetFlags(0)
	if err := hello(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func hello(ctx context.Context) error {
	var cfg amqp.Config
	if uri := os.Getenv("AMQP_URL"); uri != "" {
		var err error
		if cfg, err = amqp.ParseURI(uri); err != nil {
			return err
		}
	}
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		queue, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
		if err != nil {
			return err
		}
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
