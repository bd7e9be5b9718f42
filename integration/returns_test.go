package integration

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

func TestReturns(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			returns := ch.Returns() // registers before anything is published
			q := newQueue(t, ctx, ch, nil)
			require.NoError(t, ch.QueueBind(ctx, amqp.Binding{Queue: q, Exchange: "amq.direct", RoutingKey: "k"}))
			for i := range 10 {
				key := []string{"k", "stray"}[i%2]
				require.NoError(t, ch.Publish(ctx, "amq.direct", key, amqp.Message{
					Mandatory:  true,
					Properties: amqp.Properties{MessageID: fmt.Sprint(i), Headers: amqp.Table{"n": "v"}},
					Body:       fmt.Append(nil, "body ", i),
				}))
			}
			i := 1
			for body, ret := range returns {
				assert.Equal(t, fmt.Sprint("body ", i), string(body))
				assert.Equal(t, &amqp.Return{
					ReplyCode: amqp.NoRoute, ReplyText: "NO_ROUTE", Exchange: "amq.direct", RoutingKey: "stray",
					Properties: amqp.Properties{MessageID: fmt.Sprint(i), Headers: amqp.Table{"n": "v"}},
				}, ret)
				if i += 2; i > 10 {
					break
				}
			}
			for range 5 {
				get(t, ctx, ch, q)
			}
		})
	})
}

// A message that comes back may be larger than what is received, since who
// publishes it does not ask the receivers.
func TestReturnLargerThanAllowed(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		var log bytes.Buffer
		cfg := b.config(t)
		cfg.MaxMessageSize = 1000
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		ctx := soon(t)
		large := amqp.Message{Body: make([]byte, 3<<20), Mandatory: true}
		require.NoError(t, amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
			require.NoError(t, conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				require.NoError(t, ch.Confirm(ctx))
				require.ErrorIs(t, ch.Publish(ctx, "", "nowhere", large), amqp.ErrReturned)
				require.Empty(t, log.String())
				return nil
			}))
			return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				returns := ch.Returns()
				require.NoError(t, ch.Publish(ctx, "", "nowhere", large))
				require.NoError(t, ch.Publish(ctx, "", "nowhere", amqp.Message{Body: []byte("small"), Mandatory: true}))
				for body := range returns {
					assert.Equal(t, "small", string(body))
					break
				}
				return nil
			})
		}))
		assert.Contains(t, log.String(), "MaxMessageSize")
		assert.Contains(t, log.String(), "bytes=3145728")
	})
}

func TestReturnsWithConfirms(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			returns := ch.Returns()
			require.NoError(t, ch.Confirm(ctx))
			for range 3 {
				require.ErrorIs(t, ch.Publish(ctx, "", "nowhere", amqp.Message{Mandatory: true}), amqp.ErrReturned)
			}
			n := 0
			for _, ret := range returns {
				assert.Empty(t, ret.Properties.Headers)
				if n++; n == 3 {
					break
				}
			}
		})
	})
}

// A queue that is unbound gets nothing: the mandatory message comes back.
func TestReturnsAfterUnbind(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			binding := amqp.Binding{Queue: q, Exchange: "amq.topic", RoutingKey: "a.*"}
			require.NoError(t, ch.QueueBind(ctx, binding))
			require.NoError(t, ch.Confirm(ctx))
			require.NoError(t, ch.Publish(ctx, "amq.topic", "a.b", amqp.Message{Mandatory: true}))
			require.NoError(t, ch.QueueUnbind(ctx, binding))
			require.ErrorIs(t, ch.Publish(ctx, "amq.topic", "a.b", amqp.Message{Mandatory: true}), amqp.ErrReturned)
		})
	})
}

func TestReturnsEndWithTheirChannel(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(_ context.Context, ch *amqp.Channel) {
				returns := ch.Returns()
				ch.Go(func(context.Context) error {
					for range returns {
						t.Error("nothing was published")
					}
					return nil
				})
				ch.Cancel(nil)
			}))
		})
	})
}

// A message bigger than a frame comes back whole.
func TestReturnsOfBigMessages(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			returns := ch.Returns()
			for _, n := range []int{0, 500_000} {
				require.NoError(t, ch.Publish(ctx, "", "nowhere", amqp.Message{Mandatory: true, Body: checked(n)}))
				for body := range returns {
					requireChecked(t, n, body)
					break
				}
			}
		})
	})
}
