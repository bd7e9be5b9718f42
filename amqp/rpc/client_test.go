package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/amqp/rpc"
	"github.com/leveret-mq/leveret/scope"
)

func TestCallGetsItsReply(t *testing.T) {
	bubble(t, func(w *world) {
		answer := func(_ context.Context, body []byte, env *amqp.Envelope) (amqp.Message, error) {
			assert.NotEqual(w, "mine", env.Properties.CorrelationID, "Call sets it")
			assert.Equal(w, "question", env.Properties.Type)
			return amqp.Message{Properties: amqp.Properties{Type: "answer"}, Body: append([]byte("re: "), body...)}, nil
		}
		err := w.served(1, answer, func() {
			w.client(func(ctx context.Context, c *rpc.Client) {
				msg := text("hello")
				msg.Properties = amqp.Properties{Type: "question", CorrelationID: "mine"}
				body, env, err := c.Call(ctx, "", requests, msg)
				require.NoError(w, err)
				require.Equal(w, "re: hello", string(body))
				require.Equal(w, "answer", env.Properties.Type)
				require.ErrorIs(w, env.Ack(), amqp.ErrAlreadySettled, "a reply is settled by itself")
			})
		})
		require.ErrorIs(w, err, context.Canceled)
		require.Zero(w, w.ready(requests))
	})
}

func TestCallsInFlightGetEachItsOwnReply(t *testing.T) {
	bubble(t, func(w *world) {
		const calls = 300
		// Replies come in another order than requests.
		slow := func(ctx context.Context, body []byte, env *amqp.Envelope) (amqp.Message, error) {
			time.Sleep(time.Duration(env.DeliveryTag*7919%97) * time.Millisecond)
			return echo(ctx, body, env)
		}
		_ = w.served(32, slow, func() {
			w.client(func(ctx context.Context, c *rpc.Client) {
				require.NoError(w, scope.Run(ctx, func(s *scope.Scope) error {
					for i := range calls {
						s.Go(func(ctx context.Context) error {
							body, _, err := c.Call(ctx, "", requests, text(fmt.Sprint(i)))
							if want := fmt.Sprint("re: ", i); err == nil && string(body) != want {
								return fmt.Errorf("call %d got %q", i, body)
							}
							return err
						})
					}
					return nil
				}))
			})
		})
	})
}

// A reply that comes when its call has given up is dropped, and no later call takes it for its own.
func TestLateReplyIsDropped(t *testing.T) {
	bubble(t, func(w *world) {
		slow := func(ctx context.Context, body []byte, env *amqp.Envelope) (amqp.Message, error) {
			if string(body) == "slow" {
				time.Sleep(time.Minute)
			}
			return echo(ctx, body, env)
		}
		_ = w.served(2, slow, func() {
			w.client(func(ctx context.Context, c *rpc.Client) {
				impatient, cancel := context.WithTimeoutCause(ctx, time.Second, errors.New("enough"))
				defer cancel()
				began := time.Now()
				_, _, err := c.Call(impatient, "", requests, text("slow"))
				require.ErrorContains(w, err, "enough")
				require.Equal(w, time.Second, time.Since(began))

				time.Sleep(59*time.Second - time.Millisecond) // the late reply is about to come
				body, _, err := c.Call(ctx, "", requests, text("next"))
				require.NoError(w, err)
				require.Equal(w, "re: next", string(body))
				time.Sleep(time.Minute)
				body, _, err = c.Call(ctx, "", requests, text("last"))
				require.NoError(w, err)
				require.Equal(w, "re: last", string(body))
			})
		})
		require.Zero(w, w.ready(requests), "the slow request is acknowledged like the others")
	})
}

func TestCallWithDeadContextSendsNothing(t *testing.T) {
	bubble(t, func(w *world) {
		w.client(func(ctx context.Context, c *rpc.Client) {
			dead, cancel := context.WithCancel(ctx)
			cancel()
			_, _, err := c.Call(dead, "", requests, text("never"))
			require.ErrorIs(w, err, context.Canceled)
		})
		require.Empty(w, w.broker.Published())
	})
}

func TestUnroutableRequestFailsAtOnce(t *testing.T) {
	bubble(t, func(w *world) {
		w.client(func(ctx context.Context, c *rpc.Client) {
			began := time.Now()
			_, _, err := c.Call(ctx, "", "nobody's queue", text("anybody?"))
			require.ErrorIs(w, err, amqp.ErrReturned)
			var failure *amqp.PublishError
			require.ErrorAs(w, err, &failure)
			require.Equal(w, amqp.NoRoute, failure.Return.ReplyCode)
			require.Zero(w, time.Since(began))
		})
	})
}

