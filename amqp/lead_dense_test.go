//go:build unix

package amqp_test

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// ledReads counts the messages that a loop has read itself.
type ledReads struct{ byLoop, byReader atomic.Int64 }

func (l *ledReads) trace() *amqp.Trace {
	return &amqp.Trace{Delivered: func(*amqp.Channel, *amqp.Envelope, int) {
		var callers [32]uintptr
		frames := runtime.CallersFrames(callers[:runtime.Callers(0, callers[:])])
		for more := true; more; {
			var f runtime.Frame
			if f, more = frames.Next(); strings.HasSuffix(f.Function, ".readFor") {
				l.byLoop.Add(1)
				return
			}
		}
		l.byReader.Add(1)
	}}
}

// lives is for how long a connection, its channel and its consumer may live.
type lives struct{ conn, channel, consumer context.Context }

// dense consumes from queue "q" with a prefetch that brings messages closely.
func (w *world) dense(ctx context.Context, reads *ledReads, body func(*amqp.Conn, *amqp.Channel, *amqp.Consumer) error) error {
	return w.denseFor(lives{ctx, ctx, ctx}, reads, body)
}

func (w *world) denseFor(l lives, reads *ledReads, body func(*amqp.Conn, *amqp.Channel, *amqp.Consumer) error) error {
	amqp.OfferGap(w, time.Second) // however slow the machine is
	cfg := w.cfg
	cfg.Trace = reads.trace()
	return amqp.WithConnection(l.conn, cfg, func(conn *amqp.Conn) error {
		return conn.WithChannel(l.channel, func(ch *amqp.Channel) error {
			return ch.WithConsumer(l.consumer, amqp.Consume{Queue: "q", Prefetch: 20}, func(c *amqp.Consumer) error { return body(conn, ch, c) })
		})
	})
}

// untilItReads publishes bursts to queue "q" until the loop over its consumer waits in a read of its own, with everything
// acknowledged that was published. There it stays until something else comes.
func (w *world) untilItReads(ctx context.Context, c *amqp.Consumer) error {
	for !c.IsReading() {
		if err := w.burst(ctx, 100); err != nil {
			return err
		}
	}
	return nil
}

// burst publishes so many messages to queue "q" at once, and waits until all are settled.
func (w *world) burst(ctx context.Context, n int) error {
	return amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
		if err := fill(ch, "q", 0, n); err != nil {
			return err
		}
		return w.broker.Wait(ctx, func() bool { return w.isDone("q") })
	})
}

// comesToRead tells whether a loop that has taken everything is soon in a read of its own. It may have left that to the
// reader, or be held up.
func comesToRead(c *amqp.Consumer) bool {
	for range 1000 {
		if c.IsReading() {
			return true
		}
		runtime.Gosched()
	}
	return false
}

// isDone tells whether all messages of a queue were settled.
func (w *world) isDone(queue string) bool { return w.state(queue).Ready+w.state(queue).Unacked == 0 }

// Who reads changes all the time, and every message comes once and in order, every call is answered, every confirm told.
func TestReadingChangesHandsUnderLoad(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		const n = 20_000
		w.queue("q", n)
		w.queue("aside", 0)
		var reads ledReads
		err := w.dense(ctx, &reads, func(conn *amqp.Conn, ch *amqp.Channel, c *amqp.Consumer) error {
			var over atomic.Bool
			conn.Go(func(ctx context.Context) error { return disturb(ctx, conn, &over) })
			defer over.Store(true)
			next := 0
			for body, env := range c.Messages() {
				require.Equal(w, strconv.Itoa(next), string(body))
				next++
				if next%1000 == 0 { // a call from within the loop
					if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q", Passive: true}); err != nil {
						return err
					}
				}
				if err := env.Ack(); err != nil {
					return err
				}
				if next == n {
					return nil
				}
			}
			return errors.New("the messages ended too early")
		})
		require.NoError(w, err)
		assert.Positive(w, reads.byLoop.Load(), "the loop reads itself")
		assert.Positive(w, reads.byReader.Load())
		assert.True(w, w.isDone("q"), "all were acknowledged")
	})
}

// disturb does what has others wait for the reader, with pauses.
func disturb(ctx context.Context, conn *amqp.Conn, over *atomic.Bool) error {
	return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		for i := 0; !over.Load(); i++ {
			if err := ch.Publish(ctx, "", "aside", amqp.Message{Body: make([]byte, 40_000*(i%2))}); err != nil {
				return err
			}
			if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q", Passive: true}); err != nil {
				return err
			}
			_, env, err := ch.Get(ctx, "aside", i%3 == 0)
			if err != nil {
				return err
			}
			if i%3 != 0 {
				if err := env.Ack(); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// However long the work takes on a message that its loop has read itself, nobody waits for that: neither who calls, nor
// the broker for what was acknowledged, nor the next loop for its messages.
func TestNobodyWaitsForALoopAtWork(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		const n = 20_000
		w.queue("q", n)
		w.queue("other", 0)
		var reads ledReads
		err := w.dense(ctx, &reads, func(conn *amqp.Conn, _ *amqp.Channel, c *amqp.Consumer) error {
			for _, env := range c.Messages() {
				before := reads.byLoop.Load()
				if err := env.Ack(); err != nil {
					return err
				}
				if env.DeliveryTag == n {
					return errors.New("the loop has not read itself")
				}
				if before == 0 || env.DeliveryTag < n/2 {
					continue
				}
				left := n - int(env.DeliveryTag)
				if err := w.broker.Wait(ctx, func() bool { return w.state("q").Ready+w.state("q").Unacked == left }); err != nil {
					return err
				}
				return beside(ctx, conn)
			}
			return errors.New("the messages ended too early")
		})
		require.NoError(w, err)
		assert.Positive(w, reads.byLoop.Load())
	})
}

// beside needs the connection to be read.
func beside(ctx context.Context, conn *amqp.Conn) error {
	return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
		if err := fill(ch, "other", 0, 1); err != nil {
			return err
		}
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "other"}, func(c *amqp.Consumer) error {
			for _, env := range c.Messages() {
				return env.Ack()
			}
			return c.Err()
		})
	})
}

var errBroken = errors.New("the program is broken")
