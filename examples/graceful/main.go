// Graceful shuts down without losing or repeating work: at Ctrl-C, or some time
// after the first job has begun, no further message is taken, those being handled
// are finished and acknowledged, and those that nobody has begun go back to the
// queue.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/examples/internal/demo"
)

var after = flag.Duration("after", time.Second, "shut down by itself so long after the first job has begun")

func main() {
	flag.Parse()
	demo.Main(graceful)
}

const (
	jobs  = 20
	grace = 10 * time.Second // what handlers may still take
)

// graceful lives on a context that the signal does not reach: ending signal only
// stops the consumer.
func graceful(signal context.Context, cfg amqp.Config) error {
	ctx := context.WithoutCancel(signal)
	signal, interrupt := context.WithCancel(signal)
	defer interrupt()
	begun := sync.OnceFunc(func() { time.AfterFunc(*after, interrupt) })

	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		queue, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
		if err != nil {
			return err
		}
		if err := publish(ctx, ch, queue.Name); err != nil {
			return err
		}
		if err := consume(ctx, signal, ch, queue.Name, begun); err != nil {
			return err
		}
		// The consumer's scope is over: what it had and did not begin is back.
		left, err := ch.QueueDelete(ctx, amqp.QueueDelete{Name: queue.Name})
		fmt.Printf("%d jobs are left in the queue\n", left)
		return err
	})
}

func publish(ctx context.Context, ch *amqp.Channel, queue string) error {
	return ch.WithPublisher(ctx, amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
		for i := range jobs {
			if _, err := p.Publish(ctx, "", queue, amqp.Message{Body: fmt.Append(nil, "job ", i)}); err != nil {
				return err
			}
		}
		return nil
	})
}

func consume(ctx, signal context.Context, ch *amqp.Channel, queue string, begun func()) error {
	return ch.WithConsumer(ctx, amqp.Consume{Queue: queue, Prefetch: 10}, func(c *amqp.Consumer) error {
		processed := make(chan struct{})
		defer close(processed)
		c.Go(func(context.Context) error {
			select {
			case <-signal.Done():
			case <-processed:
				return nil
			}
			fmt.Println("shutting down: finishing what has begun")
			c.Stop() // Process takes no more, and returns when its handlers have
			select {
			case <-processed:
				return nil
			case <-time.After(grace):
				return errors.New("the handlers took too long") // ends their ctx
			}
		})
		return c.Process(3, func(ctx context.Context, body []byte, _ *amqp.Envelope) error {
			begun()
			return handle(ctx, body)
		})
	})
}

func handle(ctx context.Context, body []byte) error {
	fmt.Printf("began %s\n", body)
	select {
	case <-time.After(300 * time.Millisecond):
		fmt.Printf("finished %s\n", body)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx) // the job goes back to the queue
	}
}
