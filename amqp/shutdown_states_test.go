package amqp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// Shutting down in every state: it ends within CloseTimeout, and says what it waited for.

// dead loses every answer of the broker's, heartbeats apart.
func (w *world) dead() {
	for _, m := range []string{"basic.ack", "basic.cancel", "channel.flow", "channel.close", "connection.close", "tx.rollback", "queue.declare"} {
		w.lose(m)
	}
}

func TestShutdownInEveryState(t *testing.T) {
	large := amqp.Message{Body: make([]byte, 4<<20)}
	inChannel := func(body func(ctx context.Context, w *world, ch *amqp.Channel) error) func(context.Context, *world) error {
		return func(ctx context.Context, w *world) error {
			return amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error { return body(ctx, w, ch) })
		}
	}
	states := map[string]struct {
		run  func(ctx context.Context, w *world) error
		says string // in the error
		at   time.Duration
	}{
		"dialling": {func(ctx context.Context, w *world) error {
			w.cfg.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
			return amqp.WithConnection(ctx, w.cfg, nil)
		}, "TCP", 0},
		"in the TLS handshake": {func(ctx context.Context, w *world) error {
			w.broker.Stall()
			w.cfg.TLS = &tls.Config{}
			return amqp.WithConnection(ctx, w.cfg, nil)
		}, "TLS", 0},
		"before the broker says hello": {func(ctx context.Context, w *world) error {
			w.broker.Stall()
			return amqp.WithConnection(ctx, w.cfg, nil)
		}, "waiting for connection.start", 0},
		"logging in": {func(ctx context.Context, w *world) error {
			w.lose("connection.start-ok")
			return amqp.WithConnection(ctx, w.cfg, nil)
		}, `logging in as "guest"`, 0},
		"opening the virtual host": {func(ctx context.Context, w *world) error {
			w.lose("connection.open")
			return amqp.WithConnection(ctx, w.cfg, nil)
		}, `opening the virtual host "/"`, 0},
		"opening a channel": {func(ctx context.Context, w *world) error {
			w.lose("channel.open")
			w.lose("connection.close")
			return amqp.WithChannel(ctx, w.cfg, nil)
		}, "the broker did not send connection.close-ok within CloseTimeout", 5 * time.Second},
		"in a call": {inChannel(func(ctx context.Context, w *world, ch *amqp.Channel) error {
			w.dead()
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q"})
			return err
		}), "the broker did not send channel.close-ok within CloseTimeout", 5 * time.Second},
		"blocked by an alarm": {inChannel(func(ctx context.Context, w *world, ch *amqp.Channel) error {
			w.broker.Block("low on memory")
			for {
				if err := ch.Publish(ctx, "", "q", amqp.Message{}); err != nil {
					return err
				}
				synctest.Wait()
			}
		}), "the broker did not send channel.close-ok within CloseTimeout", 5 * time.Second},
		"sending a large body": {func(ctx context.Context, w *world) error {
			nc := w.faulty()
			return amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
				nc().StallWrites()
				for {
					if err := ch.Publish(ctx, "", "q", large); err != nil {
						return err
					}
				}
			})
		}, "the broker did not send channel.close-ok within CloseTimeout", 5 * time.Second},
		"waiting for a confirm": {inChannel(func(ctx context.Context, w *world, ch *amqp.Channel) error {
			require.NoError(w, ch.Confirm(ctx))
			w.dead()
			return ch.Publish(ctx, "", "q", amqp.Message{})
		}), amqp.ErrUnconfirmed.Error(), 5 * time.Second},
		"waiting for MaxInFlight": {inChannel(func(ctx context.Context, w *world, ch *amqp.Channel) error {
			w.dead()
			return ch.WithPublisher(ctx, amqp.PublisherOptions{MaxInFlight: 3}, func(p *amqp.Publisher) error {
				for {
					if _, err := p.Publish(ctx, "", "q", amqp.Message{}); err != nil {
						return err
					}
				}
			})
		}), "3 messages: the outcome of the message is unknown", 5 * time.Second},
		"in a transaction": {inChannel(func(ctx context.Context, w *world, ch *amqp.Channel) error {
			return ch.WithTx(ctx, func() error {
				w.dead()
				<-ctx.Done()
				return ctx.Err()
			})
		}), "the broker did not send tx.rollback-ok within CloseTimeout", 5 * time.Second},
		"waiting for messages": {inChannel(func(ctx context.Context, w *world, ch *amqp.Channel) error {
			return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
				w.dead()
				for range c.Messages() {
				}
				return c.Err()
			})
		}), "the broker did not send basic.cancel-ok within CloseTimeout", 5 * time.Second},
		"between two attempts": {func(ctx context.Context, w *world) error {
			w.broker.Close()
			return amqp.Supervise(ctx, w.cfg, amqp.Retry{Min: time.Hour, Max: 1000 * time.Hour}, nil)
		}, "the last attempt", 0},
		"waiting for an outbox": {func(ctx context.Context, w *world) error {
			return amqp.NewOutbox(amqp.OutboxOptions{}).Publish(ctx, "", "q", amqp.Message{})
		}, "not sent", 0},
	}
	for name, state := range states {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 0)
				ctx, cancel := context.WithCancelCause(context.Background())
				w.cfg.DialTimeout = time.Hour
				var begin time.Time
				time.AfterFunc(2*time.Second, func() { begin = time.Now(); cancel(errSignal) })
				err := state.run(ctx, w)
				assert.ErrorIs(w, err, errSignal)
				assert.ErrorContains(w, err, state.says)
				assert.Equal(w, state.at, time.Since(begin), "%v", err)
				assert.Zero(w, own())
				w.broker.Resume()
				w.broker.Unblock()
			}, amqptest.WithTuning(10, 131072, 6*time.Second)) // the broker goes on sending heartbeats
		})
	}
}

