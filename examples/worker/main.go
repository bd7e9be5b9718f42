// Worker does the tasks in the queue "task_queue", one at a time, until Ctrl-C.
// Start several: each task goes to one that is free. A task whose worker goes away
// before it is done goes to another.
package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/examples/internal/demo"
)

func main() {
	demo.Consumer(worker, demo.Publish("",
		demo.Text{RoutingKey: "task_queue", Body: "first."},
		demo.Text{RoutingKey: "task_queue", Body: "second.."},
	))
}

func worker(ctx context.Context, cfg amqp.Config) error {
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		queue, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "task_queue", Durable: true})
		if err != nil {
			return err
		}
		// A prefetch of 1: the broker sends the next task when this one is acknowledged.
		opts := amqp.Consume{Queue: queue.Name, Prefetch: 1}
		return ch.WithConsumer(ctx, opts, func(c *amqp.Consumer) error {
			fmt.Println("waiting for tasks; Ctrl-C ends this")
			return c.Process(1, work)
		})
	})
}

// work does a task. Process acknowledges it when work returns nil, and gives it
// back to the queue otherwise.
func work(ctx context.Context, task []byte, _ *amqp.Envelope) error {
	fmt.Printf("working on %q\n", task)
	select {
	case <-time.After(time.Duration(bytes.Count(task, []byte("."))) * 200 * time.Millisecond):
		fmt.Printf("done with %q\n", task)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
