package docs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// onNewBroker runs an example on what RabbitMQ 4.3 is like.
func onNewBroker(example func(ctx context.Context, ch *amqp.Channel, broker *amqptest.Broker) error, opts ...amqptest.Option) {
	broker := amqptest.NewBroker(append(opts, amqptest.WithVersion(amqptest.V43))...)
	defer broker.Close()
	cfg := amqp.Config{Dial: broker.Dial, Logger: slog.New(slog.DiscardHandler)}
	err := amqp.WithChannel(context.Background(), cfg, func(ch *amqp.Channel) error {
		return example(ch.Context(), ch, broker)
	})
	if err != nil {
		fmt.Println("failed:", err)
	}
}

// What may be declared on every RabbitMQ, the newest included.
func Example_declarations() {
	onNewBroker(func(ctx context.Context, ch *amqp.Channel, _ *amqptest.Broker) error {
		err := ch.Declare(ctx, amqp.Topology{Queues: []amqp.Queue{
			{Name: "jobs", Durable: true, Arguments: amqp.QueueArguments{Type: amqp.QuorumQueue, DeliveryLimit: 5}.Table()},
			{Name: "cache", Durable: true, Arguments: amqp.QueueArguments{Expires: time.Hour}.Table()}, // goes when nobody uses it
			{Name: "mine", Exclusive: true}, // goes with the connection
		}})
		fmt.Println(err)
		return err
	})
	// Output: <nil>
}

// A queue that is neither durable nor exclusive costs the connection.
func Example_transient() {
	onNewBroker(func(ctx context.Context, ch *amqp.Channel, _ *amqptest.Broker) error {
		_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "neither"})
		var said *amqp.Error
		fmt.Println(errors.As(err, &said) && said.Connection, errors.Is(err, amqp.InternalError))
		return nil
	})
	// Output: true true
}

// A message that takes too long costs the consumer, and no longer the channel.
func Example_consumerTimeout() {
	onNewBroker(func(ctx context.Context, ch *amqp.Channel, _ *amqptest.Broker) error {
		queue := amqp.Queue{Name: "jobs", Durable: true, Arguments: amqp.QueueArguments{Type: amqp.QuorumQueue}.Table()}
		if _, err := ch.QueueDeclare(ctx, queue); err != nil {
			return err
		}
		if err := ch.Publish(ctx, "", "jobs", amqp.Message{}); err != nil {
			return err
		}
		opts := amqp.Consume{
			Queue:     "jobs",
			Arguments: amqp.Table{"x-consumer-timeout": 60_000}, // milliseconds
		}
		opts.Arguments["x-consumer-timeout"] = 60 // an example has not got a minute
		err := ch.WithConsumer(ctx, opts, func(c *amqp.Consumer) error {
			for range c.Messages() { // and no settlement
			}
			return c.Err()
		})
		fmt.Println(errors.Is(err, amqp.ErrConsumerCancelled), ch.Context().Err())
		return nil
	})
	// Output: true <nil>
}