// In the middle of a large body that is being received, straight to where it belongs.
func TestShutdownInTheMiddleOfAReceivedBody(t *testing.T) {
	var begin time.Time
	err := against(t, amqp.Config{CloseTimeout: 3 * time.Second}, func(p *peer) {
		p.tune.FrameMax = 131072
		tag := p.consumer()
		all := message(1, tag, 1, strings.Repeat("x", 1<<20))
		p.raw(all[:len(all)/2])
		<-p.over
	}, func(ctx context.Context, conn *amqp.Conn) error {
		ctx, cancel := context.WithCancelCause(ctx)
		time.AfterFunc(time.Second, func() { begin = time.Now(); cancel(errSignal) })
		return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
			return ch.WithConsumer(ctx, amqp.Consume{}, func(c *amqp.Consumer) error {
				for range c.Messages() {
					assert.Fail(t, "half a message")
				}
				return c.Err()
			})
		})
	}, func(context.Context) { assert.Equal(t, 3*time.Second, time.Since(begin)) })
	says(t, err, []error{errSignal, context.DeadlineExceeded}, "the broker did not send basic.cancel-ok within CloseTimeout")
}

// Over TCP a large body is written from where it is, and a write that has begun can be stuck in the kernel.
func TestShutdownInTheMiddleOfASentBody(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		w.cfg.CloseTimeout = 200 * time.Millisecond
		ctx, cancel := context.WithCancelCause(ctx)
		var begin time.Time
		err := amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
			w.broker.Stall()
			time.AfterFunc(50*time.Millisecond, func() { begin = time.Now(); cancel(errSignal) })
			for {
				if err := ch.Publish(ctx, "", "q", amqp.Message{Body: make([]byte, 32<<20)}); err != nil {
					return err
				}
			}
		})
		assert.ErrorIs(w, err, errSignal)
		assert.ErrorContains(w, err, "within CloseTimeout")
		assert.Less(w, time.Since(begin), hanging/2, "it does not hang")
		w.broker.Resume()
	})
}

