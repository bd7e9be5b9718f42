package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/scope"
)

// Rule 3: what dies, cancels.

// death is a way to lose what everything else stands on.
type death struct {
	name    string
	strike  func(w *world)
	channel bool // the connection survives
	is      []error
	isNot   []error
}

var deaths = []death{
	{
		name: "channel exception", channel: true,
		strike: func(w *world) { w.broker.CloseChannels(406, "PRECONDITION_FAILED - because") },
		is:     []error{amqp.PreconditionFailed, amqp.ErrChannelClosed},
		isNot:  []error{amqp.ErrConnectionClosed, context.Canceled},
	},
	{
		name:   "connection exception",
		strike: func(w *world) { w.broker.CloseConnections(320, "CONNECTION_FORCED - because") },
		is:     []error{amqp.ConnectionForced, amqp.ErrConnectionClosed},
		isNot:  []error{amqp.ErrChannelClosed, context.Canceled},
	},
	{
		name:   "reset",
		strike: func(w *world) { w.broker.Sever() },
		is:     []error{amqp.ErrConnectionClosed, syscall.ECONNRESET},
		isNot:  []error{context.Canceled},
	},
}

// proves that err says what killed the connection or channel.
func (d *death) proves(t assert.TestingT, err error, what string) {
	for _, target := range d.is {
		assert.ErrorIs(t, err, target, what)
	}
	for _, target := range d.isNot {
		assert.NotErrorIs(t, err, target, what)
	}
}

func eachDeath(t *testing.T, test func(w *world, d *death)) {
	for _, d := range deaths {
		t.Run(d.name, func(t *testing.T) { bubble(t, func(w *world) { test(w, &d) }) })
	}
}

func TestDeathCancelsEverythingInsideWithItsCause(t *testing.T) {
	eachDeath(t, func(w *world, d *death) {
		w.queue("q", 1)
		live := context.Background()
		causes := map[string]error{}
		keep := func(name string, ctx context.Context) { // each scope is waited for before the next one's cause is kept
			<-ctx.Done()
			causes[name] = context.Cause(ctx)
		}
		err := w.connect(func(conn *amqp.Conn) error {
			err := conn.WithChannel(live, func(ch *amqp.Channel) error {
				return ch.WithConsumer(live, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
					return ch.WithPublisher(live, amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
						return scope.Run(p.Context(), func(s *scope.Scope) error {
							for _, env := range c.Messages() {
								synctest.Wait()
								d.strike(w)
								keep("delivery", env.Context())
								break
							}
							keep("a scope of the user's", s.Context())
							keep("publisher", p.Context())
							keep("consumer", c.Context())
							keep("channel", ch.Context())
							if !d.channel {
								keep("connection", conn.Context())
							}
							return s.Context().Err()
						})
					})
				})
			})
			d.proves(w, err, "WithChannel")
			if d.channel {
				assert.NoError(w, conn.Context().Err())
				return nil
			}
			return err
		})
		for name, cause := range causes {
			d.proves(w, cause, name)
		}
		if d.channel {
			assert.NoError(w, err)
			assert.Len(w, causes, 5)
			return
		}
		d.proves(w, err, "WithConnection")
		assert.Equal(w, 1, flat(err), "the five scopes' errors are one and the same: %v", err)
		assert.Len(w, causes, 6)
	})
}

func TestBrokersErrorIsTheCauseItself(t *testing.T) {
	bubble(t, func(w *world) {
		err := w.channel(func(ch *amqp.Channel) error {
			w.broker.CloseChannels(406, "PRECONDITION_FAILED - because")
			<-ch.Context().Done()
			cause, ok := context.Cause(ch.Context()).(*amqp.Error) //nolint:errorlint // the type is what is tested
			if assert.True(w, ok) {
				assert.Equal(w, amqp.Error{Code: 406, Text: "PRECONDITION_FAILED - because"}, *cause)
			}
			return nil
		})
		assert.Equal(w, &amqp.Error{Code: 406, Text: "PRECONDITION_FAILED - because"}, err)
	})
}

