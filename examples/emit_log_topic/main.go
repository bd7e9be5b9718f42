// Emit_log_topic sends a log message with a topic of several words, "facility.severity",
// by which the topic exchange "topic_logs" chooses its listeners,
// ../receive_logs_topic.
//
//	go run ./examples/emit_log_topic kern.critical "A critical kernel error"
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/examples/internal/demo"
)

var logs = amqp.Exchange{Name: "topic_logs", Kind: amqp.Topic, Durable: true}

func main() { demo.Publisher(emitLog, demo.PrintExchange(logs, "#")) }

func emitLog(ctx context.Context, cfg amqp.Config) error {
	topic, text := "anonymous.info", "Hello World!"
	if len(os.Args) > 1 {
		topic = os.Args[1]
	}
	if len(os.Args) > 2 {
		text = strings.Join(os.Args[2:], " ")
	}
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		if err := ch.ExchangeDeclare(ctx, logs); err != nil {
			return err
		}
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		if err := ch.Publish(ctx, logs.Name, topic, amqp.Message{Body: []byte(text)}); err != nil {
			return err
		}
		fmt.Printf("sent %q as %q\n", text, topic)
		return nil
	})
}
