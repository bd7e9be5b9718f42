package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/scope"
)

// Rule 5: ctx bounds the call, the scope bounds the life.

var errImpatient = errors.New("the caller has lost patience")

// calls are those that wait for an answer, each with the answer's name.
var calls = map[string]struct {
	answer string
	call   func(ctx context.Context, ch *amqp.Channel) error
}{
	"declare queue": {"queue.declare-ok", func(ctx context.Context, ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "late", AutoDelete: true})
		return err
	}},
	"delete queue": {"queue.delete-ok", func(ctx context.Context, ch *amqp.Channel) error {
		_, err := ch.QueueDelete(ctx, amqp.QueueDelete{Name: "other"})
		return err
	}},
	"purge": {"queue.purge-ok", func(ctx context.Context, ch *amqp.Channel) error {
		_, err := ch.QueuePurge(ctx, amqp.QueuePurge{Name: "other"})
		return err
	}},
	"bind": {"queue.bind-ok", func(ctx context.Context, ch *amqp.Channel) error {
		return ch.QueueBind(ctx, amqp.Binding{Queue: "q", Exchange: "amq.fanout"})
	}},
	"unbind": {"queue.unbind-ok", func(ctx context.Context, ch *amqp.Channel) error {
		return ch.QueueUnbind(ctx, amqp.Binding{Queue: "q", Exchange: "amq.topic"})
	}},
	"declare exchange": {"exchange.declare-ok", func(ctx context.Context, ch *amqp.Channel) error {
		return ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "x", Kind: amqp.Direct})
	}},
	"delete exchange": {"exchange.delete-ok", func(ctx context.Context, ch *amqp.Channel) error {
		return ch.ExchangeDelete(ctx, amqp.ExchangeDelete{Name: "x"})
	}},
	"bind exchange": {"exchange.bind-ok", func(ctx context.Context, ch *amqp.Channel) error {
		return ch.ExchangeBind(ctx, amqp.ExchangeBinding{Source: "amq.topic", Destination: "amq.fanout"})
	}},
	"unbind exchange": {"exchange.unbind-ok", func(ctx context.Context, ch *amqp.Channel) error {
		return ch.ExchangeUnbind(ctx, amqp.ExchangeBinding{Source: "amq.topic", Destination: "amq.fanout"})
	}},
	"topology": {"exchange.declare-ok", func(ctx context.Context, ch *amqp.Channel) error {
		return ch.Declare(ctx, amqp.Topology{
			Exchanges: []amqp.Exchange{{Name: "x", Kind: amqp.Direct}, {Name: "y", Kind: amqp.Direct}},
			Bindings:  []amqp.Binding{{Queue: "q", Exchange: "y"}},
		})
	}},
	"qos": {"basic.qos-ok", func(ctx context.Context, ch *amqp.Channel) error {
		return ch.Qos(ctx, amqp.Qos{PrefetchCount: 7})
	}},
	"flow": {"channel.flow-ok", func(ctx context.Context, ch *amqp.Channel) error { return ch.Flow(ctx, true) }},
	"recover": {"basic.recover-ok", func(ctx context.Context, ch *amqp.Channel) error {
		return ch.Recover(ctx, true)
	}},
	"get": {"basic.get-ok", func(ctx context.Context, ch *amqp.Channel) error {
		_, _, err := ch.Get(ctx, "q", false)
		return err
	}},
	"get from nothing": {"basic.get-empty", func(ctx context.Context, ch *amqp.Channel) error {
		_, _, err := ch.Get(ctx, "other", false)
		return err
	}},
	"consume": {"basic.consume-ok", func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "q", Prefetch: 2}, func(*amqp.Consumer) error { return errors.New("consumed") })
	}},
	"consume, stuck at its prefetch": {"basic.qos-ok", func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Queue: "q", Prefetch: 2}, func(*amqp.Consumer) error { return errors.New("consumed") })
	}},
	"confirm": {"confirm.select-ok", func(ctx context.Context, ch *amqp.Channel) error { return ch.Confirm(ctx) }},
}

