package docs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

var errMalformed = errors.New("no job has this name")

// do is what a worker does with a job.
func do(_ context.Context, job []byte) error {
	if string(job) == "gibberish" {
		return errMalformed
	}
	fmt.Printf("did %s\n", job)
	return nil
}

func Example_handler() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			queue := amqp.Queue{Name: "jobs", Durable: true, Arguments: amqp.QueueArguments{
				Type: amqp.QuorumQueue, DeliveryLimit: 5, // attempts, then the message is dead-lettered
				DeadLetterToDefault: true, DeadLetterRoutingKey: "failed",
			}.Table()}
			if err := ch.Declare(ctx, amqp.Topology{Queues: []amqp.Queue{queue, {Name: "failed", Durable: true}}}); err != nil {
				return err
			}
			for _, job := range []string{"one", "gibberish"} {
				if err := ch.Publish(ctx, "", "jobs", amqp.Message{Body: []byte(job)}); err != nil {
					return err
				}
			}
			return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs", Prefetch: 40}, func(c *amqp.Consumer) error {
				c.Go(func(ctx context.Context) error {
					defer c.Stop()
					return broker.Wait(ctx, func() bool { return len(broker.Messages("failed")) == 1 })
				})
				return c.Process(20, func(ctx context.Context, body []byte, env *amqp.Envelope) error {
					err := do(ctx, body)
					if errors.Is(err, errMalformed) {
						return fmt.Errorf("%w: %w", err, amqp.Drop) // another attempt would fail, too
					}
					return err
				})
			})
		})
	})
	// Output: did one
}

// Ctrl-C, or whatever ends ctx, stops the consumer and nothing else.
func Example_shutdown() {
	onBroker(func(outer context.Context, cfg amqp.Config, _ *amqptest.Broker) error {
		signal, interrupt := context.WithCancel(outer)
		defer interrupt()
		done := 0
		handle := func(ctx context.Context, _ []byte, _ *amqp.Envelope) error {
			interrupt() // somebody presses Ctrl-C meanwhile
			done++
			return ctx.Err() // nil: that ends no work
		}
		return amqp.WithChannel(outer, cfg, func(ch *amqp.Channel) error {
			ctx := ch.Context()
			queue, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
			if err != nil {
				return err
			}
			for range 3 {
				if err := ch.Publish(ctx, "", queue.Name, amqp.Message{}); err != nil {
					return err
				}
			}
			err = ch.WithConsumer(ctx, amqp.Consume{Queue: queue.Name}, func(c *amqp.Consumer) error {
				defer context.AfterFunc(signal, c.Stop)()
				return c.Process(1, handle) // returns nil after Stop, when its handlers have returned
			})
			if err != nil {
				return err
			}
			left, err := ch.QueueDelete(ctx, amqp.QueueDelete{Name: queue.Name})
			fmt.Println(done+left, "jobs are done or back in the queue")
			return err
		})
	})
	// Output: 3 jobs are done or back in the queue
}

// By hand, one by one, with a bound on the time that a job may take.
func Example_lifetime() {
	onChannel([]string{"one"}, func(ctx context.Context, ch *amqp.Channel, _ *amqptest.Broker) error {
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs"}, func(c *amqp.Consumer) error {
			do := func(ctx context.Context, job []byte) error {
				c.Stop() // enough for an example
				return do(ctx, job)
			}
			for body, env := range c.Messages() {
				job, cancel := context.WithTimeout(env.Context(), time.Minute)
				err := do(job, body)
				cancel()
				if err != nil {
					return err
				}
				if err := env.Ack(); err != nil {
					return err
				}
			}
			return c.Err()
		})
	})
	// Output: did one
}

// A quorum queue counts the attempts.
func Example_attempts() {
	onBroker(func(ctx context.Context, cfg amqp.Config, _ *amqptest.Broker) error {
		return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			queue := amqp.Queue{Name: "jobs", Durable: true, Arguments: amqp.QueueArguments{Type: amqp.QuorumQueue}.Table()}
			if _, err := ch.QueueDeclare(ctx, queue); err != nil {
				return err
			}
			if err := ch.Publish(ctx, "", "jobs", amqp.Message{}); err != nil {
				return err
			}
			return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs"}, func(c *amqp.Consumer) error {
				for _, env := range c.Messages() {
					attempts, _ := env.Properties.Headers["x-delivery-count"].(int64) // absent the first time
					fmt.Println(attempts, "before")
					if attempts == 2 {
						return env.Ack()
					}
					if err := env.Reject(true); err != nil {
						return err
					}
				}
				return c.Err()
			})
		})
	})
	// Output:
	// 0 before
	// 1 before
	// 2 before
}
