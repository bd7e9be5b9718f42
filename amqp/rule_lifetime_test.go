package amqp_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"weak"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// Rule 1: nothing outlives its scope.

// own counts the goroutines that the library runs, those apart on which a test stands, once all others wait: one that
// has ended may take a moment to be gone.
func own() (n int) {
	synctest.Wait()
	for stack := range strings.SplitSeq(allStacks(), "\n\n") {
		head, _, _ := strings.Cut(stack, "\n")
		if !strings.Contains(head, "synctest bubble") {
			continue // another test's, which has ended
		}
		if strings.Contains(stack, "leveret/amqp.") && !strings.Contains(stack, "amqp_test.") {
			n++
		}
	}
	return n
}

// allStacks is the stack of every goroutine, however many there are.
func allStacks() string {
	for size := 1 << 20; ; size *= 2 {
		stacks := make([]byte, size)
		if n := runtime.Stack(stacks, true); n < size {
			return string(stacks[:n])
		}
	}
}

func TestConnectionRunsTwoGoroutinesAndNothingElseRunsAny(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		ctx := context.Background()
		require.Zero(w, own(), "after a connection has ended")
		var nest func(conn *amqp.Conn, depth int) error
		nest = func(conn *amqp.Conn, depth int) error {
			if depth == 0 {
				assert.Equal(w, 2, own())
				return nil
			}
			return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				return ch.WithPublisher(ctx, amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
					_, err := p.Publish(ctx, "", "q", amqp.Message{Body: []byte("x")})
					require.NoError(w, err)
					ch.Returns()
					conn.Blocked()
					return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
						return nest(conn, depth-1)
					})
				})
			})
		}
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			assert.LessOrEqual(w, own(), 2)
			return nest(conn, 30)
		}))
		assert.Zero(w, own())
	})
}

// The end of a scope starts no goroutine for each range that it ends, which would be about when the scope has returned.
func TestRangesOverNotificationsHaveNoGoroutines(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that none has ended by the time they are counted
	bubble(t, func(w *world) {
		const n = 1000
		var ranges []iter.Seq2[bool, string]
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			return conn.WithChannel(context.Background(), func(ch *amqp.Channel) error {
				for range n {
					ranges = append(ranges, conn.Blocked())
					ch.Returns()
				}
				before := runtime.NumGoroutine()
				conn.Cancel(nil)
				assert.Less(w, runtime.NumGoroutine(), before+n/10)
				return nil
			})
		}))
		for _, changes := range ranges {
			for range changes {
				assert.Fail(w, "a change after the end")
			}
		}
	})
}

// endings are the ways in which a body can end.
var endings = map[string]func(cancel func()) error{
	"return":      func(func()) error { return nil },
	"error":       func(func()) error { return errors.New("body failed") },
	"panic":       func(func()) error { panic("body panicked") },
	"Goexit":      func(func()) error { runtime.Goexit(); return nil },
	"cancelled":   func(cancel func()) error { cancel(); return nil },
	"echoes":      func(cancel func()) error { cancel(); return context.Canceled },
	"early error": func(cancel func()) error { cancel(); return errors.New("body failed") },
}

// survive runs fn on a goroutine of its own, which may panic or exit.
func survive(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = recover() }()
		fn()
	}()
	<-done
}

func TestBrokerSideObjectsAreGoneWhenTheScopeHasReturned(t *testing.T) {
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 3)
				live := context.Background()
				require.NoError(w, w.connect(func(conn *amqp.Conn) error {
					survive(func() {
						ctx, cancel := context.WithCancel(live)
						defer cancel()
						_ = conn.WithChannel(ctx, func(*amqp.Channel) error { return end(cancel) })
					})
					assert.Zero(w, w.broker.Connections()[0].Channels, "channel")
					return conn.WithChannel(live, func(ch *amqp.Channel) error {
						survive(func() {
							ctx, cancel := context.WithCancel(live)
							defer cancel()
							_ = ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(*amqp.Consumer) error {
								synctest.Wait()
								return end(cancel)
							})
						})
						assert.Empty(w, w.broker.Consumers(), "consumer")
						synctest.Wait()
						assert.Equal(w, []string{"0", "1", "2"}, w.bodies("q"), "given back")
						return nil
					})
				}))
				survive(func() {
					ctx, cancel := context.WithCancel(live)
					defer cancel()
					_ = amqp.WithConnection(ctx, w.cfg, func(conn *amqp.Conn) error {
						conn.Go(func(ctx context.Context) error {
							if name != "return" {
								<-ctx.Done()
							}
							return nil
						})
						return end(cancel)
					})
				})
				assert.Empty(w, w.broker.Connections(), "connection")
				assert.Zero(w, own())
			})
		})
	}
}

func TestExclusiveQueueEndsWithItsConnection(t *testing.T) {
	bubble(t, func(w *world) {
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(ch.Context(), amqp.Queue{Name: "mine", Exclusive: true})
			return err
		}))
		_, there := w.broker.Queue("mine")
		assert.False(w, there)
	})
}