func TestAbandonedCallLeavesTheChannelUsable(t *testing.T) {
	for name, c := range calls {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 3)
				w.queue("other", 0)
				live := context.Background()
				require.NoError(w, w.channel(func(ch *amqp.Channel) error {
					stop := w.slow(c.answer, 5*time.Second)
					ctx, cancel := context.WithTimeoutCause(live, time.Second, errImpatient)
					defer cancel()
					begin := time.Now()
					assert.ErrorIs(w, c.call(ctx, ch), errImpatient)
					assert.Equal(w, time.Second, time.Since(begin))
					stop()
					// The next answers come while the late one is still on its way, behind it.
					status, err := ch.QueueDeclare(live, amqp.Queue{Name: "q", Passive: true})
					require.NoError(w, err)
					assert.Equal(w, "q", status.Name)
					require.NoError(w, ch.Publish(live, "", "other", amqp.Message{}))
					_, _, err = ch.Get(live, "none of this name exists", true)
					assert.ErrorIs(w, err, amqp.NotFound, "it answers the right call")
					return nil
				}))
				synctest.Wait()
				assert.Equal(w, 3, w.state("q").Ready, "nothing stays with a caller who has gone")
				assert.Empty(w, w.broker.Consumers())
			})
		})
	}
}

func TestSecondCallOfAKindGetsItsOwnAnswerAfterAnAbandonedOne(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q1", 1)
		w.queue("q2", 2)
		live := context.Background()
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			stop := w.slow("queue.declare-ok", 5*time.Second)
			ctx, cancel := context.WithTimeout(live, time.Second)
			defer cancel()
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q1", Passive: true})
			assert.ErrorIs(w, err, context.DeadlineExceeded)
			stop()
			status, err := ch.QueueDeclare(live, amqp.Queue{Name: "q2", Passive: true})
			assert.Equal(w, amqp.QueueStatus{Name: "q2", Messages: 2}, status)
			return err
		}))
	})
}

func TestLateConsumeOkIsAnsweredWithACancel(t *testing.T) {
	for _, noAck := range []bool{false, true} {
		t.Run(fmt.Sprintf("noAck=%v", noAck), func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 50)
				live := context.Background()
				require.NoError(w, w.channel(func(ch *amqp.Channel) error {
					w.slow("basic.consume-ok", 5*time.Second)
					ctx, cancel := context.WithTimeout(live, time.Second)
					defer cancel()
					err := ch.WithConsumer(ctx, amqp.Consume{Queue: "q", NoAck: noAck}, func(*amqp.Consumer) error { return errors.New("consumed") })
					assert.ErrorIs(w, err, context.DeadlineExceeded)
					assert.Len(w, w.broker.Consumers(), 1, "the broker does not know yet")
					time.Sleep(10 * time.Second)
					assert.Empty(w, w.broker.Consumers())
					if !noAck {
						assert.Equal(w, 50, w.state("q").Ready)
						assert.Equal(w, "0", w.bodies("q")[0], "in order")
					}
					return ch.Context().Err()
				}))
			})
		})
	}
}

func TestLateChannelIsClosed(t *testing.T) {
	bubble(t, func(w *world) {
		live := context.Background()
		w.cfg.ChannelMax = 1
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			stop := w.slow("channel.open-ok", 5*time.Second)
			ctx, cancel := context.WithTimeout(live, time.Second)
			defer cancel()
			never := func(*amqp.Channel) error { return errors.New("opened") }
			assert.ErrorIs(w, conn.WithChannel(ctx, never), context.DeadlineExceeded)
			assert.ErrorIs(w, conn.WithChannel(live, never), amqp.ErrNoChannel, "the number is not free yet")
			stop()
			time.Sleep(10 * time.Second)
			assert.Zero(w, w.broker.Connections()[0].Channels)
			return conn.WithChannel(live, func(ch *amqp.Channel) error {
				assert.EqualValues(w, 1, ch.ID())
				return nil
			})
		}))
	})
}

