package amqp_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/scope"
)

// Rule 2: exit order is the reverse of entry.

// nested runs inner inside a connection, a channel, a consumer and a publisher, with tasks, and notes what ends when.
// When they are patient the publisher's task takes a second and the consumer's two, else they wait to be cancelled.
func nested(ctx context.Context, w *world, j *journal, patient bool, inner func() error) error {
	task := func(name string, takes time.Duration) func(context.Context) error {
		return func(ctx context.Context) error {
			if patient {
				time.Sleep(takes)
			} else {
				<-ctx.Done()
			}
			j.note(name + " task")
			return nil
		}
	}
	return amqp.WithConnection(ctx, w.cfg, func(conn *amqp.Conn) error {
		defer j.note("connection body")
		return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
			defer j.note("channel body")
			return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
				defer j.note("consumer body")
				return ch.WithPublisher(ctx, amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
					defer j.note("publisher body")
					p.Go(task("publisher", time.Second))
					c.Go(task("consumer", 2*time.Second))
					if !patient {
						ch.Go(task("channel", 0))
						conn.Go(task("connection", 0))
					}
					synctest.Wait()
					return inner()
				})
			})
		})
	})
}

var politeSteps = []string{"basic.cancel", "channel.close", "connection.close"}

func TestExitIsEntryReversed(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		var j journal
		j.listen(w.broker, politeSteps...)
		require.NoError(w, nested(context.Background(), w, &j, true, func() error { return nil }))
		assert.Equal(w, []string{
			"publisher body", "publisher task", "consumer body", "consumer task", "basic.cancel",
			"channel body", "channel.close", "connection body", "connection.close",
		}, j.read())
	})
}

func TestTasksAreWaitedForWhileTheirObjectLives(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		ctx := context.Background()
		later := func(use func() error) func(context.Context) error {
			return func(ctx context.Context) error {
				time.Sleep(time.Hour) // long after the body has returned
				assert.NoError(w, ctx.Err(), "a body's return cancels nothing")
				return use()
			}
		}
		var used atomic.Int32
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			conn.Go(later(func() error {
				used.Add(1)
				return conn.WithChannel(ctx, func(*amqp.Channel) error { return nil })
			}))
			return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				ch.Go(later(func() error {
					used.Add(1)
					_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "late"})
					return err
				}))
				return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
					c.Go(later(func() error {
						if err := ch.Publish(ctx, "", "q", amqp.Message{Body: []byte("x")}); err != nil {
							return err
						}
						for _, env := range c.Messages() {
							used.Add(1)
							return env.Ack()
						}
						return errors.New("no message")
					}))
					return nil
				})
			})
		}))
		assert.EqualValues(w, 3, used.Load())
		assert.Zero(w, w.state("q").Ready, "the acknowledgement was sent")
	})
}

func TestFailureCancelsTasksBeforeTheGoodbye(t *testing.T) {
	failure := errors.New("body failed")
	ends := map[string]func() error{
		"error":  func() error { return failure },
		"panic":  func() error { panic(failure) },
		"Goexit": func() error { runtime.Goexit(); return nil },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 0)
				var j journal
				j.listen(w.broker, politeSteps...)
				done := make(chan struct{})
				go func() {
					defer close(done)
					if name == "panic" {
						defer func() { assert.Equal(w, any(failure), recover(), "the panic goes on as it is") }()
					}
					defer func() {
						assert.Empty(w, w.broker.Connections())
						assert.Empty(w, w.broker.Consumers())
						assert.Zero(w, own())
					}()
					err := nested(context.Background(), w, &j, false, end)
					assert.Equal(w, failure, err, "neither joined nor wrapped")
				}()
				<-done
				assert.Equal(w, []string{
					"publisher body", "publisher task", "consumer body", "consumer task", "basic.cancel",
					"channel body", "channel task", "channel.close", "connection body", "connection task", "connection.close",
				}, j.read())
			})
		})
	}
}

func TestGoodbyeIsShieldedFromTheCallersCancellation(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		var j journal
		j.listen(w.broker, append(politeSteps, "basic.ack")...)
		slow := w.slow("basic.cancel-ok", time.Second)
		defer slow()
		cause := errors.New("shut down")
		ctx, cancel := context.WithCancelCause(context.Background())
		err := nested(ctx, w, &j, false, func() error { cancel(cause); return nil })
		assert.Equal(w, cause, err, "told once although four scopes heard it")
		for _, step := range politeSteps {
			assert.Contains(w, j.read(), step)
		}
	})
}

func TestGoodbyeIsBoundedByCloseTimeout(t *testing.T) {
	for _, step := range []string{"basic.cancel", "channel.close", "connection.close"} {
		t.Run(step, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 0)
				w.cfg.CloseTimeout = 3 * time.Second
				w.lose(step)
				begin := time.Now()
				err := nested(context.Background(), w, new(journal), true, func() error { return nil })
				assert.ErrorIs(w, err, context.DeadlineExceeded)
				assert.ErrorContains(w, err, "CloseTimeout")
				assert.Equal(w, 1, flat(err))
				assert.Equal(w, 2*time.Second+w.cfg.CloseTimeout, time.Since(begin), "with what the tasks take")
			})
		})
	}
}

func TestCloseTimeoutIsSpentOnceHoweverDeepTheNesting(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		w.cfg.CloseTimeout = 3 * time.Second
		begin := time.Now()
		err := nested(context.Background(), w, new(journal), true, func() error {
			w.broker.Stall()
			return nil
		})
		w.broker.Resume()
		assert.ErrorIs(w, err, context.DeadlineExceeded)
		assert.Equal(w, 1, flat(err), "%v", err)
		assert.Equal(w, 2*time.Second+w.cfg.CloseTimeout, time.Since(begin))
		assert.Zero(w, own())
	})
}

