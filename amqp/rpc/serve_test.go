package rpc_test

import (
	"context"
	"errors"
	"sync/atomic"
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

// request publishes requests that want no reply.
func (w *world) request(texts ...string) {
	w.Helper()
	w.channel(func(ch *amqp.Channel) {
		require.NoError(w, ch.Confirm(ch.Context()))
		for _, s := range texts {
			require.NoError(w, ch.Publish(ch.Context(), "", requests, text(s)))
		}
	})
}

func TestServeUsesItsWorkers(t *testing.T) {
	bubble(t, func(w *world) {
		var now, most, all atomic.Int32
		slow := func(context.Context, []byte, *amqp.Envelope) (amqp.Message, error) {
			raise(&most, now.Add(1))
			time.Sleep(time.Second)
			now.Add(-1)
			all.Add(1)
			return amqp.Message{}, nil
		}
		w.request("1", "2", "3", "4", "5", "6", "7", "8", "9", "10")
		began := time.Now()
		_ = w.served(4, slow, func() {
			require.NoError(w, w.broker.Wait(w.Context(), func() bool {
				q, _ := w.broker.Queue(requests)
				return q.Ready+q.Unacked == 0
			}))
		})
		require.EqualValues(w, 10, all.Load())
		require.EqualValues(w, 4, most.Load())
		require.Equal(w, 3*time.Second, time.Since(began).Truncate(time.Second))
	})
}

// raise makes n the most if it is. Others may do the same meanwhile.
func raise(most *atomic.Int32, n int32) {
	for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
	}
}

func TestServeNeedsWorkers(t *testing.T) {
	bubble(t, func(w *world) {
		require.ErrorContains(w, w.served(0, echo, func() {}), "0 workers")
	})
}

// A request that wants no reply is handled, acknowledged, and not answered.
func TestRequestWithoutReplyTo(t *testing.T) {
	bubble(t, func(w *world) {
		w.request("just do it")
		_ = w.served(1, echo, synctest.Wait)
		require.Zero(w, w.ready(requests))
		require.Len(w, w.broker.Published(), 1, "the request alone")
	})
}

// A request whose handler fails comes again, until one succeeds.
func TestFailedHandlerSeesTheRequestAgain(t *testing.T) {
	bubble(t, func(w *world) {
		var redelivered []bool
		third := func(ctx context.Context, body []byte, env *amqp.Envelope) (amqp.Message, error) {
			redelivered = append(redelivered, env.Redelivered)
			if len(redelivered) < 3 {
				return amqp.Message{}, errors.New("not yet")
			}
			return echo(ctx, body, env)
		}
		_ = w.served(1, third, func() {
			w.client(func(ctx context.Context, c *rpc.Client) {
				body, _, err := c.Call(ctx, "", requests, text("insist"))
				require.NoError(w, err)
				require.Equal(w, "re: insist", string(body))
			})
		})
		require.Equal(w, []bool{false, true, true}, redelivered)
	})
}

// A request that its handler drops is dead-lettered, and its caller hears nothing.
func TestDroppedRequestIsNotAnswered(t *testing.T) {
	bubble(t, func(w *world) {
		drop := func(context.Context, []byte, *amqp.Envelope) (amqp.Message, error) {
			return text("nobody sees this"), errors.Join(errors.New("nonsense"), amqp.Drop)
		}
		_ = w.served(1, drop, func() {
			w.client(func(ctx context.Context, c *rpc.Client) {
				ctx, cancel := context.WithTimeout(ctx, time.Hour)
				defer cancel()
				_, _, err := c.Call(ctx, "", requests, text("gibberish"))
				require.ErrorIs(w, err, context.DeadlineExceeded)
			})
		})
		require.Zero(w, w.ready(requests))
		require.Equal(w, 1, w.ready("dead"))
	})
}