// A publisher's scope is cancelled with what killed it, and not with what that did to one message.
func TestPublishersCauseIsTheDeath(t *testing.T) {
	eachDeath(t, func(w *world, d *death) {
		w.lose("basic.publish")
		live := context.Background()
		err := w.channel(func(ch *amqp.Channel) error {
			return ch.WithPublisher(live, amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
				for range 3 {
					if _, err := p.Publish(live, "", "q", amqp.Message{}); err != nil {
						return err
					}
				}
				synctest.Wait() // a write that is under way may fail before the reader sees the reset
				d.strike(w)
				<-p.Context().Done()
				d.proves(w, context.Cause(p.Context()), "publisher")
				return nil
			})
		})
		d.proves(w, err, "WithPublisher")
		assert.ErrorIs(w, err, amqp.ErrUnconfirmed)
	})
}

// blocking are the calls that wait for the broker. They are given a context that nothing ends.
var blocking = map[string]func(ctx context.Context, w *world, conn *amqp.Conn, ch *amqp.Channel) error{
	"get": func(ctx context.Context, w *world, _ *amqp.Conn, ch *amqp.Channel) error {
		w.lose("basic.get")
		_, _, err := ch.Get(ctx, "q", false)
		return err
	},
	"declare": func(ctx context.Context, w *world, _ *amqp.Conn, ch *amqp.Channel) error {
		w.lose("queue.declare")
		_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q"})
		return err
	},
	"topology": func(ctx context.Context, w *world, _ *amqp.Conn, ch *amqp.Channel) error {
		w.lose("exchange.declare")
		return ch.Declare(ctx, amqp.Topology{Exchanges: []amqp.Exchange{{Name: "x", Kind: amqp.Fanout}}})
	},
	"qos": func(ctx context.Context, w *world, _ *amqp.Conn, ch *amqp.Channel) error {
		w.lose("basic.qos")
		return ch.Qos(ctx, amqp.Qos{PrefetchCount: 1})
	},
	"confirm": func(ctx context.Context, w *world, _ *amqp.Conn, ch *amqp.Channel) error {
		w.lose("confirm.select")
		return ch.Confirm(ctx)
	},
	"consume": func(ctx context.Context, w *world, _ *amqp.Conn, ch *amqp.Channel) error {
		w.lose("basic.consume")
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(*amqp.Consumer) error { return errors.New("consumed") })
	},
	"confirmed publish": func(ctx context.Context, w *world, _ *amqp.Conn, ch *amqp.Channel) error {
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		w.lose("basic.publish")
		return ch.Publish(ctx, "", "q", amqp.Message{})
	},
	"publish under an alarm": func(ctx context.Context, w *world, conn *amqp.Conn, ch *amqp.Channel) error {
		w.broker.Block("memory")
		if err := ch.Publish(ctx, "", "q", amqp.Message{}); err != nil {
			return err
		}
		for range conn.Blocked() {
			break
		}
		return ch.Publish(ctx, "", "q", amqp.Message{})
	},
	"publisher's publish": func(ctx context.Context, w *world, _ *amqp.Conn, ch *amqp.Channel) error {
		w.lose("basic.publish")
		return ch.WithPublisher(ctx, amqp.PublisherOptions{MaxInFlight: 1, OnFailure: func(*amqp.PublishError) error { return nil }}, func(p *amqp.Publisher) error {
			if _, err := p.Publish(ctx, "", "q", amqp.Message{}); err != nil {
				return err
			}
			_, err := p.Publish(ctx, "", "q", amqp.Message{})
			return err
		})
	},
	"receipt": func(ctx context.Context, w *world, _ *amqp.Conn, ch *amqp.Channel) error {
		w.lose("basic.publish")
		return ch.WithPublisher(ctx, amqp.PublisherOptions{OnFailure: func(*amqp.PublishError) error { return nil }}, func(p *amqp.Publisher) error {
			r, err := p.Publish(ctx, "", "q", amqp.Message{})
			if err != nil {
				return err
			}
			return r.Wait(ctx)
		})
	},
	"barrier": func(ctx context.Context, w *world, _ *amqp.Conn, ch *amqp.Channel) (err error) {
		w.lose("basic.publish")
		_ = ch.WithPublisher(ctx, amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
			if _, err = p.Publish(ctx, "", "q", amqp.Message{}); err == nil {
				err = p.Wait(ctx)
			}
			return nil
		})
		return err
	},
	"consumer": func(ctx context.Context, _ *world, _ *amqp.Conn, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
			for range c.Messages() {
				return errors.New("a message")
			}
			return c.Err()
		})
	},
	"batches": func(ctx context.Context, _ *world, _ *amqp.Conn, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
			for range c.Batches(10, time.Hour) {
				return errors.New("a batch")
			}
			return c.Err()
		})
	},
	"process": func(ctx context.Context, _ *world, _ *amqp.Conn, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
			return c.Process(3, func(context.Context, []byte, *amqp.Envelope) error { return errors.New("a message") })
		})
	},
	"returns": func(_ context.Context, _ *world, _ *amqp.Conn, ch *amqp.Channel) error {
		for range ch.Returns() {
			return errors.New("a return")
		}
		return context.Cause(ch.Context())
	},
	"task": func(_ context.Context, _ *world, _ *amqp.Conn, ch *amqp.Channel) error {
		return ch.Start(func(ctx context.Context, _ func()) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
	},
	"transaction's turn": func(ctx context.Context, _ *world, _ *amqp.Conn, ch *amqp.Channel) error {
		first := make(chan struct{})
		ch.Go(func(context.Context) error {
			_ = ch.WithTx(ctx, func() error {
				close(first)
				<-ch.Context().Done()
				return ch.Context().Err()
			})
			return nil
		})
		<-first
		return ch.WithTx(ctx, func() error { return errors.New("two transactions at once") })
	},
	"commit": func(ctx context.Context, w *world, _ *amqp.Conn, ch *amqp.Channel) error {
		w.lose("tx.commit")
		return ch.WithTx(ctx, func() error { return nil })
	},
	"connection: blocked": func(_ context.Context, _ *world, conn *amqp.Conn, _ *amqp.Channel) error {
		for range conn.Blocked() {
			return errors.New("blocked")
		}
		return context.Cause(conn.Context())
	},
	"connection: secret": func(ctx context.Context, w *world, conn *amqp.Conn, _ *amqp.Channel) error {
		w.lose("connection.update-secret")
		return conn.UpdateSecret(ctx, "new", "old one expired")
	},
	"connection: open a channel": func(ctx context.Context, w *world, conn *amqp.Conn, _ *amqp.Channel) error {
		w.lose("channel.open")
		return conn.WithChannel(ctx, func(*amqp.Channel) error { return errors.New("opened") })
	},
	"connection: status": func(ctx context.Context, w *world, conn *amqp.Conn, _ *amqp.Channel) error {
		w.lose("queue.declare")
		_, err := conn.QueueStatus(ctx, "q")
		return err
	},
}

