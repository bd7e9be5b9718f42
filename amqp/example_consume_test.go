package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// jobs starts an example with a queue of three messages.
var jobs = []string{"one", "two", "three"}

func ExampleChannel_WithConsumer() {
	onChannel(jobs, func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs", Prefetch: 10}, func(c *amqp.Consumer) error {
			for body, env := range c.Messages() {
				fmt.Printf("%s\n", body)
				if err := env.Ack(); err != nil {
					return err
				}
				if string(body) == "three" {
					break
				}
			}
			return c.Err()
		})
	})
	// Output:
	// one
	// two
	// three
}

// The broker sends no more than the prefetch ahead of what is settled: 256 messages unless said otherwise.
func ExampleConsume() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			queue, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
			if err != nil {
				return err
			}
			for _, opts := range []amqp.Consume{{Queue: queue.Name}, {Queue: queue.Name, Prefetch: 1}} {
				if err := ch.WithConsumer(ctx, opts, func(c *amqp.Consumer) error {
					fmt.Println(broker.Consumers()[0].Prefetch)
					return nil
				}); err != nil {
					return err
				}
			}
			return nil
		})
	})
	// Output:
	// 256
	// 1
}

// After a break, ranging again goes on with the next message.
func ExampleConsumer_Messages() {
	onChannel(jobs, func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs"}, func(c *amqp.Consumer) error {
			for range jobs {
				for body, env := range c.Messages() {
					fmt.Printf("%s %d %t\n", body, env.DeliveryTag, env.Redelivered)
					if err := env.Ack(); err != nil {
						return err
					}
					break
				}
			}
			return nil
		})
	})
	// Output:
	// one 1 false
	// two 2 false
	// three 3 false
}

func ExampleConsumer_Tag() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs", Tag: "worker-7"}, func(c *amqp.Consumer) error {
			fmt.Println(c.Tag())
			return nil
		})
	})
	// Output: worker-7
}

func ExampleConsumer_Queue() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs"}, func(c *amqp.Consumer) error {
			fmt.Println(c.Queue())
			return nil
		})
	})
	// Output: jobs
}

// When the broker ends the consumer, the range ends, and Err says why.
func ExampleConsumer_Err() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs"}, func(c *amqp.Consumer) error {
			if _, err := ch.QueueDelete(ctx, amqp.QueueDelete{Name: "jobs"}); err != nil {
				return err
			}
			for range c.Messages() {
				fmt.Println("never")
			}
			fmt.Println(errors.Is(c.Err(), amqp.ErrConsumerCancelled))
			return nil
		})
	})
	// Output: true
}

// Handlers run in several goroutines, and each message is settled by how its handler ended.
func ExampleConsumer_Process() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			queue := amqp.Queue{Name: "jobs", Durable: true}
			if err := ch.Declare(ctx, amqp.Topology{Queues: []amqp.Queue{queue}}); err != nil {
				return err
			}
			for _, job := range jobs {
				if err := ch.Publish(ctx, "", "jobs", amqp.Message{Body: []byte(job)}); err != nil {
					return err
				}
			}
			var mu sync.Mutex
			var done []string
			err := ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs"}, func(c *amqp.Consumer) error {
				return c.Process(2, func(_ context.Context, body []byte, _ *amqp.Envelope) error {
					mu.Lock()
					defer mu.Unlock()
					if done = append(done, string(body)); len(done) == len(jobs) {
						c.Stop()
					}
					return nil // acknowledged
				})
			})
			slices.Sort(done)
			fmt.Println(done, err)
			return nil
		})
	})
	// Output: [one three two] <nil>
}

// Stop begins a graceful end: what is being handled is finished, and what nobody took goes back to the queue.
func ExampleConsumer_Stop() {
	onChannel(jobs, func(ctx context.Context, ch *amqp.Channel) error {
		err := ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs"}, func(c *amqp.Consumer) error {
			return c.Process(1, func(_ context.Context, body []byte, _ *amqp.Envelope) error {
				c.Stop() // at a signal, say
				fmt.Printf("finished %s\n", body)
				return nil
			})
		})
		if err != nil {
			return err
		}
		n, err := ch.QueuePurge(ctx, amqp.QueuePurge{Name: "jobs"})
		fmt.Println(n, "are back in the queue")
		return err
	})
	// Output:
	// finished one
	// 2 are back in the queue
}

