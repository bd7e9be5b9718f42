package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// Rule 4: an error is told once, and never swallowed.

// refused are calls that the broker answers with an exception which ends the channel.
var refused = map[string]struct {
	code amqp.ReplyCode
	call func(ctx context.Context, ch *amqp.Channel) error
}{
	"passive declare": {amqp.NotFound, func(ctx context.Context, ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "none", Passive: true})
		return err
	}},
	"other kind of queue": {amqp.PreconditionFailed, func(ctx context.Context, ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q", AutoDelete: true})
		return err
	}},
	"bind": {amqp.NotFound, func(ctx context.Context, ch *amqp.Channel) error {
		return ch.QueueBind(ctx, amqp.Binding{Queue: "q", Exchange: "none"})
	}},
	"topology": {amqp.NotFound, func(ctx context.Context, ch *amqp.Channel) error {
		return ch.Declare(ctx, amqp.Topology{
			Exchanges: []amqp.Exchange{{Name: "x", Kind: amqp.Direct}},
			Bindings:  []amqp.Binding{{Queue: "q", Exchange: "x"}, {Queue: "q", Exchange: "none"}, {Queue: "q", Exchange: "x", RoutingKey: "more"}},
		})
	}},
	"get": {amqp.NotFound, func(ctx context.Context, ch *amqp.Channel) error {
		_, _, err := ch.Get(ctx, "none", false)
		return err
	}},
	"consume": {amqp.NotFound, func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "none"}, func(*amqp.Consumer) error { return errors.New("consumed") })
	}},
	"confirmed publish": {amqp.NotFound, func(ctx context.Context, ch *amqp.Channel) error {
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		return ch.Publish(ctx, "none", "q", amqp.Message{})
	}},
	"receipt": {amqp.NotFound, func(ctx context.Context, ch *amqp.Channel) error {
		goOn := func(*amqp.PublishError) error { return nil }
		return ch.WithPublisher(ctx, amqp.PublisherOptions{OnFailure: goOn}, func(p *amqp.Publisher) error {
			r, err := p.Publish(ctx, "none", "q", amqp.Message{})
			if err != nil {
				return err
			}
			return r.Wait(ctx)
		})
	}},
	"commit": {amqp.NotFound, func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithTx(ctx, func() error { return ch.Publish(ctx, "none", "q", amqp.Message{}) })
	}},
}

func TestExceptionThatAnswersACallIsThatCallsAlone(t *testing.T) {
	for name, r := range refused {
		if name == "commit" {
			continue // the exception answers the publish, see below
		}
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 0)
				require.NoError(w, w.channel(func(ch *amqp.Channel) error {
					err := r.call(context.Background(), ch)
					assert.ErrorIs(w, err, r.code)
					assert.ErrorIs(w, err, amqp.ErrChannelClosed)
					if e := asException(err); assert.NotNil(w, e) {
						assert.Equal(w, r.code, e.Code)
						assert.False(w, e.Connection)
						assert.NotEmpty(w, e.Text)
						assert.NotZero(w, e.ClassID)
					}
					return nil // handled
				}), "told once")
			})
		})
	}
}

// The caller may be back at the end of its scope before the reader is through with the exception.
func TestExceptionIsToldOnceHoweverFastTheCallerIs(t *testing.T) {
	bubble(t, func(w *world) {
		live := context.Background()
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			for range 300 {
				if err := conn.WithChannel(live, func(ch *amqp.Channel) error {
					require.NoError(w, ch.Confirm(live))
					assert.ErrorIs(w, ch.Publish(live, "none", "q", amqp.Message{}), amqp.NotFound)
					return nil
				}); err != nil {
					return err
				}
			}
			return nil
		}))
	})
}

func TestExceptionThatTheCallerPassesOnIsTold(t *testing.T) {
	for name, r := range refused {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 0)
				err := w.channel(func(ch *amqp.Channel) error { return r.call(context.Background(), ch) })
				assert.ErrorIs(w, err, r.code)
				assert.Equal(w, 1, flat(err), "and once: %v", err)
			})
		})
	}
}

