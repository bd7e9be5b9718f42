package amqp_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// What nobody took goes back where it came from, and is marked.
func TestLeftoversGoBackInOrderAndMarked(t *testing.T) {
	for _, prefetch := range []int{0, 1, 7, -1} {
		t.Run(fmt.Sprint("prefetch ", prefetch), func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 30)
				require.NoError(w, w.consume(amqp.Consume{Prefetch: prefetch}, func(_ *amqp.Channel, c *amqp.Consumer) error {
					synctest.Wait()
					n := 0
					for _, env := range c.Messages() {
						require.NoError(w, env.Ack())
						if n++; n == 5 {
							break
						}
					}
					synctest.Wait()
					return nil
				}))
				assert.Equal(w, numbers(5, 30), w.bodies("q"))
				seen := 25
				if prefetch > 0 {
					seen = prefetch
				}
				for i, m := range w.broker.Messages("q") {
					assert.Equal(w, i < seen, m.Redelivered, "message %d", i)
				}
				require.NoError(w, w.consume(amqp.Consume{}, func(_ *amqp.Channel, c *amqp.Consumer) error {
					n := 0
					for body, env := range c.Messages() {
						assert.Equal(w, strconv.Itoa(5+n), string(body))
						assert.Equal(w, n < seen, env.Redelivered)
						require.NoError(w, env.Ack())
						if n++; n == 25 {
							break
						}
					}
					return nil
				}))
			})
		})
	}
}

// A message that was taken and never settled stays with its channel, and goes back with that.
func TestTakenAndUnsettledGoesBackWithTheChannel(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 3)
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			var env *amqp.Envelope
			require.NoError(w, ch.WithConsumer(context.Background(), amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
				for _, e := range c.Messages() {
					env = e
					break
				}
				return nil
			}))
			synctest.Wait()
			assert.Equal(w, 1, w.state("q").Unacked)
			assert.Equal(w, []string{"1", "2"}, w.bodies("q"))
			assert.NoError(w, env.Context().Err(), "it can still be settled")
			return nil
		}))
		assert.Equal(w, []string{"0", "1", "2"}, w.bodies("q"))
	})
}

func TestDeliveriesThatCrossTheCancelGoBack(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			live := context.Background()
			return conn.WithChannel(live, func(ch *amqp.Channel) error {
				for round := range 20 {
					w.broker.On("basic.cancel", func(e *amqptest.Event) amqptest.Action {
						if e.Direction == amqptest.ToBroker { // more comes while the cancel is on its way
							assert.NoError(w, w.channel(func(ch *amqp.Channel) error { return fill(ch, "q", 0, 10) }))
						}
						return amqptest.Pass()
					})()
					err := ch.WithConsumer(live, amqp.Consume{Queue: "q", Prefetch: 5}, func(*amqp.Consumer) error { return nil })
					require.NoError(w, err)
					synctest.Wait()
					state := w.state("q")
					assert.Zero(w, state.Unacked, "round %d", round)
				}
				return nil
			})
		}))
	})
}

// Between two transactions the reader can't give back what crosses the cancel: the end of the consumer does, whatever the
// prefetch.
func TestDeliveriesThatCrossTheCancelGoBackBetweenTransactions(t *testing.T) {
	for _, prefetch := range []int{0, 4, -1} {
		t.Run(fmt.Sprint("prefetch ", prefetch), func(t *testing.T) {
			bubble(t, func(w *world) {
				live := context.Background()
				w.queue("q", 0)
				w.broker.On("basic.cancel", func(e *amqptest.Event) amqptest.Action {
					if e.Direction == amqptest.ToBroker { // more comes while the cancel is on its way
						assert.NoError(w, w.channel(func(ch *amqp.Channel) error { return fill(ch, "q", 0, 4) }))
					}
					return amqptest.Pass()
				})
				require.NoError(w, w.channel(func(ch *amqp.Channel) error {
					require.NoError(w, ch.WithTx(live, func() error { return nil }))
					require.NoError(w, ch.WithConsumer(live, amqp.Consume{Queue: "q", Prefetch: prefetch}, func(*amqp.Consumer) error { return nil }))
					assert.Equal(w, numbers(0, 4), w.bodies("q"))
					assert.Zero(w, w.state("q").Unacked)
					return nil
				}))
			})
		})
	}
}

// While the last handlers finish, the broker sends more for each message that is settled. Giving that back before the
// consumer is cancelled would make the broker send it again, and again, as fast as both can.
func TestConsumerThatFinishesDoesNotBounceMessages(t *testing.T) {
	ends := map[string]func(cancel func(), c *amqp.Consumer){
		"cancel": func(cancel func(), _ *amqp.Consumer) { cancel() },
		"stop":   func(_ func(), c *amqp.Consumer) { c.Stop() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 100)
				deliveries := 0
				w.broker.On("basic.deliver", func(*amqptest.Event) amqptest.Action {
					if deliveries++; deliveries > 1000 {
						return amqptest.Sever()
					}
					return amqptest.Pass()
				})
				ctx, cancel := context.WithCancel(context.Background())
				err := w.channel(func(ch *amqp.Channel) error {
					return ch.WithConsumer(ctx, amqp.Consume{Queue: "q", Prefetch: 4}, func(c *amqp.Consumer) error {
						return c.Process(4, func(_ context.Context, _ []byte, env *amqp.Envelope) error {
							if env.DeliveryTag == 1 {
								synctest.Wait() // all four are at work
								end(cancel, c)
								return nil
							}
							time.Sleep(time.Duration(env.DeliveryTag) * time.Minute)
							return nil
						})
					})
				})
				if name == "cancel" {
					assert.Equal(w, context.Canceled, err)
				} else {
					assert.NoError(w, err)
				}
				assert.Equal(w, numbers(4, 100), w.bodies("q"))
				assert.LessOrEqual(w, deliveries, 8)
			})
		})
	}
}

// The goodbye takes too long, and the channel goes on without the consumer: what the broker still sends for it is given
// back.
func TestDeliveriesAfterAGoodbyeThatTookTooLongAreGivenBack(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		live := context.Background()
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			return conn.WithChannel(live, func(ch *amqp.Channel) error {
				w.slow("basic.cancel", 8*time.Second)
				time.AfterFunc(6*time.Second, func() {
					assert.NoError(w, w.channel(func(ch *amqp.Channel) error { return fill(ch, "q", 0, 3) }))
				})
				err := ch.WithConsumer(live, amqp.Consume{Queue: "q"}, func(*amqp.Consumer) error { return nil })
				assert.ErrorIs(w, err, context.DeadlineExceeded)
				time.Sleep(5 * time.Second)
				assert.Equal(w, numbers(0, 3), w.bodies("q"))
				return ch.Context().Err()
			})
		}))
	})
}

// When a goodbye has taken too long, those after it do not wait for the broker again. They are still said.
func TestConsumersThatCouldNotSayGoodbyeAreCancelledAllTheSame(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("a", 0)
		w.queue("b", 0)
		live := context.Background()
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			_ = ch.WithConsumer(live, amqp.Consume{Queue: "a"}, func(*amqp.Consumer) error {
				return ch.WithConsumer(live, amqp.Consume{Queue: "b"}, func(*amqp.Consumer) error {
					w.broker.Stall()
					return nil
				})
			})
			w.broker.Resume()
			synctest.Wait()
			assert.Empty(w, w.broker.Consumers())
			return nil
		}))
	})
}
