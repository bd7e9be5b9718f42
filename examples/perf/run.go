package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/scope"
)

// run is one load test.
type run struct {
	opts    options
	id      uint64    // in each message, so that those of others are not measured
	epoch   time.Time // what the times in messages count from
	lanes   []*lane
	transit recorders // from Publish to the consumer
	confirm recorders // from Publish to the confirm
	foreign atomic.Int64
	samples []sample
}

// lane is a queue, with what went through it.
type lane struct {
	queue                                  string
	consumers                              int
	published, confirmed, failed, received atomic.Int64
}

func newRun(opts options) *run {
	r := &run{opts: opts, id: rand.Uint64(), epoch: time.Now()} // #nosec G404 -- it is no secret
	for i := range opts.Queues {
		name := opts.Queue
		if name == "" {
			name = fmt.Sprintf("leveret-perf-%016x-%d", r.id, i)
		}
		r.lanes = append(r.lanes, &lane{queue: name})
	}
	for i := range opts.Consumers {
		r.lanes[i%opts.Queues].consumers++
	}
	return r
}

// do runs the test. The end of signal ends it early, and is no error.
func (r *run) do(signal context.Context, cfg amqp.Config) (*result, error) {
	cfg.ConnectionName = "leveret perf"
	var took time.Duration
	err := amqp.WithChannel(context.WithoutCancel(signal), cfg, func(ch *amqp.Channel) (err error) {
		if err := r.declare(ch); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.cleanUp(ch)) }()
		return scope.Run(ch.Context(), func(s *scope.Scope) (err error) {
			took, err = r.load(signal, s, cfg)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return r.result(took), nil
}

// load has messages flow, and reports how long they did.
func (r *run) load(signal context.Context, s *scope.Scope, cfg amqp.Config) (time.Duration, error) {
	stop := make(chan struct{})
	if err := r.startConsumers(s, cfg, stop); err != nil {
		return 0, err
	}
	publishing := signal
	if r.opts.Duration > 0 {
		var cancel context.CancelFunc
		publishing, cancel = context.WithTimeout(signal, r.opts.Duration)
		defer cancel()
	}
	began := time.Now()
	s.Go(func(ctx context.Context) error {
		r.watch(ctx, began, stop)
		return nil
	})
	err := r.publish(s.Context(), publishing, cfg)
	if err == nil {
		r.drain(s.Context(), signal)
	}
	close(stop)
	return time.Since(began), err
}

func (r *run) declare(ch *amqp.Channel) error {
	args, err := r.opts.arguments()
	if err != nil {
		return err
	}
	for _, l := range r.lanes {
		if _, err := ch.QueueDeclare(ch.Context(), amqp.Queue{Name: l.queue, Durable: true, Arguments: args}); err != nil {
			return err
		}
	}
	return nil
}

// cleanUp deletes the queues that are of this run alone.
func (r *run) cleanUp(ch *amqp.Channel) error {
	if r.opts.Queue != "" || ch.Context().Err() != nil {
		return nil
	}
	for _, l := range r.lanes {
		if _, err := ch.QueueDelete(ch.Context(), amqp.QueueDelete{Name: l.queue}); err != nil {
			return err
		}
	}
	return nil
}

// startConsumers returns when all consumers are ready.
func (r *run) startConsumers(s *scope.Scope, cfg amqp.Config, stop <-chan struct{}) error {
	for i := range r.opts.Consumers {
		c := &consumer{run: r, lane: r.lanes[i%len(r.lanes)], transit: r.transit.add(), pace: pace{rate: r.opts.ConsumerRate}}
		if err := s.Start(func(ctx context.Context, started func()) error { return c.do(ctx, cfg, started, stop) }); err != nil {
			return err
		}
	}
	return nil
}

// publish runs the producers until publishing ends, or they have published all.
func (r *run) publish(ctx, publishing context.Context, cfg amqp.Config) error {
	return scope.Run(ctx, func(s *scope.Scope) error {
		for i := range r.opts.Producers {
			p := &producer{run: r, lane: r.lanes[i%len(r.lanes)], confirms: newStopwatch(r.confirm.add(), r.opts.Confirm), pace: pace{rate: r.opts.Rate}}
			s.Go(func(ctx context.Context) error { return p.do(ctx, publishing, cfg) })
		}
		if r.opts.Producers > 0 {
			return nil
		}
		select {
		case <-publishing.Done():
		case <-s.Context().Done():
		}
		return nil
	})
}

// drain waits until the consumers have everything, or nothing comes any more.
func (r *run) drain(ctx, signal context.Context) {
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	last, since := int64(-1), time.Now()
	for {
		missing, received := r.missing()
		if received != last {
			last, since = received, time.Now()
		}
		if missing <= 0 || time.Since(since) > r.opts.Drain {
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		case <-signal.Done():
			return
		}
	}
}

// missing counts what has still to come to a consumer. A stream has each of its
// consumers see all messages.
func (r *run) missing() (missing, received int64) {
	for _, l := range r.lanes {
		copies := int64(min(l.consumers, 1))
		if r.opts.Kind == amqp.StreamQueue {
			copies = int64(l.consumers)
		}
		received += l.received.Load()
		missing += (l.published.Load()-l.failed.Load())*copies - l.received.Load()*min(copies, 1)
	}
	return missing, received
}
