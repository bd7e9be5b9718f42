// Send_with_return publishes a message that no queue takes, and gets it back.
package main

import (
	"context"
	"fmt"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/examples/internal/demo"
)

func main() { demo.Main(sendWithReturn) }

func sendWithReturn(ctx context.Context, cfg amqp.Config) error {
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		// Returns registers now, so that nothing is missed, and is ranged over later.
		returns := ch.Returns()

		msg := amqp.Message{Body: []byte("is anybody there?"), Mandatory: true}
		if err := ch.Publish(ctx, "", "a queue that does not exist", msg); err != nil {
			return err
		}
		for body, ret := range returns {
			fmt.Printf("returned %q: %v\n", body, ret.ReplyCode)
			break
		}

		// With confirms the call itself knows.
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		fmt.Println(ch.Publish(ctx, "", "a queue that does not exist", msg))
		return nil
	})
}
