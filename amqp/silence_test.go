package amqp_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// steps are the exchanges of a connection's life, each with what the broker says in it: those of calls, and those which
// are no plain call on a channel.
func steps() map[string]step {
	all := map[string]step{
		"open a channel": {answer: "channel.open-ok", do: func(ctx context.Context, conn *amqp.Conn) error {
			return conn.WithChannel(ctx, func(*amqp.Channel) error { return nil })
		}},
		"update the secret": {answer: "connection.update-secret-ok", do: func(ctx context.Context, conn *amqp.Conn) error {
			return conn.UpdateSecret(ctx, "fresh", "test")
		}},
		"status of a queue": {answer: "queue.declare-ok", do: func(ctx context.Context, conn *amqp.Conn) error {
			_, err := conn.QueueStatus(ctx, "q")
			return err
		}},
		"whether an exchange exists": {answer: "exchange.declare-ok", do: func(ctx context.Context, conn *amqp.Conn) error {
			_, err := conn.ExchangeExists(ctx, "amq.direct")
			return err
		}},
		"confirmed message": {answer: "basic.ack", do: inChannel(func(ctx context.Context, ch *amqp.Channel) error {
			if err := ch.Confirm(ctx); err != nil {
				return err
			}
			return ch.Publish(ctx, "", "q", amqp.Message{})
		})},
		"receipt": {answer: "basic.ack", do: inChannel(func(ctx context.Context, ch *amqp.Channel) error {
			var receipt amqp.Receipt
			ignore := func(*amqp.PublishError) error { return nil }
			err := ch.WithPublisher(ctx, amqp.PublisherOptions{OnFailure: ignore}, func(p *amqp.Publisher) (err error) {
				if receipt, err = p.Publish(ctx, "", "q", amqp.Message{}); err != nil {
					return err
				}
				return receipt.Wait(ctx)
			})
			return err
		})},
		"begin a transaction":  {answer: "tx.select-ok", do: inChannel(transact(nil))},
		"commit a transaction": {answer: "tx.commit-ok", do: inChannel(transact(nil))},
		"roll back a transaction": {answer: "tx.rollback-ok", ending: true,
			do: inChannel(transact(errors.New("the body of the transaction has failed")))},
		"end a consumer": {answer: "basic.cancel-ok", ending: true, do: inChannel(func(ctx context.Context, ch *amqp.Channel) error {
			return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(*amqp.Consumer) error { return nil })
		})},
		"prove that acknowledgements have arrived": {answer: "channel.flow-ok", ending: true,
			do: inChannel(func(ctx context.Context, ch *amqp.Channel) error {
				_, env, err := ch.Get(ctx, "q", false)
				if err != nil {
					return err
				}
				return env.Ack()
			})},
		"close a channel":      {answer: "channel.close-ok", ending: true, do: inChannel(func(context.Context, *amqp.Channel) error { return nil })},
		"close the connection": {answer: "connection.close-ok", ending: true, do: func(context.Context, *amqp.Conn) error { return nil }},
	}
	for name, c := range calls {
		all[name] = step{answer: c.answer, do: inChannel(c.call)}
	}
	if len(all) != 31 {
		panic("docs/reliability.md tells another number of exchanges")
	}
	return all
}

// step is one exchange. An ending one belongs to the end of a scope, and Config.CloseTimeout bounds it.
type step struct {
	answer string
	do     func(context.Context, *amqp.Conn) error
	ending bool
}

func transact(fail error) func(context.Context, *amqp.Channel) error {
	return func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithTx(ctx, func() error { return fail })
	}
}

// once has the broker do something else than to say a method, the first time.
func (w *world) once(method string, action func(*amqptest.Event) amqptest.Action) {
	done := false
	w.broker.On(method, func(e *amqptest.Event) amqptest.Action {
		if done || e.Direction != amqptest.ToClient {
			return amqptest.Pass()
		}
		done = true
		return action(e)
	})
}

