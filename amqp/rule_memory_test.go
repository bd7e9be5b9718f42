package amqp_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// Rule 8: received bytes belong to the receiver, and bytes handed to Publish are the caller's again when it returns.

// sizes are those at which something changes: frames, slabs, buffers, memory of one's own, and writing from where the
// body is.
var sizes = []int{
	0, 1, 2, 100, 1023, 4000, 4096, 8191, 8192, 8193, 16<<10 - 1, 16 << 10, 32 << 10, 64<<10 - 1, 64 << 10, 64<<10 + 1,
	131072 - 8, 131072 - 7, 131072, 131072 + 1, 2*(131072-8) + 1, 512 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 1,
}

// numbered makes a body of n bytes that tells itself from all others.
func numbered(n int, seed uint64) []byte {
	body := make([]byte, n)
	r := rand.NewPCG(seed, uint64(n))
	for i := 0; i < n; i += 8 {
		var eight [8]byte
		binary.LittleEndian.PutUint64(eight[:], r.Uint64())
		copy(body[i:], eight[:])
	}
	return body
}

// received is what a test keeps of a message, with what it was when it came.
type received struct {
	body  []byte
	env   *amqp.Envelope
	was   string
	crc   uint32
	extra []byte
}

func (r *received) describe() string {
	p := r.env.Properties
	return fmt.Sprintf("%v %v %v %v %v %v %v %v", r.env.ConsumerTag, r.env.DeliveryTag, r.env.Exchange, r.env.RoutingKey,
		p.ContentType, p.MessageID, p.Headers, p.CorrelationID)
}

func TestReceivedBytesStayWhatTheyWere(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		const n = 1500
		w.queue("keep", 0)
		require.NoError(w, amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
			ch.Go(func(ctx context.Context) error {
				for i := range n {
					size := i % 300
					if i%50 == 0 {
						size = sizes[i/50%len(sizes)]
					}
					msg := amqp.Message{Body: numbered(size, uint64(i)), Properties: amqp.Properties{
						ContentType: "text/plain", MessageID: fmt.Sprint("id-", i),
						CorrelationID: strings.Repeat("c", i%200),
						Headers:       amqp.Table{"number": int64(i), "bytes": numbered(i%40, 1), "inner": amqp.Table{"list": []any{"a", int32(i)}}},
					}}
					if err := ch.Publish(ctx, "", "keep", msg); err != nil {
						return err
					}
				}
				return nil
			})
			return ch.WithConsumer(ctx, amqp.Consume{Queue: "keep", Prefetch: 300}, func(c *amqp.Consumer) error {
				var kept []*received
				for body, env := range c.Messages() {
					r := &received{body: body, env: env, crc: crc32.ChecksumIEEE(body)}
					r.was = r.describe()
					kept = append(kept, r)
					// The neighbours in memory must not feel that.
					r.extra = append(body, "appended to what was received"...) //nolint:gocritic // behind body is the point
					if err := env.Ack(); err != nil {
						return err
					}
					if len(kept) == n {
						break
					}
				}
				for i, r := range kept {
					assert.Equal(w, r.crc, crc32.ChecksumIEEE(r.body), "body %d", i)
					assert.Equal(w, r.was, r.describe(), "envelope %d", i)
					number, _ := r.env.Properties.Headers["number"].(int64)
					require.EqualValues(w, i, number)
					require.Equal(w, numbered(len(r.body), uint64(i)), append([]byte{}, r.body...), "body %d", i)
					assert.Equal(w, "appended to what was received", string(r.extra[len(r.body):]), "appendix %d", i)
				}
				for _, r := range kept { // and they may be overwritten
					clear(r.body)
				}
				return nil
			})
		}))
	})
}

func TestOverwritingOneBodyTouchesNoOther(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		w.queue("q", 0)
		const n = 500
		require.NoError(w, amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
			if err := fill(ch, "q", 100000, n); err != nil {
				return err
			}
			var bodies [][]byte
			for range n {
				body, env, err := ch.Get(ctx, "q", true)
				if err != nil {
					return err
				}
				assert.Equal(w, "q", env.RoutingKey)
				bodies = append(bodies, body)
			}
			for i := 0; i < n; i += 2 {
				_ = append(bodies[i], "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"...)
				clear(bodies[i])
			}
			for i := 1; i < n; i += 2 {
				require.Equal(w, fmt.Sprint(100000+i), string(bodies[i]))
			}
			return nil
		}))
	})
}