// unheard are exceptions that no call waits for.
var unheard = map[string]struct {
	code amqp.ReplyCode
	do   func(ctx context.Context, w *world, ch *amqp.Channel) error
}{
	"publish": {amqp.NotFound, func(ctx context.Context, _ *world, ch *amqp.Channel) error {
		return ch.Publish(ctx, "none", "q", amqp.Message{})
	}},
	"no-wait": {amqp.NotFound, func(ctx context.Context, _ *world, ch *amqp.Channel) error {
		return ch.QueueBind(ctx, amqp.Binding{Queue: "q", Exchange: "none", NoWait: true})
	}},
	"no-wait consumer": {amqp.NotFound, func(ctx context.Context, _ *world, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "none", NoWait: true}, func(*amqp.Consumer) error { return nil })
	}},
	"no-wait consumer's prefetch": {amqp.AccessRefused, func(ctx context.Context, w *world, ch *amqp.Channel) error {
		w.refuse("basic.qos", 403)
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "q", NoWait: true}, func(*amqp.Consumer) error { return nil })
	}},
	"an operator": {amqp.PreconditionFailed, func(_ context.Context, w *world, ch *amqp.Channel) error {
		w.broker.CloseChannels(406, "PRECONDITION_FAILED - timeout")
		<-ch.Context().Done()
		return nil
	}},
	"abandoned call": {amqp.AccessRefused, func(ctx context.Context, w *world, ch *amqp.Channel) error {
		w.broker.On("queue.declare", func(*amqptest.Event) amqptest.Action {
			return amqptest.CloseChannel(403, "ACCESS_REFUSED").After(2 * time.Second)
		})
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q"})
		assert.ErrorIs(w, err, context.DeadlineExceeded)
		return nil
	}},
	"abandoned confirm": {amqp.NotFound, func(ctx context.Context, w *world, ch *amqp.Channel) error {
		require.NoError(w, ch.Confirm(ctx))
		w.slow("basic.publish", 2*time.Second)
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		assert.ErrorIs(w, ch.Publish(ctx, "none", "q", amqp.Message{}), amqp.ErrUnconfirmed)
		return nil
	}},
	"asynchronous recover": {amqp.AccessRefused, func(_ context.Context, w *world, ch *amqp.Channel) error {
		w.refuse("basic.recover", 403)
		return ch.RecoverAsync(true)
	}},
	"the end of a consumer": {amqp.AccessRefused, func(ctx context.Context, w *world, ch *amqp.Channel) error {
		w.refuse("basic.cancel", 403)
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(*amqp.Consumer) error { return nil })
	}},
	"the end of the channel": {amqp.AccessRefused, func(_ context.Context, w *world, _ *amqp.Channel) error {
		w.refuse("channel.close", 403)
		return nil
	}},
	"the proof that acknowledgements have arrived": {amqp.AccessRefused, func(ctx context.Context, w *world, ch *amqp.Channel) error {
		require.NoError(w, fill(ch, "q", 0, 1))
		w.refuse("channel.flow", 403)
		_, env, err := ch.Get(ctx, "q", false)
		require.NoError(w, err)
		return env.Ack()
	}},
	"the rollback of a failed transaction": {amqp.AccessRefused, func(ctx context.Context, w *world, ch *amqp.Channel) error {
		w.refuse("tx.rollback", 403)
		failure := errors.New("body failed")
		assert.ErrorIs(w, ch.WithTx(ctx, func() error { return failure }), failure)
		return nil
	}},
}

// refuse has the broker answer every method of a name with an exception.
func (w *world) refuse(method string, code uint16) {
	w.broker.On(method, func(e *amqptest.Event) amqptest.Action {
		if e.Direction == amqptest.ToClient {
			return amqptest.Pass()
		}
		return amqptest.CloseChannel(code, "REFUSED")
	})
}