func TestBlockedCallReturnsTheCause(t *testing.T) {
	for name, call := range blocking {
		t.Run(name, func(t *testing.T) {
			eachDeath(t, func(w *world, d *death) {
				if d.channel && len(name) > 10 && name[:10] == "connection" && name != "connection: status" {
					return // the connection lives
				}
				w.queue("q", 0)
				live := context.Background()
				var got error
				_ = w.connect(func(conn *amqp.Conn) error {
					return conn.WithChannel(live, func(ch *amqp.Channel) error {
						done := make(chan struct{})
						go func() {
							defer close(done)
							got = call(live, w, conn, ch)
						}()
						synctest.Wait()
						select {
						case <-done:
							assert.Fail(w, "it did not wait", "%v", got)
						default:
						}
						d.strike(w)
						<-done
						return nil
					})
				})
				d.proves(w, got, name)
			})
		})
	}
}

// Whoever comes after the death is told the same as who was there.
func TestLateCallReturnsTheCause(t *testing.T) {
	late := map[string]func(ctx context.Context, ch *amqp.Channel) error{
		"publish": func(ctx context.Context, ch *amqp.Channel) error { return ch.Publish(ctx, "", "q", amqp.Message{}) },
		"get":     func(ctx context.Context, ch *amqp.Channel) error { _, _, err := ch.Get(ctx, "q", true); return err },
		"no-wait": func(ctx context.Context, ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q", NoWait: true})
			return err
		},
		"consume": func(ctx context.Context, ch *amqp.Channel) error {
			return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(*amqp.Consumer) error { return nil })
		},
		"publisher": func(ctx context.Context, ch *amqp.Channel) error {
			return ch.WithPublisher(ctx, amqp.PublisherOptions{}, func(*amqp.Publisher) error { return nil })
		},
		"transaction": func(ctx context.Context, ch *amqp.Channel) error { return ch.WithTx(ctx, func() error { return nil }) },
		"recover":     func(_ context.Context, ch *amqp.Channel) error { return ch.RecoverAsync(true) },
	}
	eachDeath(t, func(w *world, d *death) {
		w.queue("q", 3)
		live := context.Background()
		_ = w.channel(func(ch *amqp.Channel) error {
			_, env, err := ch.Get(live, "q", false)
			require.NoError(w, err)
			_, env2, err := ch.Get(live, "q", false)
			require.NoError(w, err)
			d.strike(w)
			<-ch.Context().Done()
			for name, call := range late {
				d.proves(w, call(live, ch), name)
			}
			d.proves(w, env.Ack(), "ack")
			d.proves(w, env2.Nack(true), "nack")
			d.proves(w, ch.Ack(0, true), "ack of all")
			return nil
		})
		synctest.Wait()
		assert.Equal(w, 3, w.state("q").Ready)
	})
}