func TestFailedOpeningsLeaveNothing(t *testing.T) {
	bubble(t, func(w *world) {
		w.cfg.ChannelMax = 2
		ctx := context.Background()
		never := func(*amqp.Channel) error { w.Error("opened"); return nil }
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			for range 10 {
				gone, cancel := context.WithCancel(ctx)
				cancel()
				assert.ErrorIs(w, conn.WithChannel(gone, never), context.Canceled)
			}
			return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				return conn.WithChannel(ctx, func(*amqp.Channel) error {
					assert.ErrorIs(w, conn.WithChannel(ctx, never), amqp.ErrNoChannel)
					err := ch.WithConsumer(ctx, amqp.Consume{Queue: "none"}, func(*amqp.Consumer) error { w.Error("consumed"); return nil })
					assert.ErrorIs(w, err, amqp.NotFound)
					return nil
				})
			})
		}))
		w.cfg.Password = "wrong"
		err := w.connect(func(*amqp.Conn) error { w.Error("connected"); return nil })
		assert.ErrorIs(w, err, amqp.AccessRefused)
		assert.Zero(w, own())
		assert.Empty(w, w.broker.Connections())
	})
}

func TestObjectsUsedAfterTheirScopeReturnErrors(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 1)
		ctx := context.Background()
		var conn *amqp.Conn
		var ch *amqp.Channel
		var consumer *amqp.Consumer
		var publisher *amqp.Publisher
		var env *amqp.Envelope
		require.NoError(w, w.connect(func(c *amqp.Conn) error {
			conn = c
			return c.WithChannel(ctx, func(c *amqp.Channel) error {
				ch = c
				var inner *amqp.Channel
				require.NoError(w, conn.WithChannel(ctx, func(c *amqp.Channel) error { inner = c; return nil }))
				_, err := inner.QueueDeclare(ctx, amqp.Queue{Name: "q2"})
				assert.ErrorIs(w, err, amqp.ErrChannelClosed)
				require.NoError(w, c.WithPublisher(ctx, amqp.PublisherOptions{}, func(p *amqp.Publisher) error { publisher = p; return nil }))
				return c.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
					consumer = c
					for _, e := range c.Messages() {
						env = e
						break
					}
					return nil
				})
			})
		}))
		_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q2"})
		assert.ErrorIs(w, err, amqp.ErrConnectionClosed)
		assert.Error(w, ch.Publish(ctx, "", "q", amqp.Message{}))
		assert.Error(w, conn.WithChannel(ctx, func(*amqp.Channel) error { w.Error("opened"); return nil }))
		_, err = publisher.Publish(ctx, "", "q", amqp.Message{})
		assert.Error(w, err)
		assert.Error(w, env.Ack())
		assert.Error(w, env.Nack(true))
		assert.Error(w, env.Context().Err())
		for range consumer.Messages() {
			w.Error("message")
		}
		assert.Error(w, consumer.Err())
		for range ch.Returns() {
			w.Error("return")
		}
		for range conn.Blocked() {
			w.Error("blocked")
		}
		assert.Equal(w, 1, w.state("q").Ready, "it was never acknowledged")
	})
}

// oneWay is a connection whose writes can be made to fail while its reads go on. It tells when it is closed.
type oneWay struct {
	net.Conn
	broken, closed atomic.Bool
}

func (c *oneWay) Write(p []byte) (int, error) {
	if c.broken.Load() {
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

func (c *oneWay) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

func TestSocketIsClosedWhenTheConnectionHasReturned(t *testing.T) {
	ends := map[string]func(w *world, nc *oneWay, ch *amqp.Channel) error{
		"goodbye": func(*world, *oneWay, *amqp.Channel) error { return nil },
		"reset":   func(w *world, _ *oneWay, _ *amqp.Channel) error { w.broker.Sever(); return nil },
		"exception": func(w *world, _ *oneWay, _ *amqp.Channel) error {
			w.broker.CloseConnections(320, "CONNECTION_FORCED")
			return nil
		},
		"exception that a failed write overtakes": func(w *world, nc *oneWay, ch *amqp.Channel) error {
			nc.broken.Store(true)
			err := ch.Publish(context.Background(), "", "q", amqp.Message{})
			synctest.Wait() // the writer has failed, and the reader looks for the last word
			w.broker.CloseConnections(320, "CONNECTION_FORCED")
			return err
		},
		"no goodbye": func(w *world, nc *oneWay, ch *amqp.Channel) error { w.broker.Stall(); return nil },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				var nc *oneWay
				w.cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
					inner, err := w.broker.Dial(ctx, network, addr)
					nc = &oneWay{Conn: inner}
					return nc, err
				}
				err := w.channel(func(ch *amqp.Channel) error { return end(w, nc, ch) })
				if strings.Contains(name, "exception") {
					assert.ErrorIs(w, err, amqp.ConnectionForced)
				}
				assert.True(w, nc.closed.Load())
				w.broker.Resume()
			})
		})
	}
}

func TestConnectionIsCollectedWhenItHasReturned(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		const n = 100
		w.queue("large", 0)
		connect := func() (held weak.Pointer[amqp.Conn], kept []byte) {
			err := amqp.WithConnection(ctx, w.cfg, func(conn *amqp.Conn) error {
				held = weak.Make(conn)
				return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
					for i := range n {
						if err := ch.Publish(ctx, "", "large", amqp.Message{Body: make([]byte, 1+i%2*(64<<10))}); err != nil {
							return err
						}
					}
					return ch.WithConsumer(ctx, amqp.Consume{Queue: "large", NoAck: true}, func(c *amqp.Consumer) error {
						got := 0
						for body := range c.Messages() {
							kept = body
							if got++; got == n/2 { // the rest is never taken
								break
							}
						}
						return c.Err()
					})
				})
			})
			require.NoError(w, err)
			return held, kept
		}
		held, kept := connect()
		for held.Value() != nil && ctx.Err() == nil { // goroutines that have ended may take a moment to be gone
			runtime.GC()
			runtime.Gosched()
		}
		assert.Nil(w, held.Value(), "a body that is kept keeps the connection")
		runtime.KeepAlive(kept)
	})
}