func TestExceptionThatNobodyWasToldComesOut(t *testing.T) {
	for name, u := range unheard {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 0)
				live := context.Background()
				returned := false
				require.NoError(w, w.connect(func(conn *amqp.Conn) error {
					err := conn.WithChannel(live, func(ch *amqp.Channel) error {
						err := u.do(live, w, ch)
						returned = err == nil
						return err
					})
					assert.ErrorIs(w, err, u.code)
					assert.Equal(w, 1, flat(err), "%v", err)
					return nil
				}))
				assert.True(w, returned || name == "no-wait consumer" || name == "no-wait consumer's prefetch", "the body saw no error")
			})
		})
	}
}

// The same for the whole connection.
func TestConnectionsEndThatNobodyWasToldComesOut(t *testing.T) {
	for _, d := range deaths[1:] {
		t.Run(d.name, func(t *testing.T) {
			bubble(t, func(w *world) {
				err := w.connect(func(conn *amqp.Conn) error {
					d.strike(w)
					<-conn.Context().Done()
					return nil
				})
				d.proves(w, err, "WithConnection")
				assert.Equal(w, 1, flat(err))
			})
		})
	}
}

func TestConnectionExceptionThatAnswersACallIsThatCallsAlone(t *testing.T) {
	bubble(t, func(w *world) {
		live := context.Background()
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			return conn.WithChannel(live, func(ch *amqp.Channel) error {
				err := ch.ExchangeDeclare(live, amqp.Exchange{Name: "x", Kind: "no such kind"})
				assert.ErrorIs(w, err, amqp.CommandInvalid)
				assert.ErrorIs(w, err, amqp.ErrConnectionClosed)
				return nil
			})
		}))
	})
}

// A task that is cut short by an exception which the body was told: the task has not done what it was for, so that the
// scope must not look as if it had.
func TestExceptionIsToldWhenItCutATaskShort(t *testing.T) {
	bubble(t, func(w *world) {
		err := w.channel(func(ch *amqp.Channel) error {
			ch.Go(func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			})
			_, err := ch.QueueDeclare(context.Background(), amqp.Queue{Name: "none", Passive: true})
			assert.ErrorIs(w, err, amqp.NotFound)
			return nil
		})
		assert.ErrorIs(w, err, amqp.NotFound)
		assert.Equal(w, 1, flat(err))
	})
}

func TestFailuresAreJoinedAndEchoesLeftOut(t *testing.T) {
	bubble(t, func(w *world) {
		one, two, three := errors.New("one"), errors.New("two"), errors.New("three")
		err := w.channel(func(ch *amqp.Channel) error {
			ch.Go(func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err() // an echo
			})
			ch.Go(func(ctx context.Context) error {
				<-ctx.Done()
				return fmt.Errorf("wrapped: %w", context.Cause(ctx)) // one, too
			})
			ch.Go(func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Second)
				return two
			})
			ch.Go(func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(2 * time.Second)
				return three
			})
			return one
		})
		assert.Equal(w, "one\ntwo\nthree", fmt.Sprint(err))
		for _, e := range []error{one, two, three} {
			assert.ErrorIs(w, err, e)
		}
		assert.NotErrorIs(w, err, context.Canceled)
	})
}

func TestBodysFailureAndTheBrokersAreJoined(t *testing.T) {
	bubble(t, func(w *world) {
		failure := errors.New("body failed")
		err := w.channel(func(ch *amqp.Channel) error {
			w.broker.CloseChannels(406, "PRECONDITION_FAILED")
			<-ch.Context().Done()
			return failure
		})
		assert.ErrorIs(w, err, failure)
		assert.ErrorIs(w, err, amqp.PreconditionFailed)
		assert.Equal(w, 2, flat(err))
	})
}