func TestRefusedRequestIsNacked(t *testing.T) {
	bubble(t, func(w *world) {
		w.client(func(ctx context.Context, c *rpc.Client) {
			w.broker.NackNext(1)
			_, _, err := c.Call(ctx, "", requests, text("no"))
			require.ErrorIs(w, err, amqp.ErrNacked)
		})
	})
}

func TestCallToMissingExchangeIsTheBrokersError(t *testing.T) {
	bubble(t, func(w *world) {
		err := amqp.WithChannel(context.Background(), w.cfg, func(ch *amqp.Channel) error {
			return rpc.WithClient(ch.Context(), ch, func(c *rpc.Client) error {
				_, _, err := c.Call(ch.Context(), "missing", "", text("hello"))
				require.ErrorIs(w, err, amqp.NotFound)
				return err
			})
		})
		require.ErrorIs(w, err, amqp.NotFound)
	})
}

// The connection is lost while a request is being handled: the call says so, rather than that it was cancelled.
func TestLostConnectionEndsCalls(t *testing.T) {
	bubble(t, func(w *world) {
		hang := func(ctx context.Context, _ []byte, _ *amqp.Envelope) (amqp.Message, error) {
			<-ctx.Done()
			return amqp.Message{}, context.Cause(ctx)
		}
		serving := w.served(1, hang, func() {
			err := amqp.WithChannel(context.Background(), w.cfg, func(ch *amqp.Channel) error {
				return rpc.WithClient(ch.Context(), ch, func(c *rpc.Client) error {
					go func() {
						synctest.Wait()
						w.broker.CloseConnections(320, "CONNECTION_FORCED - maintenance")
					}()
					_, _, err := c.Call(context.Background(), "", requests, text("hello"))
					require.ErrorIs(w, err, amqp.ConnectionForced)
					require.NotErrorIs(w, err, context.Canceled)
					return err
				})
			})
			require.ErrorIs(w, err, amqp.ConnectionForced)
		})
		require.ErrorIs(w, serving, amqp.ConnectionForced)
		require.Equal(w, 1, w.ready(requests), "the request waits for another server")
	})
}

// A request whose outcome is not known when the connection goes is ErrUnconfirmed, not refused.
func TestLostConnectionBeforeTheConfirm(t *testing.T) {
	bubble(t, func(w *world) {
		w.broker.On("basic.publish", func(*amqptest.Event) amqptest.Action { return amqptest.Sever() })
		err := amqp.WithChannel(context.Background(), w.cfg, func(ch *amqp.Channel) error {
			return rpc.WithClient(ch.Context(), ch, func(c *rpc.Client) error {
				_, _, err := c.Call(context.Background(), "", requests, text("hello"))
				require.ErrorIs(w, err, amqp.ErrUnconfirmed)
				require.ErrorIs(w, err, amqp.ErrConnectionClosed)
				return err
			})
		})
		require.ErrorIs(w, err, amqp.ErrConnectionClosed)
	})
}

func TestClientEndsWithItsScope(t *testing.T) {
	bubble(t, func(w *world) {
		w.channel(func(ch *amqp.Channel) {
			ctx := ch.Context()
			var escaped *rpc.Client
			failure := errors.New("body failed")
			require.ErrorIs(w, rpc.WithClient(ctx, ch, func(c *rpc.Client) error {
				escaped = c
				return failure
			}), failure)

			_, _, err := escaped.Call(ctx, "", requests, text("too late"))
			require.Error(w, err)
			require.NotErrorIs(w, err, context.Canceled)

			// The channel is free for another client.
			_ = w.served(1, echo, func() {
				require.NoError(w, rpc.WithClient(ctx, ch, func(c *rpc.Client) error {
					_, _, err := c.Call(ctx, "", requests, text("again"))
					return err
				}))
			})
		})
	})
}

func TestCancelledClientEndsItsCalls(t *testing.T) {
	bubble(t, func(w *world) {
		w.channel(func(ch *amqp.Channel) {
			why := errors.New("shutting down")
			ctx, cancel := context.WithCancelCause(ch.Context())
			err := rpc.WithClient(ctx, ch, func(c *rpc.Client) error {
				go func() {
					synctest.Wait()
					cancel(why)
				}()
				_, _, err := c.Call(context.Background(), "", requests, text("hello"))
				require.ErrorIs(w, err, why)
				return nil
			})
			require.ErrorIs(w, err, why)
		})
	})
}
