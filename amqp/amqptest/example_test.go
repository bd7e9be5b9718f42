package amqptest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/scope"
)

// sendOrder and fulfil are a program that is tested: one side of it publishes orders, the other handles them.
func sendOrder(ctx context.Context, cfg amqp.Config, order string) error {
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "orders", Durable: true}); err != nil {
			return err
		}
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		return ch.Publish(ctx, "", "orders", amqp.Message{Body: []byte(order), Mandatory: true})
	})
}

func fulfil(ctx context.Context, cfg amqp.Config, handle func(order string) error) error {
	return amqp.Supervise(ctx, cfg, amqp.Retry{}, func(conn *amqp.Conn) error {
		return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
			if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "orders", Durable: true}); err != nil {
				return err
			}
			return ch.WithConsumer(ctx, amqp.Consume{Queue: "orders"}, func(c *amqp.Consumer) error {
				return c.Process(4, func(_ context.Context, body []byte, _ *amqp.Envelope) error { return handle(string(body)) })
			})
		})
	})
}

func Example() {
	broker := amqptest.NewBroker()
	defer broker.Close()
	cfg, err := amqp.ParseURI(broker.URI())
	if err != nil {
		fmt.Println(err)
		return
	}

	err = sendOrder(context.Background(), cfg, "carrots")
	fmt.Println(err)
	for _, msg := range broker.Messages("orders") {
		fmt.Printf("%s\n", msg.Body)
	}
	// Output:
	// <nil>
	// carrots
}

// withBroker runs an example with a broker and the configuration for it.
func withBroker(example func(ctx context.Context, broker *amqptest.Broker, cfg amqp.Config), opts ...amqptest.Option) {
	broker := amqptest.NewBroker(opts...)
	defer broker.Close()
	example(context.Background(), broker, amqp.Config{Dial: broker.Dial, Logger: slog.New(slog.DiscardHandler)})
}

// A refusal that happens at a busy broker now and then happens in a test when it is asked for.
func ExampleBroker_NackNext() {
	withBroker(func(ctx context.Context, broker *amqptest.Broker, cfg amqp.Config) {
		broker.NackNext(1)
		err := sendOrder(ctx, cfg, "carrots")
		fmt.Println(errors.Is(err, amqp.ErrNacked), len(broker.Messages("orders")))
	})
	// Output: true 0
}

// The connection is lost at the worst of all times: the broker has the message, and its confirm does not arrive.
func ExampleBroker_On() {
	withBroker(func(ctx context.Context, broker *amqptest.Broker, cfg amqp.Config) {
		broker.On("basic.ack", func(e *amqptest.Event) amqptest.Action {
			if e.Direction == amqptest.ToClient {
				return amqptest.Sever()
			}
			return amqptest.Pass()
		})
		err := sendOrder(ctx, cfg, "carrots")
		fmt.Println(errors.Is(err, amqp.ErrUnconfirmed), len(broker.Messages("orders")))
	})
	// Output: true 1
}

// Wait in the place of sleeping: it asks again whenever something has changed in the broker.
func ExampleBroker_Wait() {
	withBroker(func(ctx context.Context, broker *amqptest.Broker, cfg amqp.Config) {
		err := scope.Run(ctx, func(s *scope.Scope) error {
			s.Go(func(ctx context.Context) error {
				return fulfil(ctx, cfg, func(order string) error {
					fmt.Println("fulfilled", order)
					return nil
				})
			})
			if err := sendOrder(s.Context(), cfg, "carrots"); err != nil {
				return err
			}
			err := broker.Wait(s.Context(), func() bool {
				q, _ := broker.Queue("orders")
				return q.Consumers == 1 && q.Ready+q.Unacked == 0 // handled, and acknowledged
			})
			s.Cancel(nil)
			return err
		})
		fmt.Println(err)
	})
	// Output:
	// fulfilled carrots
	// <nil>
}

// Somebody pulls the cable while an order is being handled. It is handled again.
func ExampleBroker_Sever() {
	withBroker(func(ctx context.Context, broker *amqptest.Broker, cfg amqp.Config) {
		if err := sendOrder(ctx, cfg, "carrots"); err != nil {
			fmt.Println(err)
			return
		}
		ctx, done := context.WithCancel(ctx)
		attempts := 0
		_ = fulfil(ctx, cfg, func(order string) error {
			if attempts++; attempts == 1 {
				broker.Sever()
			} else {
				done()
			}
			return nil
		})
		fmt.Println(attempts)
	})
	// Output: 2
}

// What RabbitMQ 4.3 refuses is refused before the upgrade, in a test.
func ExampleWithVersion() {
	withBroker(func(ctx context.Context, _ *amqptest.Broker, cfg amqp.Config) {
		err := amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "neither durable nor exclusive"})
			return err
		})
		fmt.Println(errors.Is(err, amqp.InternalError))
	}, amqptest.WithVersion(amqptest.V43))
	// Output: true
}

// A network that hands over byte by byte, and breaks in the middle of a frame.
func ExampleFaulty() {
	withBroker(func(ctx context.Context, broker *amqptest.Broker, cfg amqp.Config) {
		cfg.Dial = faulty(broker, amqptest.ConnFaults{ReadChunk: 1, CutAfterRead: 500})
		err := sendOrder(ctx, cfg, "carrots")
		fmt.Println(errors.Is(err, amqp.ErrConnectionClosed))
	})
	// Output: true
}

// An alarm: publishing waits as long as its ctx allows.
func ExampleBroker_Block() {
	withBroker(func(ctx context.Context, broker *amqptest.Broker, cfg amqp.Config) {
		broker.Block("low on memory")
		ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		err := sendOrder(ctx, cfg, "carrots")
		fmt.Println(errors.Is(err, context.DeadlineExceeded))
		broker.Unblock()
	})
	// Output: true
}
