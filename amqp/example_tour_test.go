package amqp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// work is what a program does with a message.
func work(_ context.Context, body []byte) error {
	fmt.Printf("%s\n", body)
	if bytes.Equal(body, []byte("three")) {
		return errEnough
	}
	return nil
}

var errEnough = errors.New("enough for an example")

// One message after the other.
func Example_consuming() {
	onChannel(jobs, func(ctx context.Context, ch *amqp.Channel) error {
		err := ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs", Prefetch: 20}, func(c *amqp.Consumer) error {
			for body, env := range c.Messages() {
				if err := work(c.Context(), body); err != nil {
					return err // the message goes back to the queue
				}
				if err := env.Ack(); err != nil {
					return err
				}
			}
			return c.Err()
		})
		fmt.Println(err)
		return nil
	})
	// Output:
	// one
	// two
	// three
	// enough for an example
}

// Several workers, and each message settled by how its handler ended.
func Example_workers() {
	onChannel([]string{"one"}, func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs", Prefetch: 20}, func(c *amqp.Consumer) error {
			work := func(ctx context.Context, body []byte) error {
				c.Stop() // enough for an example
				return work(ctx, body)
			}
			return c.Process(8, func(ctx context.Context, body []byte, env *amqp.Envelope) error {
				return work(ctx, body) // nil: ack; an error: again; one that wraps amqp.Drop: dead-letter
			})
		})
	})
	// Output: one
}

// Many messages with their confirms.
func Example_publishing() {
	orders := []string{"carrots", "lettuce"}
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		err := ch.WithPublisher(ctx, amqp.PublisherOptions{Mandatory: true}, func(p *amqp.Publisher) error {
			for _, order := range orders {
				msg := amqp.Message{Properties: amqp.Properties{DeliveryMode: amqp.Persistent}, Body: []byte(order)}
				if _, err := p.Publish(ctx, "", "jobs", msg); err != nil {
					return err
				}
			}
			return nil
		})
		fmt.Println(err) // nil: a queue has every one of them
		return nil
	})
	// Output: <nil>
}

// What the body declares and consumes, it declares and consumes again on the next connection.
func Example_reconnecting() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		cfg.Logger = quiet
		connections := 0
		consume := func(ctx context.Context, _ *amqp.Channel) error {
			if connections++; connections == 2 {
				return nil
			}
			broker.Sever() // somebody pulls the cable
			<-ctx.Done()
			return context.Cause(ctx)
		}
		err := amqp.Supervise(ctx, cfg, amqp.Retry{Max: 10 * time.Second}, func(conn *amqp.Conn) error {
			return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
				if _, err := ch.QueueDeclare(ch.Context(), amqp.Queue{Name: "jobs", Durable: true}); err != nil {
					return err
				}
				return consume(ch.Context(), ch)
			})
		})
		fmt.Println(connections, err)
		return nil
	})
	// Output: 2 <nil>
}

// A hundred messages, one insert, one acknowledgement.
func Example_batches() {
	insert := func(b *amqp.Batch) error {
		for body := range b.All() {
			fmt.Printf("%s\n", body)
		}
		return errEnough
	}
	onChannel([]string{"row"}, func(ctx context.Context, ch *amqp.Channel) error {
		err := ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs", Prefetch: 500}, func(c *amqp.Consumer) error {
			for batch := range c.Batches(100, 50*time.Millisecond) {
				if err := insert(batch); err != nil {
					return err
				}
				if err := batch.Ack(); err != nil {
					return err
				}
			}
			return c.Err()
		})
		fmt.Println(err)
		return nil
	})
	// Output:
	// row
	// enough for an example
}

// A program's tests bring their broker, and its failures.
func Example_testing() {
	broker := amqptest.NewBroker()
	defer broker.Close()
	cfg, _ := amqp.ParseURI(broker.URI())

	broker.NackNext(1) // the broker refuses the next message
	err := sendOrder(context.Background(), cfg, "carrots")
	fmt.Println(errors.Is(err, amqp.ErrNacked), len(broker.Messages("orders")))

	err = sendOrder(context.Background(), cfg, "lettuce")
	fmt.Println(err, len(broker.Messages("orders")))
	// Output:
	// true 0
	// <nil> 1
}

// sendOrder is what is tested.
func sendOrder(ctx context.Context, cfg amqp.Config, order string) error {
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "orders", Durable: true}); err != nil {
			return err
		}
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		return ch.Publish(ctx, "", "orders", amqp.Message{Body: []byte(order)})
	})
}