// The death of one channel is nothing to its neighbours.
func TestChannelExceptionLeavesTheOtherChannelsAlone(t *testing.T) {
	bubble(t, func(w *world) {
		live := context.Background()
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			return conn.WithChannel(live, func(good *amqp.Channel) error {
				for i := range 20 {
					err := conn.WithChannel(live, func(bad *amqp.Channel) error {
						_, _, err := bad.Get(live, "none", true)
						return err
					})
					assert.ErrorIs(w, err, amqp.NotFound)
					_, err = good.QueueDeclare(live, amqp.Queue{Name: fmt.Sprint("q", i), AutoDelete: true})
					require.NoError(w, err)
				}
				return good.Context().Err()
			})
		}))
	})
}

// With an outer context, which nothing ends, the inner scopes still end with the outer ones.
func TestInnerScopeEndsWithTheOuterScopeWhateverItsContext(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		live := context.Background()
		failure := errors.New("a task of the connection's failed")
		var causes []error
		err := w.connect(func(conn *amqp.Conn) error {
			conn.Go(func(context.Context) error {
				time.Sleep(time.Second)
				return failure
			})
			return conn.WithChannel(live, func(ch *amqp.Channel) error {
				return ch.WithConsumer(live, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
					for range c.Messages() {
						return errors.New("a message")
					}
					for _, s := range []*scope.Scope{ch.Scope, c.Scope} {
						causes = append(causes, context.Cause(s.Context()))
					}
					return nil
				})
			})
		})
		assert.Equal(w, failure, err)
		assert.Equal(w, []error{failure, failure}, causes)
	})
}
