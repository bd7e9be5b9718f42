// Receive_logs_topic prints the log messages that ../emit_log_topic sends and
// whose topic matches one of some patterns, until Ctrl-C. A * stands for one word,
// a # for any number of words.
//
//	go run ./examples/receive_logs_topic "kern.*" "*.critical"
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/examples/internal/demo"
)

var logs = amqp.Exchange{Name: "topic_logs", Kind: amqp.Topic, Durable: true}

func main() {
	demo.Consumer(receiveLogs, demo.Publish(logs.Name,
		demo.Text{RoutingKey: "kern.info", Body: "a new disk"},
		demo.Text{RoutingKey: "cron.info", Body: "which nobody asked for"},
		demo.Text{RoutingKey: "cron.critical", Body: "no more time"},
	))
}

func receiveLogs(ctx context.Context, cfg amqp.Config) error {
	patterns := os.Args[1:]
	if len(patterns) == 0 {
		patterns = []string{"kern.*", "*.critical"}
	}
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		if err := ch.ExchangeDeclare(ctx, logs); err != nil {
			return err
		}
		queue, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
		if err != nil {
			return err
		}
		for _, pattern := range patterns {
			if err := ch.QueueBind(ctx, amqp.Binding{Queue: queue.Name, Exchange: logs.Name, RoutingKey: pattern}); err != nil {
				return err
			}
		}
		return ch.WithConsumer(ctx, amqp.Consume{Queue: queue.Name}, func(c *amqp.Consumer) error {
			fmt.Printf("waiting for logs of %q; Ctrl-C ends this\n", patterns)
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
