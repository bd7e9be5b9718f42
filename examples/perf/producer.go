package main

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/leveret-mq/leveret/amqp"
)

// producer publishes on a connection of its own.
type producer struct {
	run      *run
	lane     *lane
	confirms *stopwatch
	pace     pace
}

// stampSize is what a message carries at least: the run's id, and when it was
// published.
const stampSize = 16

func (r *run) stamp(body []byte) {
	binary.BigEndian.PutUint64(body, r.id)
	binary.BigEndian.PutUint64(body[8:], uint64(time.Since(r.epoch))) // #nosec G115 -- it is positive
}

// transitOf is how long a message of this run has been on its way.
func (r *run) transitOf(body []byte) (took time.Duration, ok bool) {
	if len(body) < stampSize || binary.BigEndian.Uint64(body) != r.id {
		return 0, false
	}
	return time.Since(r.epoch) - time.Duration(binary.BigEndian.Uint64(body[8:])), true // #nosec G115 -- as stamped
}

// do publishes until publishing ends. The hooks of its connection count, and
// measure the confirms.
func (p *producer) do(ctx, publishing context.Context, cfg amqp.Config) error {
	cfg.Trace = &amqp.Trace{
		Published: func(_ *amqp.Channel, info amqp.PublishInfo) {
			p.confirms.start(info.Sequence)
			p.lane.published.Add(1)
		},
		Confirmed: func(_ *amqp.Channel, info amqp.ConfirmInfo) {
			if info.Err != nil {
				p.lane.failed.Add(1)
				return
			}
			p.confirms.stop(info.Sequence)
			p.lane.confirmed.Add(1)
		},
	}
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		if p.run.opts.Confirm == 0 {
			return p.publish(ch.Context(), publishing, ch.Publish)
		}
		opts := amqp.PublisherOptions{
			MaxInFlight: p.run.opts.Confirm,
			OnFailure:   func(*amqp.PublishError) error { return nil }, // it is counted
		}
		return ch.WithPublisher(ch.Context(), opts, func(pub *amqp.Publisher) error {
			return p.publish(pub.Context(), publishing, func(ctx context.Context, exchange, key string, msg amqp.Message) error {
				_, err := pub.Publish(ctx, exchange, key, msg)
				return err
			})
		})
	})
}

func (p *producer) publish(ctx, publishing context.Context, send func(context.Context, string, string, amqp.Message) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(publishing, cancel)()
	opts := &p.run.opts
	msg := amqp.Message{Body: make([]byte, opts.Size)}
	if opts.Persistent {
		msg.Properties.DeliveryMode = amqp.Persistent
	}
	for n := 0; opts.Messages == 0 || n < opts.Messages; n++ {
		err := p.pace.wait(ctx)
		if err == nil {
			p.run.stamp(msg.Body)
			err = send(ctx, "", p.lane.queue, msg)
		}
		switch {
		case publishing.Err() != nil:
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}
