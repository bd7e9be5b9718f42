package docs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/scope"
)

// quiet is for examples in which the client warns of what is meant to go wrong.
var quiet = slog.New(slog.DiscardHandler)

// onBroker runs an example with the configuration for a broker of its own.
func onBroker(example func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error) {
	broker := amqptest.NewBroker()
	defer broker.Close()
	cfg, err := amqp.ParseURI(broker.URI())
	if err == nil {
		cfg.Logger = quiet
		err = example(context.Background(), cfg, broker)
	}
	if err != nil {
		fmt.Println("failed:", err)
	}
}

func watch(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func listen(ctx context.Context, started func()) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	started()
	<-ctx.Done()
	return ctx.Err()
}

func Example_nursery() {
	ctx := context.Background()
	work := func(context.Context) error { return errors.New("out of paper") }
	err := scope.Run(ctx, func(s *scope.Scope) error {
		s.Go(watch)                             // a task beside the body
		if err := s.Start(listen); err != nil { // returns when listen says that it has started
			return err
		}
		return work(s.Context())
	})
	// Here watch and listen have returned, and err is what work failed with.
	fmt.Println(err)
	// Output: out of paper
}

// What happens at which end of a callback.
func Example_order() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		return amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
			err := conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				ch.Go(func(ctx context.Context) error {
					fmt.Println("2: its tasks are waited for")
					return nil
				})
				fmt.Println("1: the body returns")
				return nil
			})
			fmt.Println("3: the broker has closed the channel:", broker.Connections()[0].Channels == 0)
			return err
		})
	})
	// Unordered output:
	// 1: the body returns
	// 2: its tasks are waited for
	// 3: the broker has closed the channel: true
}

// save keeps what was begun.
func save(ctx context.Context, report string) error {
	fmt.Println("saved", report)
	return ctx.Err()
}

func Example_shield() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // the program is shutting down
	err := scope.Shield(ctx, 5*time.Second, func(ctx context.Context) error {
		return save(ctx, "half a report") // ctx lives for five seconds, whatever became of the outer one
	})
	fmt.Println(err)
	// Output:
	// saved half a report
	// <nil>
}

// A service: everything that it runs is in one scope.
func Example_service() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		connected := make(chan struct{})
		consume := func(conn *amqp.Conn) error { close(connected); <-conn.Context().Done(); return nil }
		outbox := amqp.NewOutbox(amqp.OutboxOptions{Mandatory: true})
		serveHTTP := func(ctx context.Context, outbox *amqp.Outbox) error {
			<-connected
			err := outbox.Publish(ctx, "", "nobody's", amqp.Message{})
			fmt.Println("the handler gets:", errors.Is(err, amqp.ErrReturned))
			return errors.New("somebody pressed Ctrl-C")
		}
		err := scope.Run(ctx, func(s *scope.Scope) error {
			s.Go(func(ctx context.Context) error {
				return amqp.Supervise(ctx, cfg, amqp.Retry{}, consume) // one connection to consume
			})
			s.Go(func(ctx context.Context) error {
				return amqp.Supervise(ctx, cfg, amqp.Retry{}, outbox.Run) // another one to publish
			})
			return serveHTTP(s.Context(), outbox)
		})
		fmt.Println(err, len(broker.Connections()))
		return nil
	})
	// Output:
	// the handler gets: true
	// somebody pressed Ctrl-C 0
}