// A message that makes no sense is dropped, or dead-lettered if its queue says so, and does not come again.
func Example_drop() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		cfg.Logger = quiet // Process warns of every handler that fails
		return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			arguments := amqp.QueueArguments{DeadLetterToDefault: true, DeadLetterRoutingKey: "failed"}.Table()
			if err := ch.Declare(ctx, amqp.Topology{Queues: []amqp.Queue{
				{Name: "jobs", Durable: true, Arguments: arguments}, {Name: "failed", Durable: true},
			}}); err != nil {
				return err
			}
			if err := ch.Publish(ctx, "", "jobs", amqp.Message{Body: []byte("gibberish")}); err != nil {
				return err
			}
			err := ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs"}, func(c *amqp.Consumer) error {
				return c.Process(1, func(context.Context, []byte, *amqp.Envelope) error {
					c.Stop()
					return fmt.Errorf("not a job: %w", amqp.Drop)
				})
			})
			if err != nil {
				return err
			}
			body, _, err := ch.Get(ctx, "failed", true)
			fmt.Printf("%s\n", body)
			return err
		})
	})
	// Output: gibberish
}

// Up to a hundred messages at a time, or those that came within a while of the first, with one acknowledgement.
func ExampleConsumer_Batches() {
	onChannel([]string{"a", "b", "c", "d", "e"}, func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs"}, func(c *amqp.Consumer) error {
			seen := 0
			for batch := range c.Batches(100, 50*time.Millisecond) {
				for body := range batch.All() {
					fmt.Printf("%s ", body)
				}
				if err := batch.Ack(); err != nil {
					return err
				}
				if seen += batch.Len(); seen == 5 {
					return nil
				}
			}
			return c.Err()
		})
	})
	// Output: a b c d e
}

// onBatch runs an example with a batch of three.
func onBatch(example func(b *amqp.Batch) error) {
	onChannel(jobs, func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs"}, func(c *amqp.Consumer) error {
			for batch := range c.Batches(3, time.Hour) {
				return example(batch)
			}
			return c.Err()
		})
	})
}

func ExampleBatch_All() {
	onBatch(func(b *amqp.Batch) error {
		for body, env := range b.All() {
			fmt.Printf("%d %s\n", env.DeliveryTag, body)
		}
		return b.Ack()
	})
	// Output:
	// 1 one
	// 2 two
	// 3 three
}

func ExampleBatch_Len() {
	onBatch(func(b *amqp.Batch) error {
		fmt.Println(b.Len())
		return b.Ack()
	})
	// Output: 3
}

// What was not settled by itself is settled with the batch.
func ExampleBatch_Ack() {
	onBatch(func(b *amqp.Batch) error {
		for body, env := range b.All() {
			if string(body) == "two" {
				if err := env.Reject(false); err != nil {
					return err
				}
			}
		}
		return b.Ack() // one and three
	})
	// Output:
}

func ExampleBatch_Nack() {
	onBatch(func(b *amqp.Batch) error {
		fmt.Println("the database is down: later")
		return b.Nack(true)
	})
	// Output: the database is down: later
}

func ExampleChannel_Get() {
	onChannel([]string{"one"}, func(ctx context.Context, ch *amqp.Channel) error {
		body, env, err := ch.Get(ctx, "jobs", false)
		if err != nil {
			return err
		}
		fmt.Printf("%s, and %d more\n", body, env.MessageCount)
		if err := env.Ack(); err != nil {
			return err
		}
		_, _, err = ch.Get(ctx, "jobs", false)
		fmt.Println(errors.Is(err, amqp.ErrEmptyQueue))
		return nil
	})
	// Output:
	// one, and 0 more
	// true
}

// A prefetch for all consumers of the channel together; Consume.Prefetch is that of one.
func ExampleChannel_Qos() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		return ch.Qos(ctx, amqp.Qos{PrefetchCount: 50, Global: true})
	})
	// Output:
}

// RabbitMQ knows active=true alone.
func ExampleChannel_Flow() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		return ch.Flow(ctx, true)
	})
	// Output:
}

// What was delivered and not settled comes again.
func ExampleChannel_Recover() {
	onChannel([]string{"one"}, func(ctx context.Context, ch *amqp.Channel) error {
		_, first, err := ch.Get(ctx, "jobs", false)
		if err != nil {
			return err
		}
		if err := ch.Recover(ctx, true); err != nil {
			return err
		}
		fmt.Println(errors.Is(first.Ack(), amqp.ErrAlreadySettled))
		body, second, err := ch.Get(ctx, "jobs", false)
		if err != nil {
			return err
		}
		fmt.Printf("%s %t\n", body, second.Redelivered)
		return second.Ack()
	})
	// Output:
	// true
	// one true
}

