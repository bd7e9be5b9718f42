package docs

import (
	"context"
	"errors"
	"fmt"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// onChannel runs an example on a channel that has a queue "jobs" with some messages.
func onChannel(jobs []string, example func(ctx context.Context, ch *amqp.Channel, broker *amqptest.Broker) error) {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "jobs", Durable: true}); err != nil {
				return err
			}
			for _, job := range jobs {
				if err := ch.Publish(ctx, "", "jobs", amqp.Message{Body: []byte(job)}); err != nil {
					return err
				}
			}
			return example(ctx, ch, broker)
		})
	})
}

// The safest way for a message: every switch that this takes.
func Example_safest() {
	onBroker(func(ctx context.Context, cfg amqp.Config, _ *amqptest.Broker) error {
		return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{
				Name:      "orders",
				Durable:   true,                                                // the queue survives a restart of the broker
				Arguments: amqp.QueueArguments{Type: amqp.QuorumQueue}.Table(), // and the loss of a node
			})
			if err != nil {
				return err
			}
			if err := ch.Confirm(ctx); err != nil { // Publish waits until the broker has the message
				return err
			}
			err = ch.Publish(ctx, "", "orders", amqp.Message{
				Body:      []byte("carrots"),
				Mandatory: true, // it is an error that no queue takes it
				Properties: amqp.Properties{
					DeliveryMode: amqp.Persistent, // it survives a restart of the broker
					MessageID:    "order-17",      // whoever gets it twice can tell
				},
			})
			fmt.Println(err)
			return err
		})
	})
	// Output: <nil>
}

func Example_outcomes() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel, broker *amqptest.Broker) error {
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		fmt.Println(publish(ctx, ch, "jobs"))
		fmt.Println(publish(ctx, ch, "jbos"))
		broker.NackNext(1)
		fmt.Println(publish(ctx, ch, "jobs"))

		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		broker.On("basic.ack", func(*amqptest.Event) amqptest.Action {
			cancel() // the time is up before the confirm comes
			return amqptest.Drop()
		})
		fmt.Println(publish(ctx, ch, "jobs"))
		fmt.Println(publish(ctx, ch, "jobs"))
		return nil
	})
	// Output:
	// done
	// check the routing key and the bindings
	// again, later
	// again, with the same message id
	// again
}

func publish(ctx context.Context, ch *amqp.Channel, queue string) string {
	msg := amqp.Message{Properties: amqp.Properties{MessageID: "order-17"}, Mandatory: true}
	switch err := ch.Publish(ctx, "", queue, msg); {
	case err == nil: // a queue has it
		return "done"
	case errors.Is(err, amqp.ErrReturned): // no queue takes it
		return "check the routing key and the bindings"
	case errors.Is(err, amqp.ErrNacked): // refused: the queue is full, say
		return "again, later"
	case errors.Is(err, amqp.ErrUnconfirmed): // it was sent, and nobody knows what became of it
		return "again, with the same message id"
	default: // it was not sent
		return "again"
	}
}
