package integration

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// consume takes n messages from a queue.
func consume(ctx context.Context, ch *amqp.Channel, opts amqp.Consume, n int, take func(i int, body []byte, env *amqp.Envelope) error) error {
	return ch.WithConsumer(ctx, opts, func(c *amqp.Consumer) error {
		i := 0
		for body, env := range c.Messages() {
			if err := take(i, body, env); err != nil {
				return err
			}
			if i++; i == n {
				return nil
			}
		}
		return fmt.Errorf("after %d of %d messages: %w", i, n, c.Err())
	})
}

// texts are n messages, "0", "1" and so on.
func texts(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

func TestConsumeDeliversInOrder(t *testing.T) {
	for _, noAck := range []bool{false, true} {
		t.Run(fmt.Sprintf("noAck=%v", noAck), func(t *testing.T) {
			eachBroker(t, func(t *testing.T, b broker) {
				b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
					require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
						q := newQueue(t, ctx, ch, nil)
						send(t, ctx, ch, q, texts(500)...)
						require.NoError(t, consume(ctx, ch, amqp.Consume{Queue: q, Tag: "me", NoAck: noAck}, 500, func(i int, body []byte, env *amqp.Envelope) error {
							require.Equal(t, fmt.Sprint(i), string(body))
							require.Equal(t, "me", env.ConsumerTag)
							require.Equal(t, uint64(i+1), env.DeliveryTag)
							require.Equal(t, q, env.RoutingKey)
							require.False(t, env.Redelivered)
							if noAck {
								require.ErrorIs(t, env.Ack(), amqp.ErrAlreadySettled)
								return nil
							}
							return env.Ack()
						}))
						requireCount(t, ctx, conn, q, 0)
					}))
				})
			})
		})
	}
}

func TestConsumeWaitsForMessages(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			require.NoError(t, ch.Start(func(ctx context.Context, started func()) error {
				started()
				return ch.Publish(ctx, "", q, amqp.Message{Body: []byte("0")})
			}))
			require.NoError(t, consume(ctx, ch, amqp.Consume{Queue: q, Prefetch: 1}, 50, func(i int, body []byte, env *amqp.Envelope) error {
				assert.Equal(t, fmt.Sprint(i), string(body))
				if err := env.Ack(); err != nil {
					return err
				}
				return ch.Publish(ctx, "", q, amqp.Message{Body: fmt.Append(nil, i+1)})
			}))
		})
	})
}

// Prefetch bounds what is delivered and not settled.
func TestConsumePrefetch(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				send(t, ctx, ch, q, texts(20)...)
				require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q, Prefetch: 5}, func(c *amqp.Consumer) error {
					var unsettled []*amqp.Envelope
					for _, env := range c.Messages() {
						if unsettled = append(unsettled, env); len(unsettled) == 5 {
							break
						}
					}
					requireCount(t, ctx, conn, q, 15)
					require.NoError(t, unsettled[0].Ack())
					for body := range c.Messages() {
						assert.Equal(t, "5", string(body))
						break
					}
					requireCount(t, ctx, conn, q, 14)
					return nil
				}))
			}))
		})
	})
}

func TestConsumePrefetchOfTwoConsumersIsTheirOwn(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				one, two := newQueue(t, ctx, ch, nil), newQueue(t, ctx, ch, nil)
				send(t, ctx, ch, one, texts(10)...)
				send(t, ctx, ch, two, texts(10)...)
				require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: one, Prefetch: 2}, func(*amqp.Consumer) error {
					return ch.WithConsumer(ctx, amqp.Consume{Queue: two, Prefetch: 3}, func(*amqp.Consumer) error {
						requireCount(t, ctx, conn, one, 8)
						requireCount(t, ctx, conn, two, 7)
						return nil
					})
				}))
				requireCount(t, ctx, conn, one, 10)
				requireCount(t, ctx, conn, two, 10)
			}))
		})
	})
}

func TestConsumeUnlimited(t *testing.T) {
	const messages = 2000
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				send(t, ctx, ch, q, texts(messages)...)
				require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q, Prefetch: -1}, func(c *amqp.Consumer) error {
					requireCount(t, ctx, conn, q, 0)
					return nil
				}))
				requireCount(t, ctx, conn, q, messages)
			}))
		})
	})
}

