package integration

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

func TestMessageExpires(t *testing.T) {
	for name, c := range map[string]struct {
		arguments  amqp.Table
		expiration string
	}{
		"its own":           {nil, "20"},
		"the queue's":       {amqp.Table{"x-message-ttl": 20}, ""},
		"the smaller":       {amqp.Table{"x-message-ttl": 60_000}, "20"},
		"at once":           {nil, "0"},
		"at once by queue":  {amqp.Table{"x-message-ttl": 0}, ""},
		"by amqp.TTL":       {nil, amqp.TTL(20 * time.Millisecond)},
		"the queue's below": {amqp.Table{"x-message-ttl": 20}, "60000"},
	} {
		t.Run(name, func(t *testing.T) {
			eachBroker(t, func(t *testing.T, b broker) {
				b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
					require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
						q := newQueue(t, ctx, ch, c.arguments)
						require.NoError(t, ch.Confirm(ctx)) // or the queue may be empty as nothing has come yet
						require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Properties: amqp.Properties{Expiration: c.expiration}}))
						requireCount(t, ctx, conn, q, 0)
						requireEmpty(t, ctx, ch, q)
					}))
				})
			})
		})
	}
}

// withDeadLetters declares a queue for dead letters and one whose dead go
// there.
func withDeadLetters(t *testing.T, ctx context.Context, ch *amqp.Channel, arguments amqp.Table) (queue, dead string) {
	t.Helper()
	dead = newQueue(t, ctx, ch, nil)
	all := amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
	maps.Copy(all, arguments)
	return newQueue(t, ctx, ch, all), dead
}

func TestDeadLetters(t *testing.T) {
	away := func(settle func(*amqp.Envelope) error) func(*testing.T, context.Context, *amqp.Channel, string) {
		return func(t *testing.T, ctx context.Context, ch *amqp.Channel, q string) {
			_, env := get(t, ctx, ch, q)
			require.NoError(t, settle(env))
		}
	}
	for reason, c := range map[string]struct {
		arguments amqp.Table
		kill      func(t *testing.T, ctx context.Context, ch *amqp.Channel, q string)
	}{
		"rejected": {nil, away(func(env *amqp.Envelope) error { return env.Reject(false) })},
		"expired":  {amqp.Table{"x-message-ttl": 10}, func(*testing.T, context.Context, *amqp.Channel, string) {}},
		"maxlen": {amqp.Table{"x-max-length": 1}, func(t *testing.T, ctx context.Context, ch *amqp.Channel, q string) {
			send(t, ctx, ch, q, "too many")
		}},
	} {
		t.Run(reason, func(t *testing.T) {
			eachBroker(t, func(t *testing.T, b broker) {
				b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
					q, dead := withDeadLetters(t, ctx, ch, c.arguments)
					require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{
						Properties: amqp.Properties{MessageID: "id", Headers: amqp.Table{"mine": "kept"}}, Body: []byte("body"),
					}))
					c.kill(t, ctx, ch, q)
					text, env := await(t, ctx, ch, dead)
					assert.Equal(t, "body", text)
					assert.Equal(t, "id", env.Properties.MessageID)
					assert.Equal(t, "kept", env.Properties.Headers["mine"])
					assert.Equal(t, dead, env.RoutingKey)
					assert.Equal(t, q, env.Properties.Headers["x-first-death-queue"])
					assert.Equal(t, reason, env.Properties.Headers["x-first-death-reason"])
					deaths := env.Properties.Headers["x-death"].([]any)
					require.Len(t, deaths, 1)
					death := deaths[0].(amqp.Table)
					assert.Equal(t, reason, death["reason"])
					assert.Equal(t, q, death["queue"])
					assert.EqualValues(t, 1, death["count"])
					assert.Equal(t, []any{q}, death["routing-keys"])
					assert.WithinDuration(t, time.Now(), death["time"].(time.Time), time.Minute)
				})
			})
		})
	}
}

func TestDeadLetterNackedTogether(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q, dead := withDeadLetters(t, ctx, ch, nil)
			send(t, ctx, ch, q, texts(5)...)
			all := take(t, ctx, ch, q, 5)
			require.NoError(t, ch.Nack(all[3].DeliveryTag, true, false))
			for _, want := range texts(4) {
				text, _ := await(t, ctx, ch, dead)
				assert.Equal(t, want, text)
			}
		})
	})
}

