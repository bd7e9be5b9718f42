package integration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// take gets n messages from a queue, which must have them, without settling.
func take(t *testing.T, ctx context.Context, ch *amqp.Channel, queue string, n int) (all []*amqp.Envelope) {
	t.Helper()
	for range n {
		_, env := get(t, ctx, ch, queue)
		all = append(all, env)
	}
	return all
}

// onAQueue runs test with a channel and a queue with the messages "0", "1" and
// so on.
func onAQueue(t *testing.T, messages int, test func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, queue string)) {
	t.Helper()
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				send(t, ctx, ch, q, texts(messages)...)
				requireCount(t, ctx, conn, q, messages) // another channel may be faster
				test(t, ctx, conn, ch, q)
			}))
		})
	})
}

// What is not settled goes back with the channel; what is, is gone: so the
// next channel counts what the broker took for settled.
func requireLeft(t *testing.T, ctx context.Context, conn *amqp.Conn, queue string, want ...string) {
	t.Helper()
	requireCount(t, ctx, conn, queue, len(want))
	require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
		var got []string
		for range want {
			text, env := get(t, ctx, ch, queue)
			assert.True(t, env.Redelivered, text)
			got = append(got, text)
		}
		assert.Equal(t, want, got)
	}))
}

func TestSettle(t *testing.T) {
	for name, c := range map[string]struct {
		settle func(ch *amqp.Channel, all []*amqp.Envelope) error
		left   []string
	}{
		"nothing": {
			func(*amqp.Channel, []*amqp.Envelope) error { return nil },
			[]string{"0", "1", "2", "3", "4"},
		},
		"ack one in the middle": {
			func(_ *amqp.Channel, all []*amqp.Envelope) error { return all[2].Ack() },
			[]string{"0", "1", "3", "4"},
		},
		"ack all, backwards": {
			func(_ *amqp.Channel, all []*amqp.Envelope) (err error) {
				for i := range all {
					err = errors.Join(err, all[len(all)-1-i].Ack())
				}
				return err
			},
			nil,
		},
		"ack up to": {
			func(_ *amqp.Channel, all []*amqp.Envelope) error { return all[2].AckUpTo() },
			[]string{"3", "4"},
		},
		"ack one, then up to": {
			func(_ *amqp.Channel, all []*amqp.Envelope) error {
				return errors.Join(all[1].Ack(), all[2].AckUpTo())
			},
			[]string{"3", "4"},
		},
		"ack all by zero": {
			func(ch *amqp.Channel, _ []*amqp.Envelope) error { return ch.Ack(0, true) },
			nil,
		},
		"ack by tag": {
			func(ch *amqp.Channel, all []*amqp.Envelope) error { return ch.Ack(all[0].DeliveryTag, false) },
			[]string{"1", "2", "3", "4"},
		},
		"nack away": {
			func(_ *amqp.Channel, all []*amqp.Envelope) error { return all[1].Nack(false) },
			[]string{"0", "2", "3", "4"},
		},
		"nack several away": {
			func(ch *amqp.Channel, all []*amqp.Envelope) error { return ch.Nack(all[3].DeliveryTag, true, false) },
			[]string{"4"},
		},
		"nack all by zero": {
			func(ch *amqp.Channel, _ []*amqp.Envelope) error { return ch.Nack(0, true, false) },
			nil,
		},
		"nack and requeue": {
			func(ch *amqp.Channel, all []*amqp.Envelope) error { return ch.Nack(all[3].DeliveryTag, true, true) },
			[]string{"0", "1", "2", "3", "4"},
		},
		"reject away": {
			func(ch *amqp.Channel, all []*amqp.Envelope) error {
				return errors.Join(all[0].Reject(false), ch.Reject(all[4].DeliveryTag, false))
			},
			[]string{"1", "2", "3"},
		},
		"a mixture": {
			func(_ *amqp.Channel, all []*amqp.Envelope) error {
				return errors.Join(all[4].Ack(), all[0].Nack(true), all[1].Ack(), all[2].Reject(false))
			},
			[]string{"0", "3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachBroker(t, func(t *testing.T, b broker) {
				b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
					_, err := conn.QueueStatus(ctx, "q")
					require.ErrorIs(t, err, amqp.NotFound)
					require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
						_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q"})
						require.NoError(t, err)
						send(t, ctx, ch, "q", texts(5)...)
						require.NoError(t, c.settle(ch, take(t, ctx, ch, "q", 5)))
					}))
					requireLeft(t, ctx, conn, "q", c.left...)
				})
			})
		})
	}
}

// Each message is settled once, and the channel outlives the attempt to do it
// again.
func TestSettleTwice(t *testing.T) {
	again := map[string]func(env *amqp.Envelope) error{
		"ack":       (*amqp.Envelope).Ack,
		"ack up to": (*amqp.Envelope).AckUpTo,
		"nack":      func(env *amqp.Envelope) error { return env.Nack(true) },
		"reject":    func(env *amqp.Envelope) error { return env.Reject(false) },
	}
	for first, settle := range again {
		t.Run(first, func(t *testing.T) {
			onAQueue(t, 1, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
				_, env := get(t, ctx, ch, q)
				require.NoError(t, settle(env))
				for second, settle := range again {
					assert.ErrorIs(t, settle(env), amqp.ErrAlreadySettled, second)
				}
				newQueue(t, ctx, ch, nil)
			})
		})
	}
}