func TestConsumeSeveralOnOneChannel(t *testing.T) {
	const consumers, messages = 5, 100
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			for i := range consumers {
				q := newQueue(t, ctx, ch, nil)
				send(t, ctx, ch, q, texts(messages)...)
				ch.Go(func(ctx context.Context) error {
					return consume(ctx, ch, amqp.Consume{Queue: q, Prefetch: i + 1}, messages, func(i int, body []byte, env *amqp.Envelope) error {
						assert.Equal(t, fmt.Sprint(i), string(body))
						return env.Ack()
					})
				})
			}
		})
	})
}

func TestConsumeOneQueueByTwoConsumers(t *testing.T) {
	const messages = 200
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				var mu sync.Mutex
				var got []string
				complete, done := context.WithCancel(ctx)
				defer done()
				for range 2 {
					require.NoError(t, ch.Start(func(ctx context.Context, started func()) error {
						return ch.WithConsumer(ctx, amqp.Consume{Queue: q, Prefetch: 1}, func(c *amqp.Consumer) error {
							started()
							context.AfterFunc(complete, func() { c.Cancel(nil) })
							for body, env := range c.Messages() {
								assert.NoError(t, env.Ack())
								mu.Lock()
								if got = append(got, string(body)); len(got) == messages {
									done()
								}
								mu.Unlock()
							}
							return nil
						})
					}))
				}
				send(t, ctx, ch, q, texts(messages)...)
				<-complete.Done()
				requireCount(t, ctx, conn, q, 0)
				assert.ElementsMatch(t, texts(messages), got)
			}))
		})
	})
}

// Several loops over one consumer share its messages.
func TestConsumeByManyLoops(t *testing.T) {
	const messages = 500
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			send(t, ctx, ch, q, texts(messages)...)
			var mu sync.Mutex
			var got []string
			require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q, Prefetch: 50}, func(c *amqp.Consumer) error {
				for range 4 {
					c.Go(func(context.Context) error {
						for body, env := range c.Messages() {
							if err := env.Ack(); err != nil {
								return err
							}
							mu.Lock()
							if got = append(got, string(body)); len(got) == messages {
								c.Cancel(nil)
							}
							mu.Unlock()
						}
						return nil
					})
				}
				return nil
			}))
			sort.Strings(got)
			want := texts(messages)
			sort.Strings(want)
			assert.Equal(t, want, got)
		})
	})
}

func TestConsumeBreakAndRangeAgain(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			send(t, ctx, ch, q, texts(30)...)
			require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q, Prefetch: 7}, func(c *amqp.Consumer) error {
				for i := range 30 {
					for body, env := range c.Messages() {
						require.Equal(t, fmt.Sprint(i), string(body))
						require.NoError(t, env.Ack())
						break
					}
				}
				return nil
			}))
		})
	})
}

// What nobody took goes back to the queue, in its place.
func TestConsumeGivesLeftoversBack(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				send(t, ctx, ch, q, texts(10)...)
				require.NoError(t, consume(ctx, ch, amqp.Consume{Queue: q}, 3, func(_ int, _ []byte, env *amqp.Envelope) error {
					return env.Ack()
				}))
				requireCount(t, ctx, conn, q, 7)
				for i := 3; i < 10; i++ {
					text, env := get(t, ctx, ch, q)
					require.Equal(t, fmt.Sprint(i), text)
					require.NoError(t, env.Ack())
				}
			}))
		})
	})
}

func TestConsumeEndsWhenTheQueueIsDeleted(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				for _, asked := range []bool{false, true} {
					q := newQueue(t, ctx, ch, nil)
					send(t, ctx, ch, q, "last")
					err := ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(c *amqp.Consumer) error {
						require.NoError(t, c.Err())
						for body, env := range c.Messages() {
							assert.Equal(t, "last", string(body))
							require.NoError(t, env.Ack())
							_, err := ch.QueueDelete(ctx, amqp.QueueDelete{Name: q})
							require.NoError(t, err)
						}
						if asked {
							require.ErrorIs(t, c.Err(), amqp.ErrConsumerCancelled)
						}
						return nil
					})
					if asked {
						require.NoError(t, err, "an error is told once")
					} else {
						require.ErrorIs(t, err, amqp.ErrConsumerCancelled)
					}
				}
				newQueue(t, ctx, ch, nil) // the channel lives on
			}))
		})
	})
}

