package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

func TestConfirm(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				require.NoError(t, ch.Confirm(ctx))
				require.NoError(t, ch.Confirm(ctx), "twice is as once")
				for i := range 50 {
					mode := []uint8{amqp.Transient, amqp.Persistent}[i%2]
					msg := amqp.Message{Properties: amqp.Properties{DeliveryMode: mode}, Mandatory: i%3 == 0, Body: []byte("x")}
					require.NoError(t, ch.Publish(ctx, "", q, msg))
					status, err := ch.QueueDeclare(ctx, amqp.Queue{Name: q, Passive: true})
					require.NoError(t, err)
					require.Equal(t, i+1, status.Messages, "a confirmed message is in the queue")
				}
			}))
		})
	})
}

// Messages published before Confirm are not counted.
func TestConfirmInTheMiddle(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			send(t, ctx, ch, q, texts(10)...)
			require.NoError(t, ch.Confirm(ctx))
			send(t, ctx, ch, q, texts(10)...)
		})
	})
}

func TestConfirmFromManyGoroutines(t *testing.T) {
	const publishers, each = 64, 20
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				require.NoError(t, ch.Confirm(ctx))
				var sent sync.WaitGroup
				for p := range publishers {
					sent.Go(func() {
						for i := range each {
							assert.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Body: fmt.Append(nil, p, i), Mandatory: i%2 == 0}))
						}
					})
				}
				sent.Wait()
				requireCount(t, ctx, conn, q, publishers*each)
			}))
		})
	})
}

func TestConfirmOfAnUnroutableMessage(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			require.NoError(t, ch.Confirm(ctx))
			require.NoError(t, ch.Publish(ctx, "", "nowhere", amqp.Message{}), "a confirm does not mean that a queue has it")
			err := ch.Publish(ctx, "", "nowhere", amqp.Message{Mandatory: true, Body: []byte("stray")})
			require.ErrorIs(t, err, amqp.ErrReturned)
			var failure *amqp.PublishError
			require.ErrorAs(t, err, &failure)
			assert.Equal(t, "nowhere", failure.RoutingKey)
			assert.Equal(t, uint64(2), failure.Sequence)
			require.NotNil(t, failure.Return)
			assert.Equal(t, amqp.NoRoute, failure.Return.ReplyCode)
			assert.Empty(t, failure.Return.Properties.Headers, "how it was recognised is not shown")
		})
	})
}

func TestConfirmOfARefusedMessage(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish"})
			require.NoError(t, ch.Confirm(ctx))
			require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{}))
			err := ch.Publish(ctx, "", q, amqp.Message{})
			require.ErrorIs(t, err, amqp.ErrNacked)
			require.NotErrorIs(t, err, amqp.ErrUnconfirmed)
			_, env := get(t, ctx, ch, q)
			require.NoError(t, env.Ack())
			require.EventuallyWithT(t, func(c *assert.CollectT) {
				assert.NoError(c, ch.Publish(ctx, "", q, amqp.Message{}))
			}, patience, 1e6)
		})
	})
}

// An exception ends what waits for a confirm, with its own reason and as of
// unknown outcome.
func TestConfirmOfAMessageToAMissingExchange(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				require.NoError(t, ch.Confirm(ctx))
				err := ch.Publish(ctx, "missing", "k", amqp.Message{})
				requireException(t, err, amqp.NotFound, "no exchange 'missing'")
				require.ErrorIs(t, err, amqp.ErrUnconfirmed)
			}))
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) { newQueue(t, ctx, ch, nil) }))
		})
	})
}

// An abandoned wait leaves the channel usable, and the sequence right.
func TestConfirmAbandoned(t *testing.T) {
	onBox(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			require.NoError(t, ch.Confirm(ctx))
			b.box.Stall()
			enough := errors.New("enough")
			brief, cancel := context.WithCancelCause(ctx)
			ch.Go(func(context.Context) error {
				cancel(enough)
				return nil
			})
			err := ch.Publish(brief, "", q, amqp.Message{Body: []byte("abandoned")})
			b.box.Resume()
			require.ErrorIs(t, err, enough)
			require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Body: []byte("next")}))
			b.box.NackNext(1)
			require.ErrorIs(t, ch.Publish(ctx, "", q, amqp.Message{}), amqp.ErrNacked)
			require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Body: []byte("last")}))
		})
	})
}

func TestConfirmAndTransactionsExcludeEachOther(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			require.NoError(t, ch.Confirm(ctx))
			require.Error(t, ch.WithTx(ctx, func() error { return nil }))
		})
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				require.NoError(t, ch.WithTx(ctx, func() error { return nil }))
				require.Error(t, ch.Confirm(ctx))
			}))
		})
	})
}

func TestConfirmBigAndEmptyMessages(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			require.NoError(t, ch.Confirm(ctx))
			for _, n := range []int{0, 1, 131064, 131065, 3 << 20} {
				require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Body: []byte(strings.Repeat("x", n))}))
				text, _ := get(t, ctx, ch, q)
				require.Len(t, text, n)
			}
		})
	})
}