// A call whose context has ended sends nothing.
func TestCallWithAnEndedContextSendsNothing(t *testing.T) {
	all := map[string]func(ctx context.Context, ch *amqp.Channel) error{}
	for name, c := range calls {
		all[name] = c.call
	}
	all["publish"] = func(ctx context.Context, ch *amqp.Channel) error {
		return ch.Publish(ctx, "", "q", amqp.Message{})
	}
	all["no-wait"] = func(ctx context.Context, ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "late", NoWait: true})
		return err
	}
	all["transaction"] = func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithTx(ctx, func() error { return errors.New("began") })
	}
	all["publisher"] = func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithPublisher(ctx, amqp.PublisherOptions{}, func(*amqp.Publisher) error { return errors.New("began") })
	}
	bubble(t, func(w *world) {
		w.queue("q", 1)
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(errImpatient)
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			synctest.Wait()
			defer w.broker.On("*", func(e *amqptest.Event) amqptest.Action {
				assert.Fail(w, "the broker heard "+e.Method)
				return amqptest.Pass()
			})()
			for name, call := range all {
				assert.ErrorIs(w, call(ctx, ch), errImpatient, name)
			}
			synctest.Wait()
			return nil
		}))
	})
}

func TestPublishWaitsForTheBrokerUntilItsContextEnds(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		live := context.Background()
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			w.broker.Block("disk")
			require.NoError(w, ch.Publish(live, "", "q", amqp.Message{Body: []byte("before")}))
			synctest.Wait() // it was told that it is blocked
			ctx, cancel := context.WithTimeoutCause(live, time.Second, errImpatient)
			defer cancel()
			begin := time.Now()
			assert.ErrorIs(w, ch.Publish(ctx, "", "q", amqp.Message{Body: []byte("never")}), errImpatient)
			assert.Equal(w, time.Second, time.Since(begin))
			time.AfterFunc(time.Hour, w.broker.Unblock)
			require.NoError(w, ch.Publish(live, "", "q", amqp.Message{Body: []byte("after")}))
			assert.Equal(w, time.Second+time.Hour, time.Since(begin))
			synctest.Wait()
			assert.Equal(w, []string{"before", "after"}, w.bodies("q"))
			return nil
		}))
	})
}

// The network takes nothing: a publish waits for room, and its context ends that wait. What was not sent is not sent
// later either.
func TestPublishWaitsForRoomUntilItsContextEnds(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		live := context.Background()
		body := make([]byte, 32<<10)
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			w.broker.Stall()
			ctx, cancel := context.WithTimeoutCause(live, time.Second, errImpatient)
			defer cancel()
			sent := 0
			for ; ; sent++ {
				if err := ch.Publish(ctx, "", "q", amqp.Message{Body: body}); err != nil {
					assert.ErrorIs(w, err, errImpatient)
					break
				}
				require.Less(w, sent, 1000, "the buffer is bounded")
			}
			w.broker.Resume()
			require.NoError(w, ch.Confirm(live))
			assert.Equal(w, sent, w.state("q").Ready)
			return nil
		}))
	})
}

func TestConfirmedPublishWhoseContextEndsIsUnconfirmed(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		live := context.Background()
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			require.NoError(w, ch.Confirm(live))
			w.slow("basic.ack", 5*time.Second)
			ctx, cancel := context.WithTimeoutCause(live, time.Second, errImpatient)
			defer cancel()
			err := ch.Publish(ctx, "", "q", amqp.Message{})
			assert.ErrorIs(w, err, amqp.ErrUnconfirmed)
			assert.ErrorIs(w, err, errImpatient)
			var p *amqp.PublishError
			if assert.ErrorAs(w, err, &p) {
				assert.EqualValues(w, 1, p.Sequence)
			}
			return ch.Publish(live, "", "q", amqp.Message{}) // gets its own confirm, not the late one
		}))
		assert.Equal(w, 2, w.state("q").Ready)
	})
}

func TestReceiptCanBeWaitedForAgain(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		live := context.Background()
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			return ch.WithPublisher(live, amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
				w.slow("basic.ack", 5*time.Second)
				r, err := p.Publish(live, "", "q", amqp.Message{})
				require.NoError(w, err)
				for range 3 {
					ctx, cancel := context.WithTimeoutCause(live, time.Second, errImpatient)
					assert.Equal(w, errImpatient, r.Wait(ctx), "the outcome is still to come")
					assert.Equal(w, errImpatient, p.Wait(ctx))
					cancel()
				}
				assert.NoError(w, p.Wait(live))
				assert.NoError(w, r.Wait(live))
				gone, cancel := context.WithCancel(live)
				cancel()
				assert.NoError(w, r.Wait(gone), "known already")
				return nil
			})
		}))
	})
}

