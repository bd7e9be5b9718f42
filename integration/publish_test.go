package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

func TestPublishCarriesEveryProperty(t *testing.T) {
	sent := amqp.Properties{
		ContentType:     "application/json",
		ContentEncoding: "gzip",
		Headers:         amqp.Table{"a": "b", "n": int64(-1)},
		DeliveryMode:    amqp.Persistent,
		Priority:        7,
		CorrelationID:   "correlation",
		ReplyTo:         "reply-to",
		Expiration:      amqp.TTL(time.Hour),
		MessageID:       "message",
		Timestamp:       time.Unix(1_700_000_000, 0),
		Type:            "type",
		UserID:          "guest",
		AppID:           "app",
		ClusterID:       "cluster",
	}
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			for _, properties := range []amqp.Properties{sent, {}, {Type: "alone"}} {
				require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Properties: properties, Body: []byte("body")}))
				text, env := await(t, ctx, ch, q)
				assert.Equal(t, "body", text)
				got := *env.Properties
				assert.True(t, properties.Timestamp.Equal(got.Timestamp))
				got.Timestamp = properties.Timestamp
				assert.Equal(t, properties, got)
				assert.Equal(t, q, env.RoutingKey)
				assert.Empty(t, env.Exchange)
				assert.False(t, env.Redelivered)
			}
		})
	})
}

// checked is a body of n bytes that begins, when there is room, with the
// checksum of the rest.
func checked(n int) []byte {
	body := make([]byte, n)
	source := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range body {
		body[i] = byte(source.Uint32())
	}
	if n >= crc32.Size {
		binary.BigEndian.PutUint32(body, crc32.ChecksumIEEE(body[crc32.Size:]))
	}
	return body
}

func requireChecked(t *testing.T, n int, body []byte) {
	t.Helper()
	require.Len(t, body, n)
	if n >= crc32.Size {
		require.Equal(t, binary.BigEndian.Uint32(body), crc32.ChecksumIEEE(body[crc32.Size:]), "%d bytes", n)
	}
}

func TestPublishBodiesOfEverySize(t *testing.T) {
	const frameMax = 8192
	const payload = frameMax - 8
	sizes := []int{0, 1, 2, 3, 100, 4096, 65535, 65536, 1 << 20, 1<<20 + 1, 5 << 20}
	for _, frames := range []int{1, 2, 3, 16} {
		for _, more := range []int{-2, -1, 0, 1, 2, 7, 8, 9} {
			sizes = append(sizes, frames*payload+more)
		}
	}
	eachBroker(t, func(t *testing.T, b broker) {
		cfg := b.config(t)
		cfg.FrameMax = frameMax
		ctx := soon(t)
		require.NoError(t, amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			q := newQueue(t, ctx, ch, nil)
			for _, n := range sizes {
				require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Body: checked(n)}))
			}
			return consume(ctx, ch, amqp.Consume{Queue: q, Prefetch: 3}, len(sizes), func(i int, body []byte, env *amqp.Envelope) error {
				requireChecked(t, sizes[i], body)
				return env.Ack()
			})
		}))
	})
}

func TestPublishManyBodiesUncorrupted(t *testing.T) {
	const messages = 1024
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q"})
			require.NoError(t, err)
			ch.Go(func(ctx context.Context) error {
				for i := range messages {
					if err := ch.Publish(ctx, "", "q", amqp.Message{Body: checked(7 * i)}); err != nil {
						return err
					}
				}
				return nil
			})
			b.channel(t, func(ctx context.Context, other *amqp.Channel) {
				require.NoError(t, consume(ctx, other, amqp.Consume{Queue: "q"}, messages, func(i int, body []byte, env *amqp.Envelope) error {
					requireChecked(t, 7*i, body)
					return env.Ack()
				}))
			})
		})
	})
}

// What was handed to Publish is the caller's again when it returns, and what
// was received is the receiver's for good.
func TestPublishGivesTheBytesBack(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			const messages = 100
			q := newQueue(t, ctx, ch, nil)
			for _, size := range []int{10, 5000, 200_000} {
				buf := make([]byte, size)
				for i := range messages {
					for j := range buf {
						buf[j] = byte(i)
					}
					require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Body: buf}))
				}
				var kept [][]byte
				require.NoError(t, consume(ctx, ch, amqp.Consume{Queue: q}, messages, func(_ int, body []byte, env *amqp.Envelope) error {
					kept = append(kept, body)
					return env.Ack()
				}))
				for i, body := range kept {
					require.Equal(t, bytes.Repeat([]byte{byte(i)}, size), body)
				}
				for _, body := range kept {
					clear(body[:cap(body)]) // a write into one reaches no other
				}
			}
		})
	})
}

func TestPublishFromManyGoroutinesBesideDeclares(t *testing.T) {
	const publishers, each = 8, 200
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				var sent sync.WaitGroup
				for p := range publishers {
					sent.Go(func() {
						for i := range each {
							body := fmt.Appendf(nil, "%d %d %s", p, i, strings.Repeat("x", i*100))
							assert.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Body: body}))
						}
					})
				}
				for range 4 {
					sent.Go(func() {
						for range 25 {
							_, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
							assert.NoError(t, err)
						}
					})
				}
				sent.Wait()
				next := make([]int, publishers)
				require.NoError(t, consume(ctx, ch, amqp.Consume{Queue: q}, publishers*each, func(_ int, body []byte, env *amqp.Envelope) error {
					words := strings.Fields(string(body))
					p, err := strconv.Atoi(words[0])
					require.NoError(t, err)
					require.Equal(t, strconv.Itoa(next[p]), words[1], "each publisher's messages are in order")
					next[p]++
					return env.Ack()
				}))
			}))
		})
	})
}

