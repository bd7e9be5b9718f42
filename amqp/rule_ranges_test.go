package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// Rule 6: a loop over an iterator ends when its scope does, when the broker ends it, or at break.

// consume runs body with a consumer of queue "q" on a connection of its own.
func (w *world) consume(opts amqp.Consume, body func(*amqp.Channel, *amqp.Consumer) error) error {
	opts.Queue = "q"
	return w.channel(func(ch *amqp.Channel) error {
		return ch.WithConsumer(context.Background(), opts, func(c *amqp.Consumer) error { return body(ch, c) })
	})
}

func numbers(from, to int) (list []string) {
	for i := from; i < to; i++ {
		list = append(list, strconv.Itoa(i))
	}
	return list
}

func TestRangeContinuesWhereTheLastOneStopped(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 100)
		var got []string
		require.NoError(w, w.consume(amqp.Consume{Prefetch: 7}, func(_ *amqp.Channel, c *amqp.Consumer) error {
			for len(got) < 100 {
				until := min(100, len(got)+1+len(got)%5)
				switch len(got) % 3 {
				case 0, 1:
					for body, env := range c.Messages() {
						got = append(got, string(body))
						require.NoError(w, env.Ack())
						if len(got) == until {
							break
						}
					}
				case 2:
					for batch := range c.Batches(3, 0) {
						for body := range batch.All() {
							got = append(got, string(body))
						}
						require.NoError(w, batch.Ack())
						break
					}
				}
			}
			return nil
		}))
		assert.Equal(w, numbers(0, 100), got)
		assert.Zero(w, w.state("q").Ready+w.state("q").Unacked)
	})
}

func TestRangeEndsWithItsScope(t *testing.T) {
	ends := map[string]func(ctx context.CancelFunc, ch *amqp.Channel, c *amqp.Consumer){
		"ctx":      func(cancel context.CancelFunc, _ *amqp.Channel, _ *amqp.Consumer) { cancel() },
		"consumer": func(_ context.CancelFunc, _ *amqp.Channel, c *amqp.Consumer) { c.Cancel(nil) },
		"channel":  func(_ context.CancelFunc, ch *amqp.Channel, _ *amqp.Consumer) { ch.Cancel(nil) },
		"stop":     func(_ context.CancelFunc, _ *amqp.Channel, c *amqp.Consumer) { c.Stop() },
	}
	ranges := map[string]func(c *amqp.Consumer, each func()){
		"messages": func(c *amqp.Consumer, each func()) {
			for range c.Messages() {
				each()
			}
		},
		"batches": func(c *amqp.Consumer, each func()) {
			for range c.Batches(1, time.Hour) {
				each()
			}
		},
		"process": func(c *amqp.Consumer, each func()) {
			_ = c.Process(1, func(context.Context, []byte, *amqp.Envelope) error { each(); return nil })
		},
	}
	for how, end := range ends {
		for what, loop := range ranges {
			t.Run(how+" ends "+what, func(t *testing.T) {
				bubble(t, func(w *world) {
					w.queue("q", 10)
					run := func(body func(end func(), c *amqp.Consumer)) {
						_ = w.channel(func(ch *amqp.Channel) error {
							ctx, cancel := context.WithCancel(context.Background())
							defer cancel()
							return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
								synctest.Wait() // messages are there
								body(func() { end(cancel, ch, c) }, c)
								return nil
							})
						})
						assert.Zero(w, w.state("q").Unacked)
					}
					run(func(end func(), c *amqp.Consumer) {
						n := 0
						loop(c, func() {
							if n++; n == 3 {
								end()
								if how == "channel" {
									<-c.Context().Done() // the news travels
								}
							}
						})
						assert.Equal(w, 3, n, "it ends before the next message")
					})
					run(func(end func(), c *amqp.Consumer) {
						end()
						if how == "channel" {
							<-c.Context().Done()
						}
						loop(c, func() { assert.Fail(w, "a message after the end") })
					})
				})
			})
		}
	}
}

func TestRangeThatWaitsEndsWithItsScope(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		for _, loops := range []int{1, 5} {
			require.NoError(w, w.consume(amqp.Consume{}, func(_ *amqp.Channel, c *amqp.Consumer) error {
				var running sync.WaitGroup
				for i := range loops {
					running.Go(func() {
						if i%2 == 0 {
							for range c.Messages() {
								assert.Fail(w, "a message")
							}
							return
						}
						for range c.Batches(10, time.Minute) {
							assert.Fail(w, "a batch")
						}
					})
				}
				synctest.Wait()
				c.Cancel(nil)
				running.Wait()
				assert.ErrorIs(w, c.Err(), context.Canceled)
				return nil
			}))
		}
	})
}

