package amqp_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/scope"
)

// declareOwn is a body that declares an exclusive queue, and ends.
func declareOwn(conn *amqp.Conn) error {
	return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(ch.Context(), amqp.Queue{Name: "own", Exclusive: true})
		return err
	})
}

// consuming is a body that consumes from a queue until that ends.
func consuming(opts amqp.Consume) func(conn *amqp.Conn) error {
	return func(conn *amqp.Conn) error {
		return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
			return ch.WithConsumer(ch.Context(), opts, func(c *amqp.Consumer) error {
				for _, env := range c.Messages() {
					if err := env.Ack(); err != nil {
						return err
					}
				}
				return c.Err()
			})
		})
	}
}

// What RabbitMQ says when it may say something else later.
func TestSuperviseGoesOnAfterARefusalThatPasses(t *testing.T) {
	for _, c := range []struct {
		code uint16
		text string
	}{
		{404, "NOT_FOUND - home node 'rabbit@b' of durable queue 'own' in vhost '/' is down or inaccessible"},
		{404, "NOT_FOUND - queue 'own' in vhost '/' process is stopped by supervisor"},
		{404, "NOT_FOUND - queue 'own' in vhost '/' has crashed and failed to restart"},
		{404, "NOT_FOUND - failed to perform operation on queue 'own' in vhost '/' due to timeout"},
		{404, "NOT_FOUND - failed to perform operation on queue 'own' in vhost '/': its leader <0.1.0> may be stopping or being demoted"},
		{403, "ACCESS_REFUSED - access to queue 'own' in vhost '/' refused for user '', backend rabbit_auth_backend_oauth2 returned an error: \"Provided JWT token has expired\""},
		{406, "PRECONDITION_FAILED - stream queue 'own' in vhost '/' does not have a running replica on the local node"},
		{406, "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms."},
	} {
		t.Run(c.text, func(t *testing.T) {
			bubble(t, func(w *world) {
				var log bytes.Buffer
				w.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
				refusals := 2
				w.broker.On("queue.declare", func(*amqptest.Event) amqptest.Action {
					if refusals == 0 {
						return amqptest.Pass()
					}
					refusals--
					return amqptest.CloseChannel(c.code, c.text)
				})
				retry, all := noting(amqp.Retry{})
				require.NoError(w, amqp.Supervise(context.Background(), w.cfg, retry, declareOwn))
				require.Equal(w, []int{1, 2}, attempts(*all))
				require.Equal(w, c.text, asException((*all)[0].cause).Text)
				assert.Equal(w, 2, bytes.Count(log.Bytes(), []byte("level=WARN")), "%s", log.String())
			})
		})
	}
}

// A queue that is exclusive to another connection is free when that ends, and so is one with an exclusive consumer: the
// connection before, maybe, which the broker has not missed yet.
func TestSuperviseWaitsForAConnectionThatHasWhatItWants(t *testing.T) {
	for name, body := range map[string]func(*amqp.Conn) error{
		"a queue": declareOwn,
		"a consumer": func(conn *amqp.Conn) error {
			return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
				return ch.WithConsumer(ch.Context(), amqp.Consume{Queue: "q", Exclusive: true}, func(*amqp.Consumer) error { return nil })
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 0)
				retry, all := noting(amqp.Retry{})
				require.NoError(w, scope.Run(context.Background(), func(s *scope.Scope) error {
					require.NoError(w, s.Start(func(ctx context.Context, has func()) error {
						return w.connect(func(conn *amqp.Conn) error { return haveBoth(conn, has) })
					}))
					return amqp.Supervise(context.Background(), w.cfg, retry, body)
				}))
				require.Greater(w, len(*all), 2)
			})
		})
	}
}

// haveBoth has a queue and a consumer alone, for a minute.
func haveBoth(conn *amqp.Conn, has func()) error {
	return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
		if _, err := ch.QueueDeclare(ch.Context(), amqp.Queue{Name: "own", Exclusive: true}); err != nil {
			return err
		}
		return ch.WithConsumer(ch.Context(), amqp.Consume{Queue: "q", Exclusive: true}, func(*amqp.Consumer) error {
			has()
			time.Sleep(time.Minute)
			return nil
		})
	})
}

// A consumer that the broker ended is one that may be had again, on a queue that has moved, say. If its queue is gone for
// good, the next attempt says so.
func TestSuperviseConsumesAgainAfterItsConsumerWasCancelled(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		retry, all := noting(amqp.Retry{})
		done := make(chan error)
		go func() {
			done <- amqp.Supervise(context.Background(), w.cfg, retry, consuming(amqp.Consume{Queue: "q"}))
		}()
		for range 3 {
			time.Sleep(time.Hour)
			require.Equal(w, 1, w.state("q").Consumers)
			w.broker.CancelConsumers("q")
		}
		time.Sleep(time.Hour)
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			_, err := ch.QueueDelete(ch.Context(), amqp.QueueDelete{Name: "q"})
			return err
		}))
		require.ErrorIs(w, <-done, amqp.NotFound)
		require.Equal(w, []int{1, 1, 1, 1}, attempts(*all), "each time after a connection that lasted")
		require.ErrorIs(w, (*all)[0].cause, amqp.ErrConsumerCancelled)
	})
}

