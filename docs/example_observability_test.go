package docs

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// The logger of a connection, with what the program wants in each line.
func Example_logger() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		handler := slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutTime})
		cfg.Logger = slog.New(handler).With("service", "shop")
		return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "jobs", Durable: true}); err != nil {
				return err
			}
			if err := ch.Publish(ctx, "", "jobs", amqp.Message{Properties: amqp.Properties{MessageID: "17"}}); err != nil {
				return err
			}
			return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs", Tag: "worker"}, func(c *amqp.Consumer) error {
				return c.Process(1, func(context.Context, []byte, *amqp.Envelope) error {
					c.Stop()
					return fmt.Errorf("no such carrot: %w", amqp.Drop)
				})
			})
		})
	})
	// Output: level=WARN msg="amqp: a handler failed" service=shop consumer=worker exchange="" routing_key=jobs message_id=17 error="no such carrot: drop the message" requeue=false
}

func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == "broker") {
		return slog.Attr{} // an example prints the same at all times
	}
	return a
}

// Hooks that count, and others that tell whether the service is connected.
func Example_hooks() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		var connected atomic.Bool // for a readiness probe
		health := &amqp.Trace{
			Connected: func(*amqp.Conn) { connected.Store(true) },
			Closed:    func(*amqp.Conn, error) { connected.Store(false) },
		}
		var refused, returned, unknown atomic.Int64
		outcomes := &amqp.Trace{Confirmed: func(_ *amqp.Channel, info amqp.ConfirmInfo) {
			switch {
			case errors.Is(info.Err, amqp.ErrNacked):
				refused.Add(1)
			case errors.Is(info.Err, amqp.ErrReturned):
				returned.Add(1)
			case errors.Is(info.Err, amqp.ErrUnconfirmed):
				unknown.Add(1)
			}
		}}
		cfg.Trace = amqp.JoinTraces(health, outcomes)

		err := amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			fmt.Println(connected.Load())
			if err := ch.Confirm(ctx); err != nil {
				return err
			}
			_ = ch.Publish(ctx, "", "nobody's", amqp.Message{Mandatory: true})
			broker.NackNext(1)
			_ = ch.Publish(ctx, "amq.fanout", "", amqp.Message{})
			return nil
		})
		fmt.Println(connected.Load(), refused.Load(), returned.Load(), unknown.Load())
		return err
	})
	// Output:
	// true
	// false 1 1 0
}

// Counters of a connection, beside those of the runtime at /debug/vars.
func Example_stats() {
	onBroker(func(ctx context.Context, cfg amqp.Config, _ *amqptest.Broker) error {
		var current atomic.Pointer[amqp.Conn]
		cfg.Trace = &amqp.Trace{
			Connected: func(c *amqp.Conn) { current.Store(c) },
			Closed:    func(*amqp.Conn, error) { current.Store(nil) },
		}
		stats := expvar.Func(func() any { // for expvar.Publish("amqp", stats)
			if c := current.Load(); c != nil {
				return c.Stats()
			}
			return nil
		})
		return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			if err := ch.Publish(ctx, "amq.fanout", "", amqp.Message{}); err != nil {
				return err
			}
			s := stats.Value().(amqp.Stats)
			fmt.Println(s.Published, s.Channels, s.Blocked)
			return nil
		})
	})
	// Output: 1 1 false
}