// Whoever has ended a scope, or knows that it has ended, hears why from Err: the news need not have come around.
func TestErrKnowsOfTheEndOfTheScopeAtOnce(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		failure := errors.New("a task failed")
		assert.Equal(w, failure, w.consume(amqp.Consume{}, func(_ *amqp.Channel, c *amqp.Consumer) error {
			assert.NoError(w, c.Err())
			c.Cancel(failure)
			assert.Equal(w, failure, c.Err())
			return nil
		}))
		require.NoError(w, w.consume(amqp.Consume{}, func(_ *amqp.Channel, c *amqp.Consumer) error {
			c.Stop()
			c.Cancel(nil)
			assert.NoError(w, c.Err(), "it was stopped before")
			return nil
		}))
	})
}

func TestSeveralRangesShareTheMessages(t *testing.T) {
	bubble(t, func(w *world) {
		const n, loops = 1000, 8
		w.queue("q", n)
		var mu sync.Mutex
		var got []int
		var last [loops]int
		require.NoError(w, w.consume(amqp.Consume{Prefetch: 20}, func(_ *amqp.Channel, c *amqp.Consumer) error {
			for id := range loops {
				take := func(body []byte) (enough bool) {
					i, _ := strconv.Atoi(string(body))
					mu.Lock()
					defer mu.Unlock()
					assert.Greater(w, i+1, last[id], "in order within each loop")
					last[id] = i + 1
					if got = append(got, i); len(got) == n {
						c.Stop()
					}
					return len(got)%10 == id // some break now and then, and come back
				}
				c.Go(func(context.Context) error {
					for c.Err() == nil {
						stopped := true
						for body, env := range c.Messages() {
							if err := env.Ack(); err != nil {
								return err
							}
							if take(body) {
								stopped = false
								break
							}
						}
						if stopped {
							return nil
						}
					}
					return nil
				})
			}
			return nil
		}))
		slices.Sort(got)
		require.Len(w, got, n, "none lost and none doubled")
		for i := range got {
			require.Equal(w, i, got[i])
		}
		assert.Zero(w, w.state("q").Ready+w.state("q").Unacked)
	})
}

func TestBrokersCancelEndsTheRangesAfterWhatWasDelivered(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 10)
		var got []string
		require.NoError(w, w.consume(amqp.Consume{}, func(_ *amqp.Channel, c *amqp.Consumer) error {
			synctest.Wait()
			w.broker.CancelConsumers("q")
			synctest.Wait()
			for body, env := range c.Messages() {
				got = append(got, string(body))
				require.NoError(w, env.Ack())
			}
			assert.ErrorIs(w, c.Err(), amqp.ErrConsumerCancelled)
			for range c.Messages() {
				assert.Fail(w, "a message")
			}
			return nil
		}))
		assert.Equal(w, numbers(0, 10), got)
		assert.Zero(w, w.state("q").Ready+w.state("q").Unacked)
	})
}

func TestConsumerCanBeStartedAgainAfterTheBrokersCancel(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		live := context.Background()
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			err := ch.WithConsumer(live, amqp.Consume{Queue: "q", Tag: "mine"}, func(c *amqp.Consumer) error {
				w.broker.CancelConsumers("q")
				<-c.Context().Done() // nobody ranges: the scope of an idle consumer still hears of it
				return nil
			})
			assert.ErrorIs(w, err, amqp.ErrConsumerCancelled)
			require.NoError(w, ch.Publish(live, "", "q", amqp.Message{Body: []byte("0")}))
			return ch.WithConsumer(live, amqp.Consume{Queue: "q", Tag: "mine"}, func(c *amqp.Consumer) error {
				for body, env := range c.Messages() {
					assert.Equal(w, "0", string(body))
					return env.Ack()
				}
				return c.Err()
			})
		}))
	})
}