// A limit on connections is one that others may leave room in: the connection before, maybe.
func TestSuperviseGoesOnWhenThereAreTooManyConnections(t *testing.T) {
	bubble(t, func(w *world) {
		refusals := 2
		w.broker.On("connection.open", func(*amqptest.Event) amqptest.Action {
			if refusals == 0 {
				return amqptest.Pass()
			}
			refusals--
			return amqptest.CloseConnection(530, "NOT_ALLOWED - access to vhost '/' refused for user 'guest': connection limit (1) is reached")
		})
		retry, all := noting(amqp.Retry{})
		require.NoError(w, amqp.Supervise(context.Background(), w.cfg, retry, declareOwn))
		require.Equal(w, []int{1, 2}, attempts(*all))
		require.ErrorIs(w, (*all)[0].cause, amqp.NotAllowed)
	})
}

// Exceptions of the same codes that the same program would get for ever.
func TestSuperviseGivesUpOnARefusalThatStays(t *testing.T) {
	for _, c := range []struct {
		code uint16
		text string
	}{
		{403, "ACCESS_REFUSED - access to queue 'own' in vhost '/' refused for user 'guest'"},
		{404, "NOT_FOUND - no queue 'own' in vhost '/'"},
		{405, "RESOURCE_LOCKED - cannot obtain access to locked queue 'own' in vhost '/'. basic.get operations are not supported by quorum queues with single active consumer"},
		{406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'own' in vhost '/': received 'true' but current is 'false'"},
	} {
		t.Run(c.text, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.broker.On("queue.declare", func(*amqptest.Event) amqptest.Action { return amqptest.CloseChannel(c.code, c.text) })
				retry, all := noting(amqp.Retry{})
				err := amqp.Supervise(context.Background(), w.cfg, retry, declareOwn)
				require.ErrorIs(w, err, amqp.ReplyCode(c.code))
				require.Empty(w, *all)
			})
		})
	}
}

// A declaration that RabbitMQ 4.3 does not permit costs the connection, with a code that else stands for a mishap.
func TestSuperviseGivesUpOnWhatTheBrokerDoesNotPermitAnyMore(t *testing.T) {
	bubble(t, func(w *world) {
		retry, all := noting(amqp.Retry{})
		err := amqp.Supervise(context.Background(), w.cfg, retry, func(conn *amqp.Conn) error {
			return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
				_, err := ch.QueueDeclare(ch.Context(), amqp.Queue{Name: "transient"})
				return err
			})
		})
		require.ErrorIs(w, err, amqp.InternalError)
		require.ErrorContains(w, err, "transient_nonexcl_queues")
		require.Empty(w, *all)
	}, amqptest.WithVersion(amqptest.V43))
}

// A body that has ended has done its work. A connection that is lost on its goodbye does not make it do that again.
func TestSuperviseRunsNoBodyAgainForItsGoodbye(t *testing.T) {
	bubble(t, func(w *world) {
		w.broker.On("connection.close", func(*amqptest.Event) amqptest.Action { return amqptest.Sever() })
		retry, all := noting(amqp.Retry{})
		ran := 0
		err := amqp.Supervise(context.Background(), w.cfg, retry, func(conn *amqp.Conn) error {
			ran++
			return declareOwn(conn)
		})
		require.ErrorIs(w, err, amqp.ErrConnectionClosed, "it is told all the same")
		require.Equal(w, 1, ran)
		require.Empty(w, *all)
	})
}

// A channel that is lost on its goodbye may have lost acknowledgements: its body runs again.
func TestSuperviseRunsABodyAgainForTheGoodbyeOfAChannel(t *testing.T) {
	for _, method := range []string{"channel.flow", "channel.close"} {
		t.Run(method, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 9)
				lost := 0
				w.broker.On(method, func(e *amqptest.Event) amqptest.Action {
					if e.Direction != amqptest.ToBroker || lost == 2 {
						return amqptest.Pass()
					}
					lost++
					return amqptest.Sever()
				})
				ran := 0
				require.NoError(w, amqp.Supervise(context.Background(), w.cfg, amqp.Retry{}, func(conn *amqp.Conn) error {
					return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
						ran++
						_, env, err := ch.Get(ch.Context(), "q", false)
						if err != nil {
							return err
						}
						return env.Ack()
					})
				}))
				require.Equal(w, 3, ran)
			})
		})
	}
}

// Who ends a Supervise has ended it on purpose, also when the connection is lost on the goodbye.
func TestSuperviseEndsOnPurposeWhenTheGoodbyeFails(t *testing.T) {
	bubble(t, func(w *world) {
		w.broker.On("connection.close", func(*amqptest.Event) amqptest.Action { return amqptest.Sever() })
		ctx, stop := context.WithTimeout(context.Background(), time.Minute)
		defer stop()
		err := amqp.Supervise(ctx, w.cfg, amqp.Retry{}, func(conn *amqp.Conn) error {
			<-conn.Context().Done()
			return nil
		})
		require.ErrorIs(w, err, context.DeadlineExceeded)
		require.NotErrorIs(w, err, amqp.ErrConnectionClosed, "the loss is told in words")
	})
}
