package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/scope"
)

// The body runs again on each connection, and declares and consumes anew.
func ExampleSupervise() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		cfg.Logger = quiet // each new attempt is a warning without OnRetry
		connections := 0
		return amqp.Supervise(ctx, cfg, amqp.Retry{Min: time.Millisecond}, func(conn *amqp.Conn) error {
			connections++
			fmt.Println("connection", connections)
			if connections == 3 {
				return nil // done
			}
			broker.Sever() // somebody pulls the cable
			<-conn.Context().Done()
			return nil
		})
	})
	// Output:
	// connection 1
	// connection 2
	// connection 3
}

// OnRetry is told each failure. What waiting does not heal ends Supervise at once.
func ExampleRetry() {
	onBroker(func(ctx context.Context, cfg amqp.Config, _ *amqptest.Broker) error {
		cfg.Password = "wrong"
		retry := amqp.Retry{
			Min: 100 * time.Millisecond, Max: 10 * time.Second, Attempts: 5,
			OnRetry: func(attempt int, delay time.Duration, cause error) {
				fmt.Printf("attempt %d failed, the next is in %v: %v\n", attempt, delay, cause)
			},
		}
		err := amqp.Supervise(ctx, cfg, retry, func(*amqp.Conn) error { return nil })
		fmt.Println(errors.Is(err, amqp.AccessRefused))
		return nil
	})
	// Output: true
}

// An outbox lives outside of connections: whoever publishes waits for the broker's confirm, across their losses.
func ExampleOutbox() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		cfg.Logger = quiet
		outbox := amqp.NewOutbox(amqp.OutboxOptions{Mandatory: true})
		return scope.Run(ctx, func(s *scope.Scope) error {
			s.Go(func(ctx context.Context) error {
				return amqp.Supervise(ctx, cfg, amqp.Retry{Min: time.Millisecond}, func(conn *amqp.Conn) error {
					if err := declareOrders(conn); err != nil {
						return err
					}
					return outbox.Run(conn)
				})
			})
			for i, order := range []string{"carrots", "lettuce"} {
				if i == 1 {
					broker.Sever() // somebody pulls the cable
				}
				if err := outbox.Publish(s.Context(), "", "orders", amqp.Message{Body: []byte(order)}); err != nil {
					return err
				}
				fmt.Println("the broker has", order)
			}
			s.Cancel(nil) // ends Supervise
			return nil
		})
	})
	// Output:
	// the broker has carrots
	// the broker has lettuce
}

func declareOrders(conn *amqp.Conn) error {
	ctx := conn.Context()
	return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "orders", Durable: true})
		return err
	})
}

// Without a connection, publishing waits as long as its ctx allows, and says then that nothing was sent.
func ExampleOutbox_Publish() {
	outbox := amqp.NewOutbox(amqp.OutboxOptions{})
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	err := outbox.Publish(ctx, "", "orders", amqp.Message{Body: []byte("carrots")})
	fmt.Println(errors.Is(err, context.DeadlineExceeded), errors.Is(err, amqp.ErrUnconfirmed))
	fmt.Println(err)
	// Output:
	// true false
	// amqp: outbox: publish to exchange "" with routing key "orders": not sent: context deadline exceeded
}

func ExampleOutbox_Run() {
	onConn(func(ctx context.Context, conn *amqp.Conn) error {
		outbox := amqp.NewOutbox(amqp.OutboxOptions{})
		conn.Go(func(context.Context) error { return outbox.Run(conn) })
		err := outbox.Publish(ctx, "amq.fanout", "", amqp.Message{})
		conn.Cancel(nil)
		return err
	})
	// Output:
}

func ExampleOutbox_Len() {
	outbox := amqp.NewOutbox(amqp.OutboxOptions{Capacity: 100})
	fmt.Println(outbox.Len(), "messages wait for their confirm")
	// Output: 0 messages wait for their confirm
}

func ExampleNewOutbox() {
	onConn(func(ctx context.Context, conn *amqp.Conn) error {
		outbox := amqp.NewOutbox(amqp.OutboxOptions{Capacity: 10, Mandatory: true})
		conn.Go(func(context.Context) error { return outbox.Run(conn) })
		err := outbox.Publish(ctx, "", "nobody's queue", amqp.Message{})
		fmt.Println(errors.Is(err, amqp.ErrReturned))
		conn.Cancel(nil)
		return nil
	})
	// Output: true
}
