package docs

import (
	"context"
	"fmt"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// What the worker of docs/amqp091 is here.
func Example_moveWorker() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		if err := publishJob(ctx, cfg); err != nil {
			return err
		}
		work := func(context.Context, []byte) error {
			broker.CloseConnections(320, "CONNECTION_FORCED - enough for an example")
			return nil
		}
		fmt.Println(worker(ctx, cfg, work))
		return nil
	})
	// Output: the broker closed the connection: 320 CONNECTION_FORCED - enough for an example
}

func worker(ctx context.Context, cfg amqp.Config, work func(context.Context, []byte) error) error {
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "jobs", Durable: true}); err != nil {
			return err
		}
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs", Prefetch: 20}, func(c *amqp.Consumer) error {
			return c.Process(1, func(ctx context.Context, body []byte, _ *amqp.Envelope) error {
				return work(ctx, body)
			})
		})
	})
}

func Example_moveConfirms() {
	onBroker(func(ctx context.Context, cfg amqp.Config, _ *amqptest.Broker) error {
		return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			fmt.Println(confirmed(ctx, ch, []byte("carrots")))
			return nil
		})
	})
	// Output: amqp: publish: message 1 to exchange "" with routing key "jobs": the message was returned as unroutable: 312 NO_ROUTE
}

func confirmed(ctx context.Context, ch *amqp.Channel, body []byte) error {
	if err := ch.Confirm(ctx); err != nil {
		return err
	}
	return ch.Publish(ctx, "", "jobs", amqp.Message{
		Properties: amqp.Properties{DeliveryMode: amqp.Persistent}, Body: body, Mandatory: true,
	})
}

// The signal stops the consumer; what is at work is finished.
func Example_moveCancel() {
	onBroker(func(ctx context.Context, cfg amqp.Config, _ *amqptest.Broker) error {
		return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			queue, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
			if err != nil {
				return err
			}
			return ch.WithConsumer(ctx, amqp.Consume{Queue: queue.Name}, func(c *amqp.Consumer) error {
				c.Stop() // basic.cancel comes with the end of this callback
				for range c.Messages() {
					fmt.Println("never")
				}
				fmt.Println(c.Err())
				return nil
			})
		})
	})
	// Output: <nil>
}
