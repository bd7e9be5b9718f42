package integration

import (
	"context"
	"errors"
	"fmt"
	legacy "math/rand"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/quick"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// However many end it at once, a scope ends once, and without an error. What is
// inside of it may say that it was cut short, and that is left out.
func TestManyEndAConnectionAtOnce(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		require.NoError(t, b.connectionEnds(t, func(ctx context.Context, conn *amqp.Conn) error {
			return channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				for i := range 32 {
					conn.Go(func(context.Context) error {
						if i%2 == 0 {
							ch.Cancel(nil)
						}
						conn.Cancel(nil)
						return nil
					})
				}
				<-ch.Context().Done()
			})
		}))
	})
}

// Channels, connections and calls that end together do not wait for each other.
func TestRaceOfEnds(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		for range 20 {
			err := b.connectionEnds(t, func(ctx context.Context, conn *amqp.Conn) error {
				for i := range 8 {
					conn.Go(func(ctx context.Context) error {
						err := channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
							for ctx.Err() == nil && conn.Context().Err() == nil {
								if _, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true}); err != nil {
									return
								}
								if err := ch.Publish(ctx, "", "nowhere", amqp.Message{}); err != nil {
									return
								}
							}
						})
						if i == 0 {
							return err
						}
						return nil
					})
				}
				for range 3 {
					if _, err := conn.ExchangeExists(ctx, "amq.direct"); err != nil {
						return err
					}
				}
				conn.Cancel(nil)
				return nil
			})
			require.NoError(t, err)
		}
	})
}

// Whatever waits for the broker ends with the connection.
func TestEverythingEndsWithTheConnection(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			blocked := conn.Blocked()
			conn.Go(func(context.Context) error {
				for range blocked {
					t.Error("nothing was blocked")
				}
				return nil
			})
			var waiting sync.WaitGroup
			waiting.Add(3)
			conn.Go(func(ctx context.Context) error {
				return channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
					q := newQueue(t, ctx, ch, nil)
					for range 3 {
						ch.Go(func(ctx context.Context) error {
							return ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(c *amqp.Consumer) error {
								waiting.Done()
								for range c.Messages() {
									t.Error("there was no message")
								}
								return nil
							})
						})
					}
				})
			})
			waiting.Wait()
			conn.Cancel(nil)
		})
	})
}

// An idle consumer does not delay the end.
func TestEndIsQuick(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		var begin time.Time
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(c *amqp.Consumer) error {
				c.Go(func(context.Context) error {
					for range c.Messages() {
						t.Error("there was no message")
					}
					return nil
				})
				c.Cancel(nil)
				begin = time.Now()
				return nil
			}))
		})
		assert.Less(t, time.Since(begin), patience/2, "no time limit was waited for")
	})
}

// Another channel does not notice how one ends.
func TestChannelsAreIndependent(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(c *amqp.Consumer) error {
					for range 20 {
						err := channelOn(ctx, conn, func(ctx context.Context, other *amqp.Channel) {
							// The client's close and the broker's cross.
							require.NoError(t, other.Publish(ctx, "missing", "k", amqp.Message{}))
						})
						requireException(t, err, amqp.NotFound, "missing")
					}
					send(t, ctx, ch, q, "still here")
					for body, env := range c.Messages() {
						assert.Equal(t, "still here", string(body))
						return env.Ack()
					}
					return c.Err()
				}))
			}))
		})
	})
}

// A task of a channel that fails ends the channel, and its error comes out.
func TestChannelTaskFails(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			mine := errors.New("mine")
			err := channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				ch.Go(func(context.Context) error { return mine })
				<-ch.Context().Done()
				assert.Equal(t, mine, context.Cause(ch.Context()))
			})
			assert.Equal(t, mine, err)
			require.NoError(t, conn.Context().Err())
		})
	})
}

// Two connections with a prefetch of one share a queue fairly.
func TestTwoConnectionsShareAQueue(t *testing.T) {
	const messages = 40
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q"})
				require.NoError(t, err)
				complete, done := context.WithCancel(ctx)
				defer done()
				var total atomic.Int32
				shares := make([]int, 2)
				for i := range shares {
					require.NoError(t, conn.Start(func(ctx context.Context, started func()) error {
						return amqp.WithChannel(ctx, b.config(t), func(ch *amqp.Channel) error {
							return ch.WithConsumer(ctx, amqp.Consume{Queue: "q", Prefetch: 1}, func(c *amqp.Consumer) error {
								defer context.AfterFunc(complete, func() { c.Cancel(nil) })()
								started()
								for _, env := range c.Messages() {
									shares[i]++
									if err := env.Ack(); err != nil {
										return err
									}
									if total.Add(1) == messages {
										done()
									}
								}
								return nil
							})
						})
					}))
				}
				send(t, ctx, ch, "q", texts(messages)...)
				<-complete.Done()
				assert.EqualValues(t, messages, total.Load())
			}))
		})
	})
}

// Random properties and bodies arrive as they were sent.
func TestPublishRandomMessages(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			same := func(m randomMessage) bool {
				require.NoError(t, ch.Publish(ctx, "", q, amqp.Message(m)))
				text, env := await(t, ctx, ch, q)
				require.NoError(t, env.Ack())
				require.Equal(t, string(m.Body), text)
				require.Equal(t, m.Properties, *env.Properties)
				return true
			}
			require.NoError(t, quick.Check(same, &quick.Config{MaxCount: 100}))
		})
	})
}

// randomMessage is one that a broker takes.
type randomMessage amqp.Message

func (randomMessage) Generate(source *legacy.Rand, size int) reflect.Value {
	text := func() string {
		return strings.Repeat(fmt.Sprint(source.Int()), source.Intn(3))
	}
	m := randomMessage{Body: make([]byte, source.Intn(size*100+1)), Properties: amqp.Properties{
		ContentType: text(), ContentEncoding: text(), CorrelationID: text(), ReplyTo: text(), MessageID: text(),
		Type: text(), AppID: text(), ClusterID: text(),
		DeliveryMode: uint8(source.Intn(3)), Priority: uint8(source.Intn(256)),
	}}
	for i := range m.Body {
		m.Body[i] = byte(source.Int())
	}
	for range source.Intn(4) {
		if m.Properties.Headers == nil {
			m.Properties.Headers = amqp.Table{}
		}
		m.Properties.Headers[fmt.Sprint(source.Int())] = []any{source.Int31(), text(), source.Float64(), source.Intn(2) == 0, nil}
	}
	return reflect.ValueOf(m)
}
