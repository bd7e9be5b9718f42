package integration

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// block raises an alarm of the broker's, and returns what ends it.
func (b broker) block(t *testing.T) (unblock func()) {
	t.Helper()
	if b.box != nil {
		b.box.Block("low on memory")
		return b.box.Unblock
	}
	if !b.node.Private() {
		t.Skip("SKIPPED: the broker of AMQP_URL is not ours to reconfigure")
	}
	set := func(fraction float64) {
		require.NoError(t, b.node.SetMemoryWatermark(context.WithoutCancel(t.Context()), fraction))
	}
	set(0.0001)
	blocked := true
	unblock = func() {
		if blocked {
			set(0.4)
			blocked = false
		}
	}
	t.Cleanup(unblock)
	return unblock
}

func TestPublishWaitsWhileBlocked(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		unblock := b.block(t)
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			states := conn.Blocked()
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				// RabbitMQ tells a connection once that has published.
				require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Body: []byte("first")}))
				for blocked, reason := range states {
					assert.True(t, blocked)
					assert.Equal(t, "low on memory", reason)
					break
				}
				enough := errors.New("enough")
				brief, cancel := context.WithCancelCause(ctx)
				ch.Go(func(context.Context) error {
					cancel(enough)
					return nil
				})
				require.ErrorIs(t, ch.Publish(brief, "", q, amqp.Message{Body: []byte("never")}), enough)

				require.NoError(t, ch.Start(func(ctx context.Context, started func()) error {
					started()
					return ch.Publish(ctx, "", q, amqp.Message{Body: []byte("second")})
				}))
				unblock()
				for _, want := range []string{"first", "second"} {
					text, _ := await(t, ctx, ch, q)
					assert.Equal(t, want, text)
				}
				requireEmpty(t, ctx, ch, q)
			}))
		})
	})
}

// Consuming and settling go on where nothing is published.
func TestConsumeWhileBlocked(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, publisher *amqp.Channel) {
			_, err := publisher.QueueDeclare(ctx, amqp.Queue{Name: "q"})
			require.NoError(t, err)
			require.NoError(t, publisher.Confirm(ctx))
			send(t, ctx, publisher, "q", texts(20)...)
		})
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			b.block(t)
			require.NoError(t, consume(ctx, ch, amqp.Consume{Queue: "q", Prefetch: 3}, 20, func(_ int, _ []byte, env *amqp.Envelope) error {
				return env.Ack()
			}))
			requireEmpty(t, ctx, ch, "q")
		})
	})
}

// A connection that is blocked can be closed. RabbitMQ reads nothing from it,
// so that the polite part of the end is cut short.
func TestCloseWhileBlocked(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.block(t)
		cfg := b.config(t)
		cfg.CloseTimeout = 200 * time.Millisecond
		ctx := soon(t)
		begin := time.Now()
		err := amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
			states := conn.Blocked()
			return channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				require.NoError(t, ch.Publish(ctx, "", "nowhere", amqp.Message{}))
				for range states {
					break
				}
				ch.Go(func(ctx context.Context) error { return ch.Publish(ctx, "", "nowhere", amqp.Message{}) })
				ch.Cancel(nil)
			})
		})
		if err != nil {
			assert.ErrorContains(t, err, "CloseTimeout")
		}
		assert.Less(t, time.Since(begin), patience/2)
	})
}
