// Emit_log sends a log message to everybody who listens: the fanout exchange
// "logs" copies it to the queue of each running ../receive_logs. Nobody may be
// listening, and then it is gone.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/examples/internal/demo"
)

var logs = amqp.Exchange{Name: "logs", Kind: amqp.Fanout, Durable: true}

func main() { demo.Publisher(emitLog, demo.PrintExchange(logs, "")) }

func emitLog(ctx context.Context, cfg amqp.Config) error {
	text := strings.Join(os.Args[1:], " ")
	if text == "" {
		text = "info: Hello World!"
	}
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		if err := ch.ExchangeDeclare(ctx, logs); err != nil {
			return err
		}
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		if err := ch.Publish(ctx, logs.Name, "", amqp.Message{Body: []byte(text)}); err != nil {
			return err
		}
		fmt.Printf("sent %q\n", text)
		return nil
	})
}
