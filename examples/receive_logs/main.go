// Receive_logs prints every log message that ../emit_log sends while it runs,
// until Ctrl-C.
package main

import (
	"context"
	"fmt"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/examples/internal/demo"
)

var logs = amqp.Exchange{Name: "logs", Kind: amqp.Fanout, Durable: true}

func main() {
	demo.Consumer(receiveLogs, demo.Publish(logs.Name, demo.Text{Body: "info: Hello World!"}))
}

func receiveLogs(ctx context.Context, cfg amqp.Config) error {
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		if err := ch.ExchangeDeclare(ctx, logs); err != nil {
			return err
		}
		// Each listener has a queue of its own, which goes when it goes.
		queue, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
		if err != nil {
			return err
		}
		if err := ch.QueueBind(ctx, amqp.Binding{Queue: queue.Name, Exchange: logs.Name}); err != nil {
			return err
		}
		return ch.WithConsumer(ctx, amqp.Consume{Queue: queue.Name}, func(c *amqp.Consumer) error {
			fmt.Println("waiting for logs; Ctrl-C ends this")
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
