package integration

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

func TestTxPublish(t *testing.T) {
	onAQueue(t, 0, func(t *testing.T, ctx context.Context, conn *amqp.Conn, ch *amqp.Channel, q string) {
		require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, tx *amqp.Channel) {
			require.NoError(t, tx.WithTx(ctx, func() error {
				require.NoError(t, tx.Publish(ctx, "", q, amqp.Message{Body: []byte("committed")}))
				requireEmpty(t, ctx, ch, q)
				return nil
			}))
			text, _ := get(t, ctx, ch, q)
			assert.Equal(t, "committed", text)

			mine := errors.New("mine")
			require.ErrorIs(t, tx.WithTx(ctx, func() error {
				require.NoError(t, tx.Publish(ctx, "", q, amqp.Message{Body: []byte("rolled back")}))
				return mine
			}), mine)
			assert.Panics(t, func() {
				_ = tx.WithTx(ctx, func() error {
					require.NoError(t, tx.Publish(ctx, "", q, amqp.Message{Body: []byte("panicked")}))
					panic("oh")
				})
			})
			require.NoError(t, tx.WithTx(ctx, func() error {
				return tx.Publish(ctx, "", q, amqp.Message{Body: []byte("last")})
			}))
			text, _ = get(t, ctx, ch, q)
			assert.Equal(t, "last", text)
			requireEmpty(t, ctx, ch, q)
		}))
	})
}

func TestTxSettle(t *testing.T) {
	onAQueue(t, 4, func(t *testing.T, ctx context.Context, conn *amqp.Conn, _ *amqp.Channel, q string) {
		require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, tx *amqp.Channel) {
			all := take(t, ctx, tx, q, 4)
			require.NoError(t, tx.WithTx(ctx, func() error {
				return errors.Join(all[0].Ack(), all[2].Reject(false))
			}))
			mine := errors.New("mine")
			require.ErrorIs(t, tx.WithTx(ctx, func() error {
				require.NoError(t, all[1].Ack())
				return mine
			}), mine)
			require.NoError(t, tx.WithTx(ctx, func() error { return all[3].Nack(true) }), "what was rolled back is unsettled")
		}))
		requireLeft(t, ctx, conn, q, "1", "3")
	})
}

func TestTxRolledBackAckCanBeRepeated(t *testing.T) {
	onAQueue(t, 1, func(t *testing.T, ctx context.Context, conn *amqp.Conn, _ *amqp.Channel, q string) {
		require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, tx *amqp.Channel) {
			_, env := get(t, ctx, tx, q)
			mine := errors.New("mine")
			require.ErrorIs(t, tx.WithTx(ctx, func() error {
				require.NoError(t, env.Ack())
				require.ErrorIs(t, env.Ack(), amqp.ErrAlreadySettled)
				return mine
			}), mine)
			require.NoError(t, tx.WithTx(ctx, env.Ack))
		}))
		requireLeft(t, ctx, conn, q)
	})
}

func TestTxOutsideOfWithTx(t *testing.T) {
	onAQueue(t, 1, func(t *testing.T, ctx context.Context, conn *amqp.Conn, _ *amqp.Channel, q string) {
		require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, tx *amqp.Channel) {
			_, env := get(t, ctx, tx, q)
			require.NoError(t, tx.WithTx(ctx, func() error { return nil }))
			require.Error(t, tx.Publish(ctx, "", q, amqp.Message{}))
			require.Error(t, env.Ack())
		}))
		requireLeft(t, ctx, conn, q, "0")
	})
}

// What a consumer leaves over goes back, in a transaction that it makes, or in the
// one around it.
func TestTxLeftovers(t *testing.T) {
	onAQueue(t, 5, func(t *testing.T, ctx context.Context, conn *amqp.Conn, _ *amqp.Channel, q string) {
		require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, tx *amqp.Channel) {
			leave := func() error {
				return tx.WithConsumer(ctx, amqp.Consume{Queue: q}, func(c *amqp.Consumer) error {
					requireCount(t, ctx, conn, q, 0)
					for range c.Messages() {
						break // which is unsettled, and nobody's to give back
					}
					return nil
				})
			}
			require.NoError(t, tx.WithTx(ctx, func() error { return nil }))
			require.NoError(t, leave())
			requireCount(t, ctx, conn, q, 4)
			require.NoError(t, tx.WithTx(ctx, func() error {
				require.NoError(t, leave())
				requireCount(t, ctx, conn, q, 0)
				return nil
			}))
			requireCount(t, ctx, conn, q, 3)
		}))
	})
}

func TestTxThatCannotBeCommitted(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			err := channelOn(ctx, conn, func(ctx context.Context, tx *amqp.Channel) {
				err := tx.WithTx(ctx, func() error {
					return tx.Publish(ctx, "missing", "k", amqp.Message{})
				})
				requireException(t, err, amqp.NotFound, "no exchange 'missing'")
			})
			requireException(t, err, amqp.NotFound, "no exchange 'missing'") // it answered the publish, not the commit
		})
	})
}

func TestTxReturnsAtCommit(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, tx *amqp.Channel) {
			returns := tx.Returns()
			require.NoError(t, tx.WithTx(ctx, func() error {
				return tx.Publish(ctx, "", "nowhere", amqp.Message{Mandatory: true, Body: []byte("stray")})
			}))
			for body, ret := range returns {
				assert.Equal(t, "stray", string(body))
				assert.Equal(t, amqp.NoRoute, ret.ReplyCode)
				break
			}
		})
	})
}
