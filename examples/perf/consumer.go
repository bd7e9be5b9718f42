package main

import (
	"context"

	"github.com/leveret-mq/leveret/amqp"
)

// consumer consumes on a connection of its own.
type consumer struct {
	run     *run
	lane    *lane
	transit *recorder
	pace    pace
}

// do consumes until stop is closed.
func (c *consumer) do(ctx context.Context, cfg amqp.Config, started func(), stop <-chan struct{}) error {
	opts := &c.run.opts
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		consume := amqp.Consume{Queue: c.lane.queue, Prefetch: opts.Prefetch, NoAck: opts.Ack == 0}
		return ch.WithConsumer(ch.Context(), consume, func(cons *amqp.Consumer) error {
			started()
			cons.Go(func(ctx context.Context) error {
				select {
				case <-stop:
					cons.Stop()
				case <-ctx.Done():
				}
				return nil
			})
			return c.take(cons)
		})
	})
}

// take notes and acknowledges what comes.
func (c *consumer) take(cons *amqp.Consumer) error {
	var last *amqp.Envelope // not acknowledged, like those before it
	waiting := 0
	for body, env := range cons.Messages() {
		if took, ok := c.run.transitOf(body); ok {
			c.transit.record(took)
			c.lane.received.Add(1)
		} else {
			c.run.foreign.Add(1)
		}
		last = env
		if waiting++; waiting == c.run.opts.Ack {
			if err := ack(env, waiting); err != nil {
				return err
			}
			waiting, last = 0, nil
		}
		if c.pace.wait(cons.Context()) != nil {
			break
		}
	}
	if last != nil && c.run.opts.Ack > 0 && cons.Err() == nil {
		return last.AckUpTo()
	}
	return cons.Err()
}

func ack(env *amqp.Envelope, messages int) error {
	if messages == 1 {
		return env.Ack()
	}
	return env.AckUpTo()
}