// The broker leaves one answer out. The call ends with its context, the end of a scope within CloseTimeout, and the
// connection lives on where nothing else was said.
func TestSilenceAtEachStep(t *testing.T) {
	const patience, closing = 2 * time.Second, 3 * time.Second
	for name, s := range steps() {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 3)
				w.queue("other", 0)
				w.cfg.Heartbeat, w.cfg.CloseTimeout = -1, closing
				if name == "close the connection" {
					w.lose("connection.close") // a broker that answered it would hang up
				}
				w.once(s.answer, func(*amqptest.Event) amqptest.Action { return amqptest.Drop() })
				ctx := context.Background()
				if !s.ending {
					impatient, cancel := context.WithTimeoutCause(ctx, patience, errImpatient)
					defer cancel()
					ctx = impatient
				}
				begin := time.Now()
				var told error
				err := w.connect(func(conn *amqp.Conn) error {
					told = s.do(ctx, conn)
					if name == "close the connection" {
						return nil
					}
					_, err := conn.QueueStatus(context.Background(), "q")
					return err
				})
				if took := time.Since(begin); s.ending {
					assert.Equal(w, closing, took)
					require.ErrorIs(w, errors.Join(told, err), context.DeadlineExceeded)
					require.ErrorContains(w, errors.Join(told, err), "the broker did not send "+s.answer+" within CloseTimeout, 3s")
				} else {
					assert.GreaterOrEqual(w, took, patience)
					assert.LessOrEqual(w, took, patience+closing)
					assert.ErrorIs(w, told, errImpatient)
				}
				if name != "close the connection" {
					assert.NoError(w, err, "the connection lives on")
				}
				assert.Zero(w, own())
			})
		})
	}
}

// The broker says nothing at all any more from one answer on, and nothing but the heartbeats bounds the call.
func TestTheBrokerGoesSilentAtEachStep(t *testing.T) {
	for name, s := range steps() {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 3)
				w.queue("other", 0)
				w.cfg.CloseTimeout = 100 * time.Second
				w.once(s.answer, func(*amqptest.Event) amqptest.Action {
					w.broker.Stall()
					return amqptest.Drop()
				})
				begin := time.Now()
				err := w.connect(func(conn *amqp.Conn) error { return s.do(context.Background(), conn) })
				assert.ErrorIs(w, err, amqp.ErrHeartbeatTimeout)
				assert.ErrorIs(w, err, amqp.ErrConnectionClosed)
				assert.LessOrEqual(w, time.Since(begin), 5*beat/2)
				w.broker.Resume()
				synctest.Wait()
				assert.Zero(w, own())
			}, beating)
		})
	}
}

// The broker gives another answer than the one which was asked for: that is the end, and the call is told. On a channel
// that is being closed nothing but the answer to that counts.
func TestAWrongReplyAtEachStep(t *testing.T) {
	for name, s := range steps() {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 3)
				w.queue("other", 0)
				w.once(s.answer, func(e *amqptest.Event) amqptest.Action {
					if s.answer == "exchange.unbind-ok" {
						return amqptest.Reply(amqptest.MethodFrame(e.Channel, 50, 51, nil)) // queue.unbind-ok
					}
					return amqptest.Reply(amqptest.MethodFrame(e.Channel, 40, 51, nil)) // exchange.unbind-ok
				})
				begin := time.Now()
				var told error
				err := w.connect(func(conn *amqp.Conn) error {
					told = s.do(context.Background(), conn)
					return nil
				})
				if name == "close a channel" {
					assert.NoError(w, err)
					assert.ErrorContains(w, told, "the broker did not send channel.close-ok within CloseTimeout, 5s")
					return
				}
				assert.ErrorIs(w, err, amqp.ErrProtocol)
				assert.ErrorIs(w, err, amqp.ErrConnectionClosed)
				assert.ErrorContains(w, err, ".unbind-ok on channel")
				if name != "close the connection" {
					assert.ErrorIs(w, told, amqp.ErrProtocol)
				}
				assert.Zero(w, time.Since(begin))
				assert.Zero(w, own())
			})
		})
	}
}