// A goroutine that heeds no context can't be ended. The log says who waits for it.
func TestShutdownThatHangsSaysWhatItWaitsFor(t *testing.T) {
	const hour = time.Hour
	hang := func(context.Context) error { time.Sleep(hour); return nil }
	for name, c := range map[string]struct {
		body func(ctx context.Context, conn *amqp.Conn) error
		says []string
	}{
		"a handler": {func(ctx context.Context, conn *amqp.Conn) error {
			return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				return ch.WithConsumer(ctx, amqp.Consume{Queue: "q", Tag: "mine"}, func(c *amqp.Consumer) error {
					return c.Process(3, func(ctx context.Context, body []byte, _ *amqp.Envelope) error { return hang(ctx) })
				})
			})
		}, []string{`consumer \"mine\" on channel 1 of the connection to`, `waits_for="its body, handlers of Process: 2"`}},
		"a task of a consumer": {func(ctx context.Context, conn *amqp.Conn) error {
			return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				return ch.WithConsumer(ctx, amqp.Consume{Queue: "q", Tag: "mine"}, func(c *amqp.Consumer) error {
					c.Go(hang)
					return nil
				})
			})
		}, []string{`consumer \"mine\"`, `waits_for="tasks: 1"`}},
		"a publisher": {func(ctx context.Context, conn *amqp.Conn) error {
			return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				return ch.WithPublisher(ctx, amqp.PublisherOptions{}, func(*amqp.Publisher) error { return hang(ctx) })
			})
		}, []string{"publisher on channel 1", `waits_for="its body"`}},
		"a channel's body": {func(ctx context.Context, conn *amqp.Conn) error {
			return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				_ = ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(*amqp.Consumer) error { <-ctx.Done(); return nil })
				return hang(ctx)
			})
		}, []string{`"channel 1 of`, `waits_for="its body"`}},
		"a connection's body, after a while": {func(ctx context.Context, conn *amqp.Conn) error {
			_ = conn.WithChannel(ctx, func(*amqp.Channel) error { <-ctx.Done(); time.Sleep(2 * time.Second); return nil })
			return hang(ctx)
		}, []string{`scope="connection to`, `waits_for="its body"`}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 2)
				log := w.log()
				w.cfg.CloseTimeout = 3 * time.Second
				ctx, cancel := context.WithCancelCause(context.Background())
				err := amqp.WithConnection(ctx, w.cfg, func(conn *amqp.Conn) error {
					time.AfterFunc(time.Second, func() { cancel(errSignal) })
					time.AfterFunc(time.Second+w.cfg.CloseTimeout-1, func() { assert.Equal(w, []string{""}, log.lines(), "too early") })
					return c.body(ctx, conn)
				})
				assert.ErrorIs(w, err, errSignal)
				lines := log.lines()
				assert.Len(w, lines, 1, "the innermost scope tells, once")
				for _, text := range append(c.says, "level=WARN", "after=3s", "cause=SIGTERM", "does not heed its context") {
					assert.Contains(w, lines[0], text)
				}
				assert.Zero(w, own())
			})
		})
	}
}

func TestShutdownTwice(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 10)
		ctx, cancel := context.WithCancelCause(context.Background())
		again := errors.New("SIGINT")
		err := amqp.WithConnection(ctx, w.cfg, func(conn *amqp.Conn) error {
			return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
					for range c.Messages() {
						cancel(errSignal)
						cancel(again)
						c.Cancel(nil)
						ch.Cancel(nil)
						conn.Cancel(nil)
						conn.Cancel(errSignal)
					}
					return nil
				})
			})
		})
		assert.Equal(w, errSignal, err)
		assert.Equal(w, 10, w.state("q").Ready)
		assert.Zero(w, own())
	})
}

