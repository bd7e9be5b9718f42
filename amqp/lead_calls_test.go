//go:build unix

package amqp_test

import (
	"context"
	"crypto/tls"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// callers use the connection from inside of a loop over messages.
var callers = map[string]func(ctx context.Context, conn *amqp.Conn, ch *amqp.Channel) error{
	"declare": func(ctx context.Context, _ *amqp.Conn, ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "aside", Durable: true})
		return err
	},
	"qos": func(ctx context.Context, _ *amqp.Conn, ch *amqp.Channel) error {
		return ch.Qos(ctx, amqp.Qos{PrefetchCount: 10})
	},
	"publish with confirm, and get": func(ctx context.Context, _ *amqp.Conn, ch *amqp.Channel) error {
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		if err := ch.Publish(ctx, "", "aside", amqp.Message{}); err != nil {
			return err
		}
		_, env, err := ch.Get(ctx, "aside", false)
		if err != nil {
			return err
		}
		return env.Ack()
	},
	"publisher": func(ctx context.Context, _ *amqp.Conn, ch *amqp.Channel) error {
		return ch.WithPublisher(ctx, amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
			receipt, err := p.Publish(ctx, "amq.fanout", "", amqp.Message{})
			if err != nil {
				return err
			}
			return receipt.Wait(ctx)
		})
	},
	"another channel and consumer": func(ctx context.Context, conn *amqp.Conn, _ *amqp.Channel) error { return beside(ctx, conn) },
	"another consumer of the channel": func(ctx context.Context, _ *amqp.Conn, ch *amqp.Channel) error {
		if err := fill(ch, "aside", 0, 1); err != nil {
			return err
		}
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "aside"}, func(c *amqp.Consumer) error {
			for _, env := range c.Messages() {
				return env.Ack()
			}
			return c.Err()
		})
	},
}

// Whatever a loop calls between two messages that it has read itself, it is answered, and reads on.
func TestALoopThatReadsCalls(t *testing.T) {
	for name, call := range callers {
		t.Run(name, func(t *testing.T) {
			overTCP(t, func(ctx context.Context, w *world) {
				const n, calls = 20_000, 10
				w.queue("q", n)
				w.queue("aside", 0)
				w.queue("other", 0)
				var reads ledReads
				made, taken := 0, 0
				err := w.dense(ctx, &reads, func(conn *amqp.Conn, ch *amqp.Channel, c *amqp.Consumer) error {
					var before int64
					for body, env := range c.Messages() {
						require.Equal(w, strconv.Itoa(taken), string(body))
						taken++
						if err := env.Ack(); err != nil {
							return err
						}
						if led := reads.byLoop.Load(); led == before {
							continue
						}
						if made == calls {
							c.Stop() // the loop cancels its own consumer
							continue
						}
						made++
						if err := call(ctx, conn, ch); err != nil {
							return err
						}
						before = reads.byLoop.Load()
					}
					return c.Err()
				})
				require.NoError(w, err)
				assert.Equal(w, calls, made)
				assert.Equal(w, n-taken, w.state("q").Ready, "the others went back")
			})
		})
	}
}

// Over TLS the socket does not tell what is there to be read, so the reader reads, however closely messages come.
func TestALoopDoesNotReadOverTLS(t *testing.T) {
	cert, pool := certificate(t)
	overTCP(t, func(ctx context.Context, w *world) {
		const n = 5000
		w.cfg.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
		w.queue("q", n)
		w.queue("aside", 0)
		w.queue("other", 0)
		var reads ledReads
		inner, cancel := context.WithCancel(ctx)
		defer cancel()
		err := w.denseFor(lives{ctx, ctx, inner}, &reads, func(conn *amqp.Conn, ch *amqp.Channel, c *amqp.Consumer) error {
			c.Go(func(ctx context.Context) error { // when the loop waits
				defer cancel()
				return w.broker.Wait(ctx, func() bool { return w.isDone("q") })
			})
			taken := 0
			for body, env := range c.Messages() {
				require.Equal(w, strconv.Itoa(taken), string(body))
				if taken++; taken%500 == 0 {
					for _, call := range callers {
						require.NoError(w, call(ctx, conn, ch))
					}
				}
				if err := env.Ack(); err != nil {
					return err
				}
			}
			return c.Err()
		})
		require.ErrorIs(w, err, context.Canceled)
		assert.True(w, w.isDone("q"))
		assert.Zero(w, reads.byLoop.Load())
	}, amqptest.WithTLS(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}))
}
