package amqp_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// Publish a message, and consume it.
func Example() {
	broker := amqptest.NewBroker() // a broker inside the program; or take the address of a RabbitMQ
	defer broker.Close()
	cfg, err := amqp.ParseURI(broker.URI())
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()

	err = amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		queue, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
		if err != nil {
			return err
		}
		if err := ch.Confirm(ctx); err != nil { // Publish returns when the broker has the message
			return err
		}
		if err := ch.Publish(ctx, "", queue.Name, amqp.Message{Body: []byte("Hello, hare!")}); err != nil {
			return err
		}
		return ch.WithConsumer(ctx, amqp.Consume{Queue: queue.Name}, func(c *amqp.Consumer) error {
			for body, env := range c.Messages() {
				fmt.Printf("%s\n", body)
				return env.Ack()
			}
			return c.Err()
		})
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: Hello, hare!
}

// onBroker runs an example with the configuration for a broker of its own. It prints what fails, and what the client
// logs, where an example's output is looked at.
func onBroker(example func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error) {
	broker := amqptest.NewBroker()
	defer broker.Close()
	cfg, err := amqp.ParseURI(broker.URI())
	if err == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
			ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey && len(groups) == 0 {
					return slog.Attr{} // an example prints the same at all times
				}
				return a
			},
		}))
		err = example(context.Background(), cfg, broker)
	}
	if err != nil {
		fmt.Println("failed:", err)
	}
}

// quiet is for examples of what the client warns of.
var quiet = slog.New(slog.DiscardHandler)

// onConn runs an example on a connection.
func onConn(example func(ctx context.Context, conn *amqp.Conn) error) {
	onBroker(func(ctx context.Context, cfg amqp.Config, _ *amqptest.Broker) error {
		return amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error { return example(ctx, conn) })
	})
}

// onChannel runs an example on a channel that has a queue "jobs" with some messages.
func onChannel(jobs []string, example func(ctx context.Context, ch *amqp.Channel) error) {
	onConn(func(ctx context.Context, conn *amqp.Conn) error {
		return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
			if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "jobs", Durable: true}); err != nil {
				return err
			}
			for _, job := range jobs {
				if err := ch.Publish(ctx, "", "jobs", amqp.Message{Body: []byte(job)}); err != nil {
					return err
				}
			}
			return example(ctx, ch)
		})
	})
}
