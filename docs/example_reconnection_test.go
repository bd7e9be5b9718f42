package docs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/scope"
)

// A worker that survives its connections.
func Example_worker() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		if err := publishJob(ctx, cfg); err != nil {
			return err
		}
		consumers := 0
		broker.On("basic.consume", func(*amqptest.Event) amqptest.Action {
			if consumers++; consumers == 1 {
				return amqptest.Sever() // somebody pulls the cable
			}
			return amqptest.Pass()
		})
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		log := quiet
		handle := func(context.Context, []byte, *amqp.Envelope) error { stop(); return nil }

		worker := func(conn *amqp.Conn) error {
			ctx := conn.Context()
			return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "jobs", Durable: true}); err != nil {
					return err
				}
				return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs"}, func(c *amqp.Consumer) error {
					return c.Process(8, handle)
				})
			})
		}
		retry := amqp.Retry{
			Min: 50 * time.Millisecond, Max: 10 * time.Second,
			OnRetry: func(attempt int, delay time.Duration, cause error) {
				log.Warn("connecting again", "attempt", attempt, "delay", delay, "cause", cause)
			},
		}
		err := amqp.Supervise(ctx, cfg, retry, worker)
		fmt.Println(consumers, err)
		return nil
	})
	// Output: 2 context canceled
}

func publishJob(ctx context.Context, cfg amqp.Config) error {
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "jobs", Durable: true}); err != nil {
			return err
		}
		return ch.Publish(ctx, "", "jobs", amqp.Message{})
	})
}

// An error of the body's own ends Supervise. One that the loss made does not, if it wraps the reason.
func Example_ownError() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		for _, wrap := range []bool{true, false} {
			attempts := 0
			err := amqp.Supervise(ctx, cfg, amqp.Retry{Min: time.Millisecond, Attempts: 2}, func(conn *amqp.Conn) error {
				attempts++
				broker.Sever()
				<-conn.Context().Done()
				err := context.Cause(conn.Context())
				if wrap {
					return fmt.Errorf("the report is not finished: %w", err) // a loss: again
				}
				return errors.New("the report is not finished") // a failure of its own: that was it
			})
			fmt.Println(attempts, err != nil)
		}
		return nil
	})
	// Output:
	// 2 true
	// 1 true
}

// A consumer that the broker ended, since its queue was deleted or moved, is started again on the same connection.
func Example_cancelled() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		var consumers atomic.Int32
		handle := func(context.Context, []byte, *amqp.Envelope) error { return nil }
		consume := func(ctx context.Context, ch *amqp.Channel) error {
			queue, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "jobs", Durable: true})
			if err != nil {
				return err
			}
			return ch.WithConsumer(ctx, amqp.Consume{Queue: queue.Name}, func(c *amqp.Consumer) error {
				if consumers.Add(1) == 2 {
					c.Stop()
				} else {
					broker.CancelConsumers("jobs")
				}
				return c.Process(8, handle)
			})
		}
		err := amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			for {
				err := consume(ctx, ch)
				if !errors.Is(err, amqp.ErrConsumerCancelled) {
					return err
				}
				select { // a queue whose node is gone may take a while to come back
				case <-time.After(100 * time.Millisecond):
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
		})
		fmt.Println(consumers.Load(), err)
		return nil
	})
	// Output: 2 <nil>
}

// An outbox lives outside of connections.
func Example_outbox() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		outbox := amqp.NewOutbox(amqp.OutboxOptions{Mandatory: true})
		return scope.Run(ctx, func(s *scope.Scope) error {
			s.Go(func(ctx context.Context) error {
				return amqp.Supervise(ctx, cfg, amqp.Retry{Min: time.Millisecond}, func(conn *amqp.Conn) error {
					if err := declareJobs(conn); err != nil {
						return err
					}
					return outbox.Run(conn)
				})
			})
			for range 3 {
				broker.Sever()
				if err := outbox.Publish(s.Context(), "", "jobs", amqp.Message{}); err != nil {
					return err
				}
			}
			fmt.Println("the broker has all three")
			s.Cancel(nil)
			return nil
		})
	})
	// Output: the broker has all three
}

func declareJobs(conn *amqp.Conn) error {
	ctx := conn.Context()
	return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "jobs", Durable: true})
		return err
	})
}

// The nodes of a cluster, in another order in each instance of the program.
func Example_nodes() {
	nodes := []string{"rabbit-1.example.com", "rabbit-2.example.com", "rabbit-3.example.com"}
	cfg, err := amqp.ParseURI("amqps://shop:secret@rabbit.example.com/shop?heartbeat=10")
	if err != nil {
		fmt.Println(err)
		return
	}
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	cfg.Host, cfg.Endpoints = nodes[0], nodes[1:]
	cfg.DialTimeout = 5 * time.Second // for each node
	fmt.Println(len(cfg.Endpoints), cfg.VirtualHost)
	// Output: 2 shop
}

// Every node that failed is named.
func Example_unreachable() {
	cfg := amqp.Config{
		Host: "rabbit-1", Endpoints: []string{"rabbit-2"}, Logger: quiet,
		Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no route to host") },
	}
	err := amqp.WithConnection(context.Background(), cfg, func(*amqp.Conn) error { return nil })
	fmt.Println(err)
	// Output:
	// amqp: connect to rabbit-1:5672: TCP: no route to host
	// amqp: connect to rabbit-2:5672: TCP: no route to host
}
