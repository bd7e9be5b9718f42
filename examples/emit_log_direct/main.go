// Emit_log_direct sends a log message with a severity, by which the direct
// exchange "direct_logs" chooses its listeners, ../receive_logs_direct.
//
//	go run ./examples/emit_log_direct error "Run. Run. Or it will explode."
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/examples/internal/demo"
)

var logs = amqp.Exchange{Name: "direct_logs", Kind: amqp.Direct, Durable: true}

func main() { demo.Publisher(emitLog, demo.PrintExchange(logs, "info")) }

func emitLog(ctx context.Context, cfg amqp.Config) error {
	severity, text := "info", "Hello World!"
	if len(os.Args) > 1 {
		severity = os.Args[1]
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
		if err := ch.Publish(ctx, logs.Name, severity, amqp.Message{Body: []byte(text)}); err != nil {
			return err
		}
		fmt.Printf("sent %q as %q\n", text, severity)
		return nil
	})
}