// A client that has gone does not disturb the server, which goes on with the next.
func TestReplyToSomebodyWhoHasGone(t *testing.T) {
	bubble(t, func(w *world) {
		slow := func(ctx context.Context, body []byte, env *amqp.Envelope) (amqp.Message, error) {
			time.Sleep(time.Minute)
			return echo(ctx, body, env)
		}
		_ = w.served(1, slow, func() {
			w.client(func(ctx context.Context, c *rpc.Client) {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				_, _, err := c.Call(ctx, "", requests, text("bye"))
				require.ErrorIs(w, err, context.DeadlineExceeded)
			})
			w.client(func(ctx context.Context, c *rpc.Client) {
				body, _, err := c.Call(ctx, "", requests, text("hello"))
				require.NoError(w, err)
				require.Equal(w, "re: hello", string(body))
			})
		})
		require.Zero(w, w.ready(requests))
	})
}

// Ending ctx ends Serve, with its cause: handlers are told, and what they leave undone waits for another server.
func TestServeEndsWithItsContext(t *testing.T) {
	bubble(t, func(w *world) {
		w.request("1", "2", "3")
		var told atomic.Int32
		hang := func(ctx context.Context, _ []byte, _ *amqp.Envelope) (amqp.Message, error) {
			<-ctx.Done()
			told.Add(1)
			return amqp.Message{}, ctx.Err()
		}
		err := w.served(2, hang, synctest.Wait)
		require.ErrorIs(w, err, context.Canceled)
		assert.EqualValues(w, 2, told.Load())
		require.Equal(w, 3, w.ready(requests))
	})
}

// A handler in hand when ctx ends may finish: its reply is sent, and its request acknowledged, before Serve returns.
func TestServeAnswersWhatItsHandlersFinish(t *testing.T) {
	bubble(t, func(w *world) {
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		slow := func(told context.Context, body []byte, env *amqp.Envelope) (amqp.Message, error) {
			stop()
			<-told.Done()
			time.Sleep(time.Minute)
			return echo(told, body, env)
		}
		var replied atomic.Bool
		require.NoError(w, scope.Run(context.Background(), func(s *scope.Scope) error {
			s.Go(func(context.Context) error {
				err := amqp.WithChannel(context.Background(), w.cfg, func(ch *amqp.Channel) error {
					err := rpc.Serve(ctx, ch, requests, 2, slow)
					synctest.Wait()
					assert.True(w, replied.Load(), "the reply is on its way before the scope ends")
					return err
				})
				assert.ErrorIs(w, err, context.Canceled)
				return nil
			})
			synctest.Wait()
			w.client(func(ctx context.Context, c *rpc.Client) {
				body, _, err := c.Call(ctx, "", requests, text("hello"))
				require.NoError(w, err)
				require.Equal(w, "re: hello", string(body))
				replied.Store(true)
			})
			return nil
		}))
		require.Zero(w, w.ready(requests), "it is not handled again")
	})
}

// A broker that takes no messages does not keep a Serve whose ctx has ended: the request waits for another server.
func TestServeWaitsForABlockedBrokerNotForEver(t *testing.T) {
	bubble(t, func(w *world) {
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		w.channel(func(ch *amqp.Channel) {
			msg := amqp.Message{Body: []byte("hello"), Properties: amqp.Properties{ReplyTo: "somebody"}}
			require.NoError(w, ch.Confirm(ch.Context()))
			require.NoError(w, ch.Publish(ch.Context(), "", requests, msg))
		})
		var began time.Time
		err := amqp.WithChannel(context.Background(), w.cfg, func(ch *amqp.Channel) error {
			return rpc.Serve(ctx, ch, requests, 2, func(told context.Context, body []byte, env *amqp.Envelope) (amqp.Message, error) {
				w.broker.Block("low on memory")
				// Who publishes nothing is not told that he may not.
				require.NoError(w, ch.Publish(told, "", "dead", amqp.Message{}))
				synctest.Wait()
				stop()
				<-told.Done()
				began = time.Now()
				return echo(told, body, env)
			})
		})
		require.ErrorIs(w, err, context.Canceled)
		require.LessOrEqual(w, time.Since(began), time.Minute)
		w.broker.Unblock()
		synctest.Wait()
		require.Equal(w, 1, w.ready(requests))
	})
}

func TestServeEndsWhenItsQueueIsDeleted(t *testing.T) {
	bubble(t, func(w *world) {
		err := w.served(1, echo, func() {
			w.channel(func(ch *amqp.Channel) {
				_, err := ch.QueueDelete(ch.Context(), amqp.QueueDelete{Name: requests})
				require.NoError(w, err)
			})
			synctest.Wait()
		})
		require.ErrorIs(w, err, amqp.ErrConsumerCancelled)
	})
}

