// New_task puts tasks into the queue "task_queue", which all running ../worker
// programs share. Every argument is a task, and every dot in it makes it take
// longer.
//
//	go run ./examples/new_task "a quick one." "a slow one....."
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/examples/internal/demo"
)

func main() { demo.Publisher(newTask, demo.PrintQueue("task_queue")) }

func newTask(ctx context.Context, cfg amqp.Config) error {
	tasks := os.Args[1:]
	if len(tasks) == 0 {
		tasks = []string{"first.", "second..", "third..."}
	}
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		// A durable queue with persistent messages survives a restart of the broker.
		queue, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "task_queue", Durable: true})
		if err != nil {
			return err
		}
		// The publisher does not wait for each confirm; its scope does for all.
		return ch.WithPublisher(ctx, amqp.PublisherOptions{Mandatory: true}, func(p *amqp.Publisher) error {
			for _, task := range tasks {
				msg := amqp.Message{
					Properties: amqp.Properties{DeliveryMode: amqp.Persistent},
					Body:       []byte(task),
				}
				if _, err := p.Publish(ctx, "", queue.Name, msg); err != nil {
					return err
				}
				fmt.Printf("sent task %q\n", task)
			}
			return nil
		})
	})
}
