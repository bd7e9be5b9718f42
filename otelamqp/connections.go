package otelamqp

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"go.opentelemetry.io/otel/metric"
)

// connections makes the instruments that watch connections, and the hooks that
// feed them.
func (in *Instrumentation) connections(meter metric.Meter) (*amqp.Trace, error) {
	retries, err1 := meter.Int64Counter("leveret.retries", metric.WithUnit("{attempt}"),
		metric.WithDescription("Number of times that a supervised connection had to be made again."))
	failures, err2 := meter.Int64Counter("leveret.publish.failures", metric.WithUnit("{message}"),
		metric.WithDescription("Number of messages that the broker refused, returned, or did not confirm."))
	open := &openConnections{all: make(map[*amqp.Conn]struct{})}
	err3 := in.observe(meter, open)
	hooks := &amqp.Trace{
		DialDone: func(addr string, err error) {
			if err == nil {
				in.setServer(addr)
			}
		},
		Connected: open.add,
		Closed:    func(c *amqp.Conn, _ error) { open.remove(c) },
		Retry: func(_ int, _ time.Duration, cause error) {
			retries.Add(context.Background(), 1, metric.WithAttributes(in.with(errorType(cause))...))
		},
		Confirmed: func(_ *amqp.Channel, info amqp.ConfirmInfo) {
			if info.Err != nil {
				failures.Add(context.Background(), 1, metric.WithAttributes(in.with(errorType(info.Err))...))
			}
		},
	}
	return hooks, errors.Join(err1, err2, err3)
}

// gauge is one number that the open connections add up to.
type gauge struct {
	name, unit, description string
	of                      func(amqp.Stats) int
}

var gauges = []gauge{
	{"leveret.connections", "{connection}", "Number of open connections.", func(amqp.Stats) int { return 1 }},
	{"leveret.connections.blocked", "{connection}", "Number of open connections that the broker takes no messages on.", func(s amqp.Stats) int {
		if s.Blocked {
			return 1
		}
		return 0
	}},
	{"leveret.channels", "{channel}", "Number of open channels.", func(s amqp.Stats) int { return s.Channels }},
	{"leveret.consumers", "{consumer}", "Number of started consumers.", func(s amqp.Stats) int { return s.Consumers }},
	{"leveret.calls.waiting", "{call}", "Number of calls that wait for the broker.", func(s amqp.Stats) int { return s.Waiting }},
	{"leveret.messages.unconfirmed", "{message}", "Number of published messages that have no outcome yet.", func(s amqp.Stats) int { return s.Unconfirmed }},
	{"leveret.messages.unsettled", "{message}", "Number of delivered messages that are not settled yet.", func(s amqp.Stats) int { return s.Unsettled }},
}

// observe has the gauges asked whenever metrics are collected.
func (in *Instrumentation) observe(meter metric.Meter, open *openConnections) error {
	var instruments []metric.Observable
	var counters []metric.Int64ObservableUpDownCounter
	for _, g := range gauges {
		c, err := meter.Int64ObservableUpDownCounter(g.name, metric.WithUnit(g.unit), metric.WithDescription(g.description))
		if err != nil {
			return err
		}
		instruments, counters = append(instruments, c), append(counters, c)
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		stats := open.stats()
		attrs := metric.WithAttributes(in.with()...)
		for i, g := range gauges {
			sum := 0
			for _, s := range stats {
				sum += g.of(s)
			}
			o.ObserveInt64(counters[i], int64(sum), attrs)
		}
		return nil
	}, instruments...)
	return err
}

// openConnections are those whose numbers are asked for.
type openConnections struct {
	mu  sync.Mutex
	all map[*amqp.Conn]struct{}
}

func (o *openConnections) add(c *amqp.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all[c] = struct{}{}
}

func (o *openConnections) remove(c *amqp.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.all, c)
}

func (o *openConnections) stats() (all []amqp.Stats) {
	o.mu.Lock()
	open := slices.Collect(maps.Keys(o.all))
	o.mu.Unlock()
	for _, c := range open {
		all = append(all, c.Stats())
	}
	return all
}