// overwriting publishes a body of each size from one buffer that it overwrites as soon as Publish has returned.
func overwriting(ctx context.Context, publish func(ctx context.Context, msg amqp.Message) error) error {
	buffer := make([]byte, 2<<20)
	for round := range 2 {
		for i, size := range sizes {
			body := buffer[:size]
			copy(body, numbered(size, uint64(1000*round+i)))
			headers := amqp.Table{"round": int64(round), "index": int64(i)}
			err := publish(ctx, amqp.Message{Body: body, Properties: amqp.Properties{Headers: headers}})
			clear(body)
			clear(headers)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func TestPublishedBytesAreTheCallersAgain(t *testing.T) {
	ways := map[string]func(ctx context.Context, ch *amqp.Channel) error{
		"plain": func(ctx context.Context, ch *amqp.Channel) error {
			return overwriting(ctx, func(ctx context.Context, msg amqp.Message) error { return ch.Publish(ctx, "", "q", msg) })
		},
		"confirmed": func(ctx context.Context, ch *amqp.Channel) error {
			if err := ch.Confirm(ctx); err != nil {
				return err
			}
			return overwriting(ctx, func(ctx context.Context, msg amqp.Message) error {
				msg.Mandatory = true
				return ch.Publish(ctx, "", "q", msg)
			})
		},
		"pipelined": func(ctx context.Context, ch *amqp.Channel) error {
			return ch.WithPublisher(ctx, amqp.PublisherOptions{Mandatory: true}, func(p *amqp.Publisher) error {
				return overwriting(ctx, func(ctx context.Context, msg amqp.Message) error {
					_, err := p.Publish(ctx, "", "q", msg)
					return err
				})
			})
		},
		"among others": func(ctx context.Context, ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "noise", Exclusive: true})
			if err != nil {
				return err
			}
			return ch.WithConsumer(ctx, amqp.Consume{Queue: "noise", NoAck: true}, func(c *amqp.Consumer) error {
				c.Go(func(context.Context) error {
					for range c.Messages() {
					}
					return nil
				})
				defer c.Stop()
				for g := range 3 {
					c.Go(func(ctx context.Context) error {
						for range 2000 {
							if err := ch.Publish(ctx, "", "noise", amqp.Message{Body: make([]byte, 100<<(3*g))}); err != nil {
								return err
							}
						}
						return nil
					})
				}
				return overwriting(ctx, func(ctx context.Context, msg amqp.Message) error { return ch.Publish(ctx, "", "q", msg) })
			})
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			overTCP(t, func(ctx context.Context, w *world) {
				w.queue("q", 0)
				require.NoError(w, amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error { return way(ctx, ch) }))
				require.NoError(w, amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
					for round := range 2 {
						for i, size := range sizes {
							body, env, err := ch.Get(ctx, "q", true)
							require.NoError(w, err)
							delete(env.Properties.Headers, "x-leveret-sequence") // of mandatory messages with confirms
							require.Equal(w, amqp.Table{"round": int64(round), "index": int64(i)}, env.Properties.Headers)
							require.Len(w, body, size)
							require.Equal(w, sha256.Sum256(numbered(size, uint64(1000*round+i))), sha256.Sum256(body), "size %d", size)
						}
					}
					return nil
				}))
			})
		})
	}
}

// A caller who gives up while its large body is being written has its bytes back at once, and the message still goes out
// whole.
func TestBodyOfACallerWhoGivesUpGoesOutWhole(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		w.queue("q", 0)
		const n, size = 20, 1 << 20
		require.NoError(w, amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
			w.broker.Stall()
			buffer := make([]byte, size)
			sent := 0
			for i := range n {
				copy(buffer, numbered(size, uint64(sent)))
				short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
				err := ch.Publish(short, "", "q", amqp.Message{Body: buffer})
				clear(buffer)
				cancel()
				if err == nil {
					sent++
				} else {
					assert.ErrorIs(w, err, context.DeadlineExceeded, "%d", i)
				}
			}
			w.broker.Resume()
			require.Positive(w, sent)
			require.NoError(w, ch.Confirm(ctx))
			require.Equal(w, sent, w.state("q").Ready)
			for i := range sent {
				body, _, err := ch.Get(ctx, "q", true)
				require.NoError(w, err)
				require.Equal(w, sha256.Sum256(numbered(size, uint64(i))), sha256.Sum256(body), "message %d of %d", i, sent)
			}
			return nil
		}))
	})
}

func TestCallersTablesAreNotChanged(t *testing.T) {
	bubble(t, func(w *world) {
		headers := amqp.Table{"a": int32(1), "inner": amqp.Table{"b": "c"}}
		arguments := amqp.Table{"x-max-length": 10}
		live := context.Background()
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			if _, err := ch.QueueDeclare(live, amqp.Queue{Name: "q", Exclusive: true, Arguments: arguments}); err != nil {
				return err
			}
			return ch.WithPublisher(live, amqp.PublisherOptions{Mandatory: true}, func(p *amqp.Publisher) error {
				_, err := p.Publish(live, "", "q", amqp.Message{Properties: amqp.Properties{Headers: headers}})
				return err
			})
		}))
		assert.Equal(w, amqp.Table{"a": int32(1), "inner": amqp.Table{"b": "c"}}, headers)
		assert.Equal(w, amqp.Table{"x-max-length": 10}, arguments)
	})
}

func TestReturnedMessagesStayWhatTheyWere(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		require.NoError(w, amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
			returns := ch.Returns()
			type back struct {
				body []byte
				ret  *amqp.Return
			}
			var all []back
			for i, size := range sizes {
				msg := amqp.Message{Mandatory: true, Body: numbered(size, uint64(i)), Properties: amqp.Properties{MessageID: fmt.Sprint(i)}}
				if err := ch.Publish(ctx, "", "nowhere", msg); err != nil {
					return err
				}
				for body, ret := range returns { // at once, since those that wait are bounded
					all = append(all, back{body, ret})
					break
				}
			}
			require.Len(w, all, len(sizes))
			for i, size := range sizes {
				assert.Equal(w, fmt.Sprint(i), all[i].ret.Properties.MessageID)
				assert.Equal(w, sha256.Sum256(numbered(size, uint64(i))), sha256.Sum256(all[i].body))
			}
			return nil
		}))
	})
}
