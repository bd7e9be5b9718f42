package integration

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/rpc"
)

func TestRPC(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, server *amqp.Channel) {
			q := "requests"
			_, err := server.QueueDeclare(ctx, amqp.Queue{Name: q})
			require.NoError(t, err)
			serving, stop := context.WithCancel(ctx)
			server.Go(func(context.Context) error {
				_ = rpc.Serve(serving, server, q, 4, func(_ context.Context, body []byte, _ *amqp.Envelope) (amqp.Message, error) {
					return amqp.Message{Body: bytes.ToUpper(body)}, nil
				}) // it says that serving was cancelled
				return nil
			})
			b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
				require.NoError(t, rpc.WithClient(ctx, ch, func(c *rpc.Client) error {
					var calls sync.WaitGroup
					defer calls.Wait()
					for i := range 50 {
						calls.Go(func() {
							body, env, err := c.Call(ctx, "", q, amqp.Message{Body: fmt.Append(nil, "hello ", i)})
							if assert.NoError(t, err) {
								assert.Equal(t, fmt.Sprint("HELLO ", i), string(body))
								assert.NotNil(t, env)
							}
						})
					}
					for range 10 {
						body, _, err := c.Call(ctx, "", q, amqp.Message{Body: []byte("again")})
						require.NoError(t, err)
						assert.Equal(t, "AGAIN", string(body))
					}
					_, _, err := c.Call(ctx, "", "nowhere", amqp.Message{})
					assert.ErrorIs(t, err, amqp.ErrReturned)
					return nil
				}))
			})
			stop()
		})
	})
}