func TestConsumeFromAMissingQueue(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				err := ch.WithConsumer(ctx, amqp.Consume{Queue: "missing"}, func(*amqp.Consumer) error {
					t.Error("the body ran")
					return nil
				})
				requireException(t, err, amqp.NotFound, "no queue 'missing'")
			}))
			err := channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				err := ch.WithConsumer(ctx, amqp.Consume{Queue: "missing", NoWait: true}, func(c *amqp.Consumer) error {
					for range c.Messages() {
						t.Error("there was no message")
					}
					return c.Err()
				})
				requireException(t, err, amqp.NotFound, "no queue 'missing'")
			})
			if err != nil {
				requireException(t, err, amqp.NotFound, "no queue 'missing'")
			}
		})
	})
}

func TestConsumeNoWait(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			send(t, ctx, ch, q, "a")
			require.NoError(t, consume(ctx, ch, amqp.Consume{Queue: q, NoWait: true}, 1, func(_ int, body []byte, env *amqp.Envelope) error {
				assert.Equal(t, "a", string(body))
				return env.Ack()
			}))
		})
	})
}

func TestConsumeExclusively(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q, Exclusive: true}, func(*amqp.Consumer) error {
					return channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
						err := ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(*amqp.Consumer) error { return nil })
						requireException(t, err, amqp.AccessRefused, "exclusive use")
					})
				}))
			}))
		})
	})
}

func TestConsumerTags(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(one *amqp.Consumer) error {
				return ch.WithConsumer(ctx, amqp.Consume{Queue: q, Tag: "mine"}, func(two *amqp.Consumer) error {
					assert.NotEmpty(t, one.Tag())
					assert.Equal(t, "mine", two.Tag())
					require.Error(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q, Tag: "mine"}, func(*amqp.Consumer) error { return nil }))
					return nil
				})
			}))
			require.Error(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q, Tag: strings.Repeat("t", 256)}, func(*amqp.Consumer) error { return nil }))
			require.Error(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q, Prefetch: 65536}, func(*amqp.Consumer) error { return nil }))
		})
	})
}

// A declare while a delivery waits to be read does not wait for it.
func TestConsumeAndCallsDoNotBlockEachOther(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				big := strings.Repeat("x", 1<<20)
				send(t, ctx, ch, q, big, big, big, big, big, big, big, big, big, big)
				require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q, NoAck: true}, func(c *amqp.Consumer) error {
					for range 20 { // while the buffer of a slow consumer is full
						newQueue(t, ctx, ch, nil)
						require.NoError(t, conn.WithChannel(ctx, func(*amqp.Channel) error { return nil }))
					}
					n := 0
					for body := range c.Messages() {
						assert.Len(t, body, len(big))
						if n++; n == 10 {
							break
						}
					}
					return nil
				}))
			}))
		})
	})
}

func TestConsumerBodyFails(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			send(t, ctx, ch, q, texts(3)...)
			mine := errors.New("mine")
			err := consume(ctx, ch, amqp.Consume{Queue: q}, 3, func(int, []byte, *amqp.Envelope) error { return mine })
			assert.Equal(t, mine, err)
			newQueue(t, ctx, ch, nil)
		})
	})
}

// The caller's cancellation ends the loop, and the message in hand can still be
// settled.
func TestConsumeUntilCancelled(t *testing.T) {
	const messages = 5
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				send(t, ctx, ch, q, texts(messages)...)
				taken := 0
				enough := errors.New("enough")
				cancelled, cancel := context.WithCancelCause(ctx)
				err := ch.WithConsumer(cancelled, amqp.Consume{Queue: q}, func(c *amqp.Consumer) error {
					for _, env := range c.Messages() {
						cancel(enough)
						taken++
						require.NoError(t, env.Context().Err())
						require.NoError(t, env.Ack())
					}
					return nil
				})
				require.ErrorIs(t, err, enough)
				requireCount(t, ctx, conn, q, messages-taken)
			}))
		})
	})
}

func TestServerEndsAllConsumersOfABox(t *testing.T) {
	onBox(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q"})
			require.NoError(t, err)
			err = ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
				assert.Equal(t, 1, b.box.CancelConsumers("q"))
				for range c.Messages() {
					t.Error("there was no message")
				}
				return nil
			})
			require.ErrorIs(t, err, amqp.ErrConsumerCancelled)
		})
	})
}