func TestQueueLengthLimit(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			byCount := newQueue(t, ctx, ch, amqp.Table{"x-max-length": 2})
			send(t, ctx, ch, byCount, texts(5)...)
			for _, want := range []string{"3", "4"} {
				text, _ := get(t, ctx, ch, byCount)
				assert.Equal(t, want, text)
			}
			requireEmpty(t, ctx, ch, byCount)
			byBytes := newQueue(t, ctx, ch, amqp.Table{"x-max-length-bytes": 4})
			send(t, ctx, ch, byBytes, "aaa", "bbb", "c")
			for _, want := range []string{"bbb", "c"} {
				text, _ := get(t, ctx, ch, byBytes)
				assert.Equal(t, want, text)
			}
		})
	})
}

func TestQueuePriorities(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, amqp.Table{"x-max-priority": 5})
			for i, priority := range []uint8{0, 3, 5, 9, 1, 3} {
				require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{
					Properties: amqp.Properties{Priority: priority}, Body: []byte{'0' + byte(i)},
				}))
			}
			for _, want := range []string{"2", "3", "1", "5", "4", "0"} {
				text, _ := get(t, ctx, ch, q)
				assert.Equal(t, want, text)
			}
		})
	})
}

func TestConsumerPriorities(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				low := amqp.Consume{Queue: q, Prefetch: 10, Arguments: amqp.Table{"x-priority": 1}}
				high := amqp.Consume{Queue: q, Prefetch: 3, Arguments: amqp.Table{"x-priority": 2}}
				require.NoError(t, ch.WithConsumer(ctx, low, func(low *amqp.Consumer) error {
					return ch.WithConsumer(ctx, high, func(high *amqp.Consumer) error {
						send(t, ctx, ch, q, texts(5)...)
						requireCount(t, ctx, conn, q, 0)
						var got []string
						for body := range high.Messages() {
							if got = append(got, string(body)); len(got) == 3 {
								break
							}
						}
						assert.Equal(t, []string{"0", "1", "2"}, got)
						return nil
					})
				}))
			}))
		})
	})
}

func TestSingleActiveConsumer(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, amqp.Table{"x-single-active-consumer": true})
			require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(second *amqp.Consumer) error {
				require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(*amqp.Consumer) error {
					send(t, ctx, ch, q, "a")
					for _, env := range second.Messages() {
						require.NoError(t, env.Ack())
						break
					}
					return nil
				}))
				return nil
			}))
		})
	})
}

func TestBCCAndCC(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			to, cc, bcc := newQueue(t, ctx, ch, nil), newQueue(t, ctx, ch, nil), newQueue(t, ctx, ch, nil)
			headers := amqp.Table{"CC": []any{cc}, "BCC": []any{bcc}}
			require.NoError(t, ch.Publish(ctx, "", to, amqp.Message{Properties: amqp.Properties{Headers: headers}}))
			for _, q := range []string{to, cc, bcc} {
				_, env := await(t, ctx, ch, q)
				assert.Equal(t, []any{cc}, env.Properties.Headers["CC"])
				assert.NotContains(t, env.Properties.Headers, "BCC")
			}
		})
	})
}

// A quorum queue and a stream are consumed like any other queue.
func TestReplicatedQueues(t *testing.T) {
	onRabbitMQ(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			require.NoError(t, ch.Confirm(ctx))
			for kind, arguments := range map[string]amqp.Table{"quorum": nil, "stream": {"x-stream-offset": "first"}} {
				_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: kind, Durable: true, Arguments: amqp.Table{"x-queue-type": kind}})
				require.NoError(t, err)
				for _, text := range texts(10) {
					require.NoError(t, ch.Publish(ctx, "", kind, amqp.Message{Body: []byte(text)}))
				}
				opts := amqp.Consume{Queue: kind, Prefetch: 5, Arguments: arguments}
				require.NoError(t, consume(ctx, ch, opts, 10, func(i int, body []byte, env *amqp.Envelope) error {
					assert.Equal(t, texts(10)[i], string(body))
					return env.Ack()
				}))
			}
		})
	})
}