func TestReturnsAreRangedOverFromTheCallOn(t *testing.T) {
	bubble(t, func(w *world) {
		live := context.Background()
		publish := func(ch *amqp.Channel, n int) {
			for i := range n {
				require.NoError(w, ch.Publish(live, "", "nowhere", amqp.Message{Mandatory: true, Body: fmt.Append(nil, i)}))
			}
			synctest.Wait()
		}
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			publish(ch, 3) // logged, since nobody is there
			returns := ch.Returns()
			publish(ch, 4)
			var got []string
			for body, ret := range returns {
				assert.Equal(w, amqp.NoRoute, ret.ReplyCode)
				assert.Equal(w, "nowhere", ret.RoutingKey)
				if got = append(got, string(body)); len(got) == 2 {
					break
				}
			}
			for body := range ch.Returns() {
				if got = append(got, string(body)); len(got) == 4 {
					break
				}
			}
			assert.Equal(w, numbers(0, 4), got)
			return nil
		}))
	})
}

func TestBlockedTellsEachChangeAndEndsWithTheConnection(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		var seen []string
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			changes := conn.Blocked()
			conn.Go(func(context.Context) error {
				for blocked, reason := range changes {
					seen = append(seen, fmt.Sprint(blocked, " ", reason))
				}
				return nil
			})
			err := conn.WithChannel(context.Background(), func(ch *amqp.Channel) error {
				for _, reason := range []string{"memory", "disk"} {
					w.broker.Block(reason)
					require.NoError(w, ch.Publish(context.Background(), "", "q", amqp.Message{}))
					synctest.Wait()
					assert.True(w, conn.Stats().Blocked)
					w.broker.Unblock()
					synctest.Wait()
				}
				return nil
			})
			conn.Cancel(nil)
			return err
		}))
		assert.Equal(w, []string{"true memory", "false ", "true disk", "false "}, seen)
	})
}

func TestProcessSettlesByHowTheHandlerEnded(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 6)
		live := context.Background()
		var j journal
		for _, method := range []string{"basic.ack", "basic.nack", "basic.reject"} {
			w.broker.On(method, func(e *amqptest.Event) amqptest.Action {
				requeue := ""
				if r, ok := e.Field("requeue").(bool); ok {
					requeue = fmt.Sprint(" ", r)
				}
				j.note(fmt.Sprint(e.Method, requeue, " ", e.Field("delivery-tag")))
				return amqptest.Pass()
			})
		}
		ctx, cancel := context.WithCancel(live)
		err := w.channel(func(ch *amqp.Channel) error {
			return ch.WithConsumer(ctx, amqp.Consume{Queue: "q", Prefetch: 1}, func(c *amqp.Consumer) error {
				return c.Process(1, func(ctx context.Context, _ []byte, env *amqp.Envelope) error {
					synctest.Wait()
					switch env.DeliveryTag {
					case 1:
						return nil
					case 2:
						return errors.New("failed")
					case 3:
						return fmt.Errorf("poison: %w", amqp.Drop)
					case 4:
						return env.Ack() // by itself
					}
					cancel()
					<-ctx.Done()
					return ctx.Err()
				})
			})
		})
		assert.ErrorIs(w, err, context.Canceled)
		assert.Equal(w, []string{"basic.ack 1", "basic.reject true 2", "basic.reject false 3", "basic.ack 4", "basic.nack true 5"}, j.read()[:5])
		assert.LessOrEqual(w, len(j.read()), 6, "the last one may come once more before the broker hears of the end")
	})
}

func TestStoppedConsumerWithoutPrefetchIsHeldBack(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		live := context.Background()
		const n, size = 200, 100 << 10
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			return ch.WithPublisher(live, amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
				for range n {
					if _, err := p.Publish(live, "", "q", amqp.Message{Body: make([]byte, size)}); err != nil {
						return err
					}
				}
				return nil
			})
		}))
		var before, after uint64
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			return conn.WithChannel(live, func(ch *amqp.Channel) error {
				err := ch.WithConsumer(live, amqp.Consume{Queue: "q", Prefetch: -1}, func(c *amqp.Consumer) error {
					c.Stop()
					synctest.Wait()
					before = conn.Stats().Delivered
					_, err := ch.QueueDeclare(live, amqp.Queue{Name: "q", Passive: true}) // gets through all the same
					return err
				})
				after = conn.Stats().Delivered
				return err
			})
		}))
		assert.Less(w, before, uint64(n/2))
		assert.LessOrEqual(w, after, uint64(n))
		assert.Equal(w, n, w.state("q").Ready)
	})
}