func TestPublishToAMissingExchange(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			for range 20 {
				err := channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
					require.NoError(t, ch.Publish(ctx, "missing", "k", amqp.Message{}))
					for range 100 {
						if err := ch.Publish(ctx, "missing", "k", amqp.Message{}); err != nil {
							require.ErrorIs(t, err, amqp.NotFound)
							break
						}
					}
				})
				if err != nil { // nil when a call was told already
					requireException(t, err, amqp.NotFound, "no exchange 'missing'")
				}
			}
			there, err := conn.ExchangeExists(ctx, "amq.direct")
			require.NoError(t, err)
			assert.True(t, there, "the connection lives on")
		})
	})
}

// The exception of a publish that was the last thing to do on a channel is not
// lost.
func TestPublishToAMissingExchangeIsTold(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		err := b.channelEnds(t, func(ctx context.Context, ch *amqp.Channel) {
			require.NoError(t, ch.Publish(ctx, "missing", "k", amqp.Message{}))
		})
		requireException(t, err, amqp.NotFound, "no exchange 'missing'")
	})
}

func TestPublishImmediate(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		err := b.channelEnds(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Immediate: true}))
			<-ch.Context().Done()
		})
		requireException(t, err, amqp.NotImplemented, "immediate=true")
		require.ErrorIs(t, err, amqp.ErrConnectionClosed)
	})
}

func TestPublishUserID(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		err := b.channelEnds(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Properties: amqp.Properties{UserID: "guest"}}))
			_, env := await(t, ctx, ch, q)
			assert.Equal(t, "guest", env.Properties.UserID)
			require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Properties: amqp.Properties{UserID: "somebody else"}}))
			<-ch.Context().Done()
		})
		requireException(t, err, amqp.PreconditionFailed, "user_id property set to 'somebody else'")
	})
}

func TestPublishNonsenseExpiration(t *testing.T) {
	for _, expiration := range []string{"soon", "-1", "1.5"} {
		t.Run(expiration, func(t *testing.T) {
			eachBroker(t, func(t *testing.T, b broker) {
				err := b.channelEnds(t, func(ctx context.Context, ch *amqp.Channel) {
					q := newQueue(t, ctx, ch, nil)
					require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Properties: amqp.Properties{Expiration: expiration}}))
					<-ch.Context().Done()
				})
				requireException(t, err, amqp.PreconditionFailed, "invalid expiration")
			})
		})
	}
}

// What can't be sent is refused before a byte is, and the channel lives.
func TestPublishWhatCannotBeSent(t *testing.T) {
	long := strings.Repeat("x", 256)
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			require.Error(t, ch.Publish(ctx, long, "k", amqp.Message{}))
			require.Error(t, ch.Publish(ctx, "", long, amqp.Message{}))
			require.Error(t, ch.Publish(ctx, "", q, amqp.Message{Properties: amqp.Properties{MessageID: long}}))
			err := ch.Publish(ctx, "", q, amqp.Message{Properties: amqp.Properties{Headers: amqp.Table{"a": amqp.Table{"b": func() {}}}}})
			require.ErrorContains(t, err, "a.b")
			huge := amqp.Table{"huge": strings.Repeat("x", 200_000)}
			require.Error(t, ch.Publish(ctx, "", q, amqp.Message{Properties: amqp.Properties{Headers: huge}}), "headers must fit into a frame")

			cancelled, cancel := context.WithCancelCause(ctx)
			enough := errors.New("enough")
			cancel(enough)
			require.ErrorIs(t, ch.Publish(cancelled, "", q, amqp.Message{}), enough)

			send(t, ctx, ch, q, "the only one")
			text, env := get(t, ctx, ch, q)
			assert.Equal(t, "the only one", text)
			assert.Zero(t, env.MessageCount)
		})
	})
}

func TestPublishAfterTheEnd(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		var ch *amqp.Channel
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(_ context.Context, c *amqp.Channel) { ch = c }))
			require.ErrorIs(t, ch.Publish(ctx, "", "q", amqp.Message{}), amqp.ErrChannelClosed)
			_, err := ch.QueueDeclare(ctx, amqp.Queue{})
			require.ErrorIs(t, err, amqp.ErrChannelClosed)
		})
		require.Error(t, ch.Publish(soon(t), "", "q", amqp.Message{}))
		require.Error(t, ch.Ack(1, false))
	})
}

func TestMessageLargerThanAllowed(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q"})
			require.NoError(t, err)
			send(t, ctx, ch, "q", strings.Repeat("x", 1000), strings.Repeat("x", 1001))
		})
		cfg := b.config(t)
		cfg.MaxMessageSize = 1000
		ctx := soon(t)
		err := amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			text, env := get(t, ctx, ch, "q")
			assert.Len(t, text, 1000)
			require.NoError(t, env.Ack())
			_, _, err := ch.Get(ctx, "q", false)
			return err
		})
		require.ErrorIs(t, err, amqp.ErrMessageTooLarge)
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) { // it went back to the queue
			requireCount(t, ctx, conn, "q", 1)
		})
	})
}