// Whoever is in the scope may end it: a task, or a range over messages.
func TestShutdownFromInside(t *testing.T) {
	who := map[string]func(conn *amqp.Conn, ch *amqp.Channel, c *amqp.Consumer) error{
		"a task of the connection": func(conn *amqp.Conn, _ *amqp.Channel, c *amqp.Consumer) error {
			conn.Go(func(context.Context) error { conn.Cancel(errSignal); return nil })
			for range c.Messages() {
			}
			return nil
		},
		"a task that fails": func(_ *amqp.Conn, ch *amqp.Channel, c *amqp.Consumer) error {
			ch.Go(func(context.Context) error { return errSignal })
			<-c.Context().Done()
			return context.Cause(c.Context())
		},
		"a range": func(conn *amqp.Conn, _ *amqp.Channel, c *amqp.Consumer) error {
			n := 0
			for range c.Messages() {
				n++
				conn.Cancel(errSignal)
			}
			assert.Equal(t, 1, n)
			return c.Err()
		},
		"a handler": func(conn *amqp.Conn, _ *amqp.Channel, c *amqp.Consumer) error {
			return c.Process(4, func(ctx context.Context, _ []byte, _ *amqp.Envelope) error {
				conn.Cancel(errSignal)
				<-ctx.Done()
				return ctx.Err()
			})
		},
		"a range over returns": func(conn *amqp.Conn, ch *amqp.Channel, _ *amqp.Consumer) error {
			returns := ch.Returns()
			require.NoError(t, ch.Publish(ch.Context(), "", "nobody's queue", amqp.Message{Mandatory: true}))
			for range returns {
				conn.Cancel(errSignal)
			}
			return nil
		},
	}
	for name, end := range who {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 10)
				begin := time.Now()
				err := w.connect(func(conn *amqp.Conn) error {
					return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
						return ch.WithConsumer(ch.Context(), amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
							return end(conn, ch, c)
						})
					})
				})
				assert.Equal(w, errSignal, err)
				assert.Zero(w, time.Since(begin))
				assert.Equal(w, 10, w.state("q").Ready)
				assert.Zero(w, own())
			})
		})
	}
}

// A program with an outbox ends as a whole, whatever its handlers wait for.
func TestShutdownWhileAnOutboxWaits(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		w.lose("basic.publish")
		o := amqp.NewOutbox(amqp.OutboxOptions{Capacity: 2})
		ctx, cancel := context.WithCancelCause(context.Background())
		handlers := make(chan error, 4)
		for range 4 {
			go func() { handlers <- o.Publish(ctx, "", "q", amqp.Message{}) }()
		}
		time.AfterFunc(time.Second, func() { cancel(errSignal) })
		begin := time.Now()
		assert.ErrorIs(w, amqp.Supervise(ctx, w.cfg, amqp.Retry{}, o.Run), errSignal)
		assert.Equal(w, time.Second, time.Since(begin))
		unknown := 0
		for range 4 {
			err := <-handlers
			assert.ErrorIs(w, err, errSignal)
			if errors.Is(err, amqp.ErrUnconfirmed) {
				unknown++
			} else {
				assert.ErrorContains(w, err, "not sent: the outbox is full")
			}
		}
		assert.Equal(w, 2, unknown)
		assert.Zero(w, o.Len())
	})
}

// A step of the goodbye that the broker let pass excuses those that follow it, and nobody hours later.
func TestEveryGoodbyeThatIsLateSaysSo(t *testing.T) {
	bubble(t, func(w *world) {
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			for range 3 {
				stop := w.lose("channel.close")
				err := conn.WithChannel(conn.Context(), func(*amqp.Channel) error { return nil })
				assert.ErrorIs(w, err, context.DeadlineExceeded)
				assert.ErrorContains(w, err, "the broker did not send channel.close-ok within CloseTimeout")
				stop()
				time.Sleep(time.Hour)
			}
			return nil
		}))
	})
}

// A broker that drips: every answer but one comes, each after almost CloseTimeout.
func TestAnswersThatComeInTimeAreWaitedFor(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 1)
		w.cfg.CloseTimeout = 4 * time.Second
		for _, m := range []string{"basic.cancel-ok", "channel.flow-ok", "channel.close-ok", "connection.close-ok"} {
			w.slow(m, 3*time.Second)
		}
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			return ch.WithConsumer(ch.Context(), amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
				for _, env := range c.Messages() {
					return env.Ack()
				}
				return nil
			})
		}))
		assert.Zero(w, w.state("q").Unacked+w.state("q").Ready)
	})
}