func ExampleChannel_RecoverAsync() {
	onChannel([]string{"one"}, func(ctx context.Context, ch *amqp.Channel) error {
		if _, _, err := ch.Get(ctx, "jobs", false); err != nil {
			return err
		}
		if err := ch.RecoverAsync(true); err != nil {
			return err
		}
		_, env, err := ch.Get(ctx, "jobs", true)
		fmt.Println(env.Redelivered)
		return err
	})
	// Output: true
}

// onTag runs an example with the tag of the last of three deliveries.
func onTag(example func(ctx context.Context, ch *amqp.Channel, tag uint64) error) {
	onChannel(jobs, func(ctx context.Context, ch *amqp.Channel) (err error) {
		var env *amqp.Envelope
		for range jobs {
			if _, env, err = ch.Get(ctx, "jobs", false); err != nil {
				return err
			}
		}
		if err := example(ctx, ch, env.DeliveryTag); err != nil {
			return err
		}
		left, err := ch.QueuePurge(ctx, amqp.QueuePurge{Name: "jobs"})
		fmt.Println(left, "are back in the queue")
		return err
	})
}

// By the delivery tag, for whoever has that and not the envelope.
func ExampleChannel_Ack() {
	onTag(func(_ context.Context, ch *amqp.Channel, tag uint64) error {
		return ch.Ack(tag, true) // it, and all before it
	})
	// Output: 0 are back in the queue
}

func ExampleChannel_Nack() {
	onTag(func(_ context.Context, ch *amqp.Channel, tag uint64) error {
		return ch.Nack(tag, true, true) // it, and all before it, for another try
	})
	// Output: 3 are back in the queue
}

func ExampleChannel_Reject() {
	onTag(func(_ context.Context, ch *amqp.Channel, tag uint64) error {
		return ch.Reject(tag, true) // it alone, for another try
	})
	// Output: 1 are back in the queue
}

// onEnvelopes runs an example with three deliveries.
func onEnvelopes(example func(envs []*amqp.Envelope) error) {
	onChannel(jobs, func(ctx context.Context, ch *amqp.Channel) error {
		var envs []*amqp.Envelope
		for range jobs {
			_, env, err := ch.Get(ctx, "jobs", false)
			if err != nil {
				return err
			}
			envs = append(envs, env)
		}
		if err := example(envs); err != nil {
			return err
		}
		left, err := ch.QueuePurge(ctx, amqp.QueuePurge{Name: "jobs"})
		fmt.Println(left, "are back in the queue")
		return err
	})
}

// A second settlement never reaches the broker.
func ExampleEnvelope_Ack() {
	onEnvelopes(func(envs []*amqp.Envelope) error {
		fmt.Println(envs[0].Ack())
		fmt.Println(errors.Is(envs[0].Ack(), amqp.ErrAlreadySettled))
		return nil
	})
	// Output:
	// <nil>
	// true
	// 0 are back in the queue
}

func ExampleEnvelope_AckUpTo() {
	onEnvelopes(func(envs []*amqp.Envelope) error {
		if err := envs[1].AckUpTo(); err != nil { // one and two
			return err
		}
		return envs[2].Nack(true)
	})
	// Output: 1 are back in the queue
}

func ExampleEnvelope_Nack() {
	onEnvelopes(func(envs []*amqp.Envelope) error { return envs[0].Nack(true) })
	// Output: 1 are back in the queue
}

// Reject counts against the delivery limit of a quorum queue.
func ExampleEnvelope_Reject() {
	onEnvelopes(func(envs []*amqp.Envelope) error { return envs[0].Reject(false) })
	// Output: 0 are back in the queue
}

// When the channel is lost the broker gives the message to somebody else: work on it is in vain, and ends.
func ExampleEnvelope_Context() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		err := amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			if err := ch.Declare(ctx, amqp.Topology{Queues: []amqp.Queue{{Name: "jobs", Durable: true}}}); err != nil {
				return err
			}
			if err := ch.Publish(ctx, "", "jobs", amqp.Message{}); err != nil {
				return err
			}
			_, env, err := ch.Get(ctx, "jobs", false)
			if err != nil {
				return err
			}
			broker.CloseChannels(406, "PRECONDITION_FAILED - took too long")
			<-env.Context().Done()
			fmt.Println(context.Cause(env.Context()))
			return nil
		})
		fmt.Println(errors.Is(err, amqp.PreconditionFailed))
		return nil
	})
	// Output:
	// the broker closed the channel: 406 PRECONDITION_FAILED - took too long
	// true
}