func TestBodysErrorComesWithThatOfTheGoodbye(t *testing.T) {
	bubble(t, func(w *world) {
		failure := errors.New("body failed")
		w.lose("channel.close")
		err := w.channel(func(*amqp.Channel) error { return failure })
		assert.ErrorIs(w, err, failure)
		assert.ErrorIs(w, err, context.DeadlineExceeded)
		assert.Equal(w, 2, flat(err))
	})
}

func TestPublisherWaitsForOutcomesBeforeItEnds(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		var j journal
		w.broker.On("basic.ack", func(*amqptest.Event) amqptest.Action {
			time.Sleep(time.Minute)
			j.note("confirm")
			return amqptest.Pass()
		})
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			err := ch.WithPublisher(ch.Context(), amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
				_, err := p.Publish(p.Context(), "", "q", amqp.Message{})
				j.note("published")
				return err
			})
			j.note("publisher ended")
			return err
		}))
		assert.Equal(w, []string{"published", "confirm", "publisher ended"}, j.read())
	})
}

// A publisher whose outer scope has failed waits for outcomes no longer than the goodbye may take.
func TestPublishersWaitIsBoundedWhenItsOuterScopeHasFailed(t *testing.T) {
	failure := errors.New("a sibling failed")
	outers := map[string]func(conn *amqp.Conn, ch *amqp.Channel){
		"channel":    func(_ *amqp.Conn, ch *amqp.Channel) { ch.Cancel(failure) },
		"connection": func(conn *amqp.Conn, _ *amqp.Channel) { conn.Cancel(failure) },
	}
	for name, fail := range outers {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.lose("basic.publish")
				begin := time.Now()
				err := w.connect(func(conn *amqp.Conn) error {
					return conn.WithChannel(context.Background(), func(ch *amqp.Channel) error {
						return ch.WithPublisher(context.Background(), amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
							_, err := p.Publish(context.Background(), "", "q", amqp.Message{})
							fail(conn, ch)
							return err
						})
					})
				})
				assert.ErrorIs(w, err, failure)
				assert.ErrorIs(w, err, amqp.ErrUnconfirmed)
				assert.LessOrEqual(w, time.Since(begin), 6*time.Second)
			})
		})
	}
}

func TestRollbackIsShielded(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		var j journal
		j.listen(w.broker, "tx.commit", "tx.rollback")
		failure := errors.New("body failed")
		err := w.channel(func(ch *amqp.Channel) error {
			ctx, cancel := context.WithCancel(ch.Context())
			return ch.WithTx(ctx, func() error {
				err := ch.Publish(ctx, "", "q", amqp.Message{})
				cancel()
				return errors.Join(err, failure)
			})
		})
		assert.ErrorIs(w, err, failure)
		assert.Equal(w, []string{"tx.rollback"}, j.read())
		assert.Zero(w, w.state("q").Ready)
	})
}

func TestPanicInTransactionRollsBack(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		err := w.channel(func(ch *amqp.Channel) error {
			ctx := ch.Context()
			func() {
				defer func() { assert.Equal(w, "oh", recover()) }()
				_ = ch.WithTx(ctx, func() error {
					require.NoError(w, ch.Publish(ctx, "", "q", amqp.Message{}))
					panic("oh")
				})
			}()
			return ch.WithTx(ctx, func() error { return ch.Publish(ctx, "", "q", amqp.Message{Body: []byte("second")}) })
		})
		require.NoError(w, err)
		assert.Equal(w, []string{"second"}, w.bodies("q"))
	})
}

func TestShieldInACancelledBodyPublishesAndSettles(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 1)
		w.queue("out", 0)
		ctx, cancel := context.WithCancel(context.Background())
		err := amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
			return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
				for body, env := range c.Messages() {
					cancel()
					err := scope.Shield(ctx, time.Second, func(ctx context.Context) error {
						if err := ch.Confirm(ctx); err != nil {
							return err
						}
						return ch.Publish(ctx, "", "out", amqp.Message{Body: body})
					})
					if err != nil {
						return err
					}
					if err := env.Ack(); err != nil {
						return err
					}
				}
				return nil
			})
		})
		assert.Equal(w, context.Canceled, err)
		assert.Equal(w, []string{"0"}, w.bodies("out"))
		assert.Zero(w, w.state("q").Ready+w.state("q").Unacked)
	})
}

// A broker that confirms nothing must not keep a panic from going up.
func TestPublishersWaitIsBoundedWhenItsBodyHasFailed(t *testing.T) {
	failure := errors.New("body failed")
	for name, end := range map[string]func(*amqp.Publisher) error{
		"error":  func(*amqp.Publisher) error { return failure },
		"panic":  func(*amqp.Publisher) error { panic(failure) },
		"task":   func(p *amqp.Publisher) error { p.Go(func(context.Context) error { return failure }); return nil },
		"cancel": func(p *amqp.Publisher) error { p.Cancel(failure); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.lose("basic.publish")
				begin := time.Now()
				survive(func() {
					err := w.channel(func(ch *amqp.Channel) error {
						return ch.WithPublisher(context.Background(), amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
							_, err := p.Publish(context.Background(), "", "q", amqp.Message{})
							require.NoError(w, err)
							return end(p)
						})
					})
					assert.ErrorIs(w, err, failure)
					assert.ErrorIs(w, err, amqp.ErrUnconfirmed)
				})
				assert.LessOrEqual(w, time.Since(begin), 6*time.Second)
				assert.Zero(w, own())
			})
		})
	}
}
