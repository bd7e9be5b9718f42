// Batch handles messages by the hundred, as a database likes its rows: one insert
// and one acknowledgement for each batch.
package main

import (
	"context"
	"fmt"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/examples/internal/demo"
)

const rows = 1050

func main() { demo.Main(batch) }

func batch(ctx context.Context, cfg amqp.Config) error {
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		queue, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
		if err != nil {
			return err
		}
		if err := produce(ctx, ch, queue.Name); err != nil {
			return err
		}
		return insert(ctx, ch, queue.Name)
	})
}

// produce publishes without waiting for each confirm. The publisher's scope ends
// when all have come.
func produce(ctx context.Context, ch *amqp.Channel, queue string) error {
	return ch.WithPublisher(ctx, amqp.PublisherOptions{Mandatory: true}, func(p *amqp.Publisher) error {
		for i := range rows {
			if _, err := p.Publish(ctx, "", queue, amqp.Message{Body: fmt.Append(nil, "row ", i)}); err != nil {
				return err
			}
		}
		return nil
	})
}

func insert(ctx context.Context, ch *amqp.Channel, queue string) error {
	done := 0
	return ch.WithConsumer(ctx, amqp.Consume{Queue: queue, Prefetch: 500}, func(c *amqp.Consumer) error {
		// A hundred messages, or those that came within 100 ms of the first.
		for b := range c.Batches(100, 100*time.Millisecond) {
			bytes := 0
			for body := range b.All() {
				bytes += len(body)
			}
			fmt.Printf("inserted %d rows, %d bytes\n", b.Len(), bytes)
			if err := b.Ack(); err != nil {
				return err
			}
			if done += b.Len(); done == rows {
				return nil
			}
		}
		return c.Err()
	})
}