func TestServeOnMissingQueue(t *testing.T) {
	bubble(t, func(w *world) {
		err := amqp.WithChannel(context.Background(), w.cfg, func(ch *amqp.Channel) error {
			return rpc.Serve(ch.Context(), ch, "missing", 1, echo)
		})
		require.ErrorIs(w, err, amqp.NotFound)
	})
}

// A reply that can't be sent leaves its request unanswered and in the queue.
func TestReplyThatCannotBeSent(t *testing.T) {
	bubble(t, func(w *world) {
		attempts := 0
		second := func(ctx context.Context, body []byte, env *amqp.Envelope) (amqp.Message, error) {
			if attempts++; attempts == 1 {
				return amqp.Message{Properties: amqp.Properties{Headers: amqp.Table{"bad": struct{}{}}}}, nil
			}
			return echo(ctx, body, env)
		}
		_ = w.served(1, second, func() {
			w.client(func(ctx context.Context, c *rpc.Client) {
				body, _, err := c.Call(ctx, "", requests, text("hello"))
				require.NoError(w, err)
				require.Equal(w, "re: hello", string(body))
			})
		})
		require.Equal(w, 2, attempts)
	})
}

// An address at which the broker ends the connection costs two connections, and not all that follow.
func TestReplyThatEndsTheConnectionIsSentTwiceAtMost(t *testing.T) {
	const hostile = "amq.rabbitmq.reply-to.g1h2AAVyZXBseUA.abc"
	bubble(t, func(w *world) {
		var sent atomic.Int32
		w.broker.On("basic.publish", func(e *amqptest.Event) amqptest.Action {
			if e.Field("routing-key") == hostile && sent.Add(1) < 10 {
				return amqptest.CloseConnection(541, "INTERNAL_ERROR")
			}
			return amqptest.Pass()
		})
		w.channel(func(ch *amqp.Channel) {
			msg := amqp.Message{Body: []byte("bang"), Properties: amqp.Properties{ReplyTo: hostile}}
			require.NoError(w, ch.Publish(ch.Context(), "", requests, msg))
		})
		lost := 0
		retry := amqp.Retry{OnRetry: func(int, time.Duration, error) { lost++ }}
		require.NoError(w, scope.Run(context.Background(), func(s *scope.Scope) error {
			s.Go(func(ctx context.Context) error {
				return amqp.Supervise(ctx, w.cfg, retry, func(conn *amqp.Conn) error {
					return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
						return rpc.Serve(ch.Context(), ch, requests, 1, echo)
					})
				})
			})
			time.Sleep(time.Hour)
			w.client(func(ctx context.Context, c *rpc.Client) {
				body, _, err := c.Call(ctx, "", requests, text("hello"))
				require.NoError(w, err)
				require.Equal(w, "re: hello", string(body))
			})
			s.Cancel(nil)
			return nil
		}))
		require.EqualValues(w, 2, sent.Load())
		require.Equal(w, 2, lost)
		require.Zero(w, w.ready(requests))
	})
}

// A direct reply that can't be sent the second time either is given up, with its request.
func TestReplyThatCanNeverBeSent(t *testing.T) {
	bubble(t, func(w *world) {
		attempts := 0
		bad := func(context.Context, []byte, *amqp.Envelope) (amqp.Message, error) {
			if attempts++; attempts == 10 {
				return amqp.Message{}, amqp.Drop // enough
			}
			return amqp.Message{Properties: amqp.Properties{Headers: amqp.Table{"bad": struct{}{}}}}, nil
		}
		_ = w.served(1, bad, func() {
			w.client(func(ctx context.Context, c *rpc.Client) {
				ctx, cancel := context.WithTimeout(ctx, time.Hour)
				defer cancel()
				_, _, err := c.Call(ctx, "", requests, text("hello"))
				require.ErrorIs(w, err, context.DeadlineExceeded)
			})
		})
		require.Equal(w, 2, attempts)
		require.Zero(w, w.ready(requests))
	})
}