func TestContextThatEndedBeforeTheBodyIsReported(t *testing.T) {
	cause := errors.New("shut down")
	withs := map[string]func(ctx context.Context, w *world, body func(cancel func(error)) error) error{
		"connection": func(ctx context.Context, w *world, body func(func(error)) error) error {
			return amqp.WithConnection(ctx, w.cfg, func(c *amqp.Conn) error { return body(c.Cancel) })
		},
		"channel": func(ctx context.Context, w *world, body func(func(error)) error) error {
			return w.connect(func(c *amqp.Conn) error {
				return c.WithChannel(ctx, func(ch *amqp.Channel) error { return body(ch.Cancel) })
			})
		},
		"consumer": func(ctx context.Context, w *world, body func(func(error)) error) error {
			return w.channel(func(ch *amqp.Channel) error {
				return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error { return body(c.Cancel) })
			})
		},
		"publisher": func(ctx context.Context, w *world, body func(func(error)) error) error {
			return w.channel(func(ch *amqp.Channel) error {
				return ch.WithPublisher(ctx, amqp.PublisherOptions{}, func(p *amqp.Publisher) error { return body(p.Cancel) })
			})
		},
	}
	for name, with := range withs {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 0)
				ctx, cancel := context.WithCancelCause(context.Background())
				assert.Equal(w, cause, with(ctx, w, func(func(error)) error { cancel(cause); return nil }), "even on nil")

				ctx, cancel = context.WithCancelCause(context.Background())
				assert.Equal(w, cause, with(ctx, w, func(func(error)) error { cancel(cause); return ctx.Err() }), "once")

				ctx, stop := context.WithTimeout(context.Background(), time.Second)
				defer stop()
				assert.Equal(w, context.DeadlineExceeded, with(ctx, w, func(func(error)) error { <-ctx.Done(); return nil }))

				live := context.Background()
				assert.NoError(w, with(live, w, func(end func(error)) error { end(nil); return nil }), "Cancel(nil)")
				assert.NoError(w, with(live, w, func(end func(error)) error { end(nil); return context.Canceled }), "Cancel(nil) and its echo")
				assert.Equal(w, cause, with(live, w, func(end func(error)) error { end(cause); return nil }), "Cancel(cause)")
				failure := errors.New("body failed")
				assert.Equal(w, failure, with(live, w, func(end func(error)) error { end(nil); return failure }))
			})
		})
	}
}

func TestContextThatEndsDuringTheGoodbyeIsNotReported(t *testing.T) {
	bubble(t, func(w *world) {
		w.slow("channel.close-ok", time.Second)
		ctx, cancel := context.WithCancel(context.Background())
		assert.NoError(w, w.connect(func(conn *amqp.Conn) error {
			return conn.WithChannel(ctx, func(*amqp.Channel) error {
				time.AfterFunc(time.Millisecond, cancel)
				return nil
			})
		}), "the work was done")
		assert.Error(w, ctx.Err())
	})
}

func TestSingleErrorComesAsItIs(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		failure := errors.New("body failed")
		live := context.Background()
		assert.Equal(w, failure, w.channel(func(ch *amqp.Channel) error {
			assert.Equal(w, failure, ch.WithTx(live, func() error { return failure }), "transaction")
			return failure
		}))
		assert.Equal(w, failure, w.channel(func(ch *amqp.Channel) error {
			assert.Equal(w, failure, ch.WithPublisher(live, amqp.PublisherOptions{}, func(*amqp.Publisher) error { return failure }), "publisher")
			assert.Equal(w, failure, ch.WithConsumer(live, amqp.Consume{Queue: "q"}, func(*amqp.Consumer) error { return failure }), "consumer")
			return failure
		}))
	})
}

func TestLoginIsRefusedWithTheBrokersWords(t *testing.T) {
	bubble(t, func(w *world) {
		never := func(*amqp.Conn) error { w.Error("connected"); return nil }
		w.cfg.VirtualHost = "none"
		err := w.connect(never)
		assert.ErrorIs(w, err, amqp.NotAllowed)
		assert.ErrorContains(w, err, `"none"`)
		w.cfg.VirtualHost, w.cfg.Password = "", "wrong"
		err = w.connect(never)
		assert.ErrorIs(w, err, amqp.AccessRefused)
		assert.NotContains(w, err.Error(), "wrong")
		if e := asException(err); assert.NotNil(w, e) {
			assert.True(w, e.Connection)
		}
	})
}
