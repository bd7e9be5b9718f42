//go:build unix

package integration

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// ledReads counts the messages that a loop has read from the socket itself, as it does while they come closely.
type ledReads struct{ atomic.Int64 }

func (l *ledReads) trace() *amqp.Trace {
	return &amqp.Trace{Delivered: func(*amqp.Channel, *amqp.Envelope, int) {
		var callers [32]uintptr
		frames := runtime.CallersFrames(callers[:runtime.Callers(0, callers[:])])
		for more := true; more; {
			var f runtime.Frame
			if f, more = frames.Next(); strings.HasSuffix(f.Function, ".readFor") {
				l.Add(1)
				return
			}
		}
	}}
}

// denseMessages are so many that the loop comes to read some of them, however busy the machine is.
const denseMessages = 20_000

// dense runs body with a consumer whose messages come closely: "0", "1" and so on. All are gone in the end, or the queue is.
func dense(t *testing.T, body func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, c *amqp.Consumer, reads *ledReads) error) {
	t.Helper()
	eachBroker(t, func(t *testing.T, b broker) {
		ctx := soon(t)
		var reads ledReads
		cfg := b.config(t)
		cfg.Trace = reads.trace()
		err := amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
			var q string
			err := conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				q = newQueue(t, ctx, ch, nil)
				send(t, ctx, ch, q, texts(denseMessages)...)
				requireCount(t, ctx, conn, q, denseMessages)
				return ch.WithConsumer(ctx, amqp.Consume{Queue: q, Prefetch: 20}, func(c *amqp.Consumer) error {
					return body(t, ctx, conn, ch, c, &reads)
				})
			})
			if errors.Is(err, amqp.ErrConsumerCancelled) {
				return nil
			}
			requireCount(t, ctx, conn, q, 0)
			return err
		})
		require.NoError(t, err)
		assert.Positive(t, reads.Load(), "the loop has read itself")
	})
}

// What a loop that reads has taken back comes again, and is acknowledged once. RabbitMQ has messages
// on the way that basic.recover does not take back, and which overtake those.
func TestALoopThatReadsRecovers(t *testing.T) {
	dense(t, func(t *testing.T, ctx context.Context, _ *amqp.Conn, ch *amqp.Channel, c *amqp.Consumer, reads *ledReads) error {
		acked, recalled, calls := make(map[int]bool), -1, 0
		var before int64
		for body, env := range c.Messages() {
			number, err := strconv.Atoi(string(body))
			require.NoError(t, err)
			if led := reads.Load(); led > before && number > recalled && calls < 40 {
				before = led
				if calls++; calls%2 == 0 {
					require.NoError(t, ch.Recover(ctx, true))
				} else {
					require.NoError(t, ch.RecoverAsync(true))
				}
			}
			if err := env.Ack(); errors.Is(err, amqp.ErrAlreadySettled) {
				recalled = max(recalled, number)
				continue
			} else {
				require.NoError(t, err)
			}
			require.False(t, acked[number])
			if acked[number] = true; len(acked) == denseMessages {
				return nil
			}
		}
		return c.Err()
	})
}

// Whatever a loop that reads calls, it is answered; and when its queue is deleted, it ends with what has come.
func TestALoopThatReadsCallsAndDeletesItsQueue(t *testing.T) {
	dense(t, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, c *amqp.Consumer, reads *ledReads) error {
		next, calls := 0, 0
		var before int64
		for body, env := range c.Messages() {
			require.Equal(t, strconv.Itoa(next), string(body))
			next++
			require.NoError(t, env.Ack())
			led := reads.Load()
			switch {
			case led == before || calls > 10:
				continue
			case calls == 10:
				_, err := ch.QueueDelete(ctx, amqp.QueueDelete{Name: c.Queue()})
				require.NoError(t, err)
			default:
				require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, aside *amqp.Channel) {
					q := newQueue(t, ctx, aside, nil)
					require.NoError(t, aside.Confirm(ctx))
					send(t, ctx, aside, q, "got", "consumed")
					text, got := get(t, ctx, aside, q)
					assert.Equal(t, "got", text)
					require.NoError(t, got.Ack())
					require.NoError(t, aside.WithConsumer(ctx, amqp.Consume{Queue: q}, func(c *amqp.Consumer) error {
						for body, env := range c.Messages() {
							assert.Equal(t, "consumed", string(body))
							return env.Ack()
						}
						return c.Err()
					}))
				}))
			}
			before = reads.Load()
			calls++
		}
		assert.Equal(t, 11, calls)
		assert.EqualValues(t, next+10, conn.Stats().Delivered)
		require.ErrorIs(t, c.Err(), amqp.ErrConsumerCancelled)
		return c.Err()
	})
}