// A tag that was never delivered is the broker's 406, found before it is sent.
func TestSettleWhatWasNeverDelivered(t *testing.T) {
	onAQueue(t, 1, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
		for _, err := range []error{ch.Ack(99, false), ch.Ack(99, true), ch.Nack(99, false, true), ch.Reject(99, true), ch.Ack(0, false)} {
			assert.ErrorIs(t, err, amqp.PreconditionFailed)
		}
		newQueue(t, ctx, ch, nil)
	})
}

func TestSettleAfterTheEnd(t *testing.T) {
	onAQueue(t, 1, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
		var env *amqp.Envelope
		require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, other *amqp.Channel) {
			_, env = get(t, ctx, other, q)
			require.NoError(t, env.Context().Err())
		}))
		require.ErrorIs(t, context.Cause(env.Context()), amqp.ErrChannelClosed)
		for _, err := range []error{env.Ack(), env.AckUpTo(), env.Nack(true), env.Reject(true)} {
			assert.ErrorIs(t, err, amqp.ErrChannelClosed)
		}
		requireLeft(t, ctx, conn, q, "0")
	})
}

// The cause of a channel's end is what its deliveries say afterwards.
func TestSettleAfterAnException(t *testing.T) {
	onAQueue(t, 1, func(t *testing.T, ctx context.Context, conn *amqp.Conn, _ *amqp.Channel, q string) {
		require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
			_, env := get(t, ctx, ch, q)
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "missing", Passive: true})
			require.ErrorIs(t, err, amqp.NotFound)
			require.ErrorIs(t, context.Cause(env.Context()), amqp.NotFound)
			require.ErrorIs(t, env.Ack(), amqp.NotFound)
		}))
	})
}

func TestSettleZeroValues(t *testing.T) {
	var env amqp.Envelope
	for _, err := range []error{env.Ack(), env.AckUpTo(), env.Nack(true), env.Reject(true), env.Context().Err()} {
		assert.Error(t, err)
	}
}

// Requeued messages come back in their places, marked as redelivered.
func TestSettleRequeueKeepsTheOrder(t *testing.T) {
	onAQueue(t, 5, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
		all := take(t, ctx, ch, q, 3)
		require.NoError(t, all[2].Reject(true))
		require.NoError(t, all[0].Nack(true))
		require.NoError(t, all[1].Nack(true))
		for i := range 5 {
			text, env := get(t, ctx, ch, q)
			assert.Equal(t, fmt.Sprint(i), text)
			assert.Equal(t, i < 3, env.Redelivered, text)
		}
	})
}

// Acknowledgements that many workers give in any order leave coalesced, and
// the broker takes each of them.
func TestSettleByManyWorkers(t *testing.T) {
	const messages, workers = 2000, 8
	for _, prefetch := range []int{3, 100, -1} {
		t.Run(fmt.Sprint(prefetch), func(t *testing.T) {
			onAQueue(t, messages, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
				require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q, Prefetch: prefetch}, func(c *amqp.Consumer) error {
					var mu sync.Mutex
					acked := 0
					for w := range workers {
						c.Go(func(context.Context) error {
							var late []*amqp.Envelope
							for _, env := range c.Messages() {
								if late = append(late, env); w%2 == 0 || len(late) == 2 || prefetch == 3 {
									for i := range late { // backwards
										if err := late[len(late)-1-i].Ack(); err != nil {
											return err
										}
									}
									mu.Lock()
									acked += len(late)
									if acked >= messages-workers {
										c.Cancel(nil)
									}
									mu.Unlock()
									late = late[:0]
								}
							}
							for _, env := range late {
								if err := env.Nack(false); err != nil {
									return err
								}
							}
							return nil
						})
					}
					return nil
				}))
				for {
					_, env, err := ch.Get(ctx, q, false)
					if errors.Is(err, amqp.ErrEmptyQueue) {
						break
					}
					require.NoError(t, err)
					require.NoError(t, env.Ack())
				}
			})
		})
	}
}

// What a scope settled last is not lost with it, though nothing waits for it.
func TestSettledLastIsNotLost(t *testing.T) {
	onAQueue(t, 100, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
		for range 10 {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				require.NoError(t, consume(ctx, ch, amqp.Consume{Queue: q}, 10, func(_ int, _ []byte, env *amqp.Envelope) error {
					return env.Ack()
				}))
			}))
		}
		requireEmpty(t, ctx, ch, q)
	})
}

// A channel and a connection that end give back what they have not settled,
// with a consumer or without.
func TestRequeueOnClose(t *testing.T) {
	for _, how := range []string{"channel", "connection"} {
		for _, noAck := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s noAck=%v", how, noAck), func(t *testing.T) {
				eachBroker(t, func(t *testing.T, b broker) {
					b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
						require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
							_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q"})
							require.NoError(t, err)
							send(t, ctx, ch, "q", texts(6)...)
							requireCount(t, ctx, conn, "q", 6) // another connection may be faster
							use := func(ctx context.Context, ch *amqp.Channel) {
								for range 3 {
									_, _, err := ch.Get(ctx, "q", noAck)
									require.NoError(t, err)
								}
							}
							if how == "channel" {
								require.NoError(t, channelOn(ctx, conn, use))
							} else {
								b.channel(t, use)
							}
							if noAck {
								requireCount(t, ctx, conn, "q", 3)
							} else {
								requireCount(t, ctx, conn, "q", 6)
							}
						}))
					})
				})
			})
		}
	}
}
