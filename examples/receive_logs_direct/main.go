// Receive_logs_direct prints the log messages of some severities that
// ../emit_log_direct sends, until Ctrl-C.
//
//	go run ./examples/receive_logs_direct warning error
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/examples/internal/demo"
)

var logs = amqp.Exchange{Name: "direct_logs", Kind: amqp.Direct, Durable: true}

func main() {
	demo.Consumer(receiveLogs, demo.Publish(logs.Name,
		demo.Text{RoutingKey: "info", Body: "all is well"},
		demo.Text{RoutingKey: "debug", Body: "which nobody asked for"},
		demo.Text{RoutingKey: "warning", Body: "the disk is nearly full"},
	))
}

func receiveLogs(ctx context.Context, cfg amqp.Config) error {
	severities := os.Args[1:]
	if len(severities) == 0 {
		severities = []string{"info", "warning"}
	}
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		if err := ch.ExchangeDeclare(ctx, logs); err != nil {
			return err
		}
		queue, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
		if err != nil {
			return err
		}
		for _, severity := range severities {
			if err := ch.QueueBind(ctx, amqp.Binding{Queue: queue.Name, Exchange: logs.Name, RoutingKey: severity}); err != nil {
				return err
			}
		}
		return ch.WithConsumer(ctx, amqp.Consume{Queue: queue.Name}, func(c *amqp.Consumer) error {
			fmt.Printf("waiting for logs of %q; Ctrl-C ends this\n", severities)
			for body, env := range c.Messages() {
				fmt.Printf("received %q as %q\n", body, env.RoutingKey)
				if err := env.Ack(); err != nil {
					return err
				}
			}
			return c.Err()
		})
	})
}