func TestCancelledCallerFinishesTheMessageInHand(t *testing.T) {
	settle := map[string]func(env *amqp.Envelope) error{
		"ack":     (*amqp.Envelope).Ack,
		"ackUpTo": (*amqp.Envelope).AckUpTo,
		"nack":    func(env *amqp.Envelope) error { return env.Nack(false) },
		"reject":  func(env *amqp.Envelope) error { return env.Reject(false) },
	}
	for name, settle := range settle {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 5)
				ctx, cancel := context.WithCancelCause(context.Background())
				seen := 0
				err := amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
					return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
						for _, env := range c.Messages() {
							seen++
							cancel(errImpatient)
							time.Sleep(time.Minute) // it is a long shutdown
							assert.NoError(w, env.Context().Err(), "the delivery lives")
							require.NoError(w, settle(env))
						}
						return nil
					})
				})
				assert.Equal(w, errImpatient, err)
				assert.Equal(w, 1, seen, "no new work")
				assert.Equal(w, []string{"1", "2", "3", "4"}, w.bodies("q"))
				assert.Zero(w, w.state("q").Unacked)
			})
		})
	}
}

func TestLiveContextWorksInACancelledScope(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 2)
		ctx, cancel := context.WithCancel(context.Background())
		err := amqp.WithConnection(ctx, w.cfg, func(conn *amqp.Conn) error {
			return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				cancel()
				return scope.Shield(ctx, time.Minute, func(ctx context.Context) error {
					if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "clean-up", Durable: true}); err != nil {
						return err
					}
					if err := fillWith(ctx, ch); err != nil {
						return err
					}
					_, env, err := ch.Get(ctx, "q", false)
					if err != nil {
						return err
					}
					if err := env.Ack(); err != nil {
						return err
					}
					return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
						_, err := ch.QueueDelete(ctx, amqp.QueueDelete{Name: "clean-up"})
						return err
					})
				})
			})
		})
		assert.ErrorIs(w, err, context.Canceled)
		assert.Equal(w, 1, flat(err))
		assert.Equal(w, []string{"1", "shielded"}, w.bodies("q"))
		_, there := w.broker.Queue("clean-up")
		assert.False(w, there)
	})
}

func fillWith(ctx context.Context, ch *amqp.Channel) error {
	return errors.Join(ch.Confirm(ctx), ch.Publish(ctx, "", "q", amqp.Message{Body: []byte("shielded")}))
}

// Acknowledgements are put off. The end of the scope sends them, and makes sure that the broker has them before the
// channel is closed, which may overtake them inside of the broker.
func TestAcknowledgementsReachTheBrokerBeforeTheGoodbye(t *testing.T) {
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 100)
				var j journal
				j.listen(w.broker, "basic.ack", "channel.flow", "channel.close", "connection.close")
				survive(func() {
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					_ = amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
						return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
							n := 0
							for _, env := range c.Messages() {
								if n++; n%2 == 0 {
									require.NoError(w, env.Ack())
								}
								if n == 50 {
									break
								}
							}
							return end(cancel)
						})
					})
				})
				assert.Equal(w, 75, w.state("q").Ready)
				heard := j.read()
				require.GreaterOrEqual(w, len(heard), 4)
				assert.Equal(w, []string{"channel.flow", "channel.close", "connection.close"}, heard[len(heard)-3:])
			})
		})
	}
}

func TestDialHonoursItsContext(t *testing.T) {
	bubble(t, func(w *world) {
		w.broker.Stall()
		defer w.broker.Resume()
		ctx, cancel := context.WithTimeoutCause(context.Background(), time.Second, errImpatient)
		defer cancel()
		begin := time.Now()
		err := amqp.WithConnection(ctx, w.cfg, func(*amqp.Conn) error { return errors.New("connected") })
		assert.ErrorIs(w, err, errImpatient)
		assert.Equal(w, time.Second, time.Since(begin))
		assert.Zero(w, own())
	})
}
