package rpc_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/amqp/rpc"
	"github.com/leveret-mq/leveret/scope"
)

const requests = "requests"

// world is a bubble of testing/synctest with a broker, which has a queue for requests.
type world struct {
	*testing.T
	broker *amqptest.Broker
	cfg    amqp.Config
}

type handler func(ctx context.Context, body []byte, env *amqp.Envelope) (amqp.Message, error)

func bubble(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		broker := amqptest.NewBroker(amqptest.InMemory())
		defer broker.Close()
		w := &world{t, broker, amqp.Config{Dial: broker.Dial, Logger: slog.New(slog.DiscardHandler)}}
		w.channel(func(ch *amqp.Channel) {
			arguments := amqp.QueueArguments{DeadLetterToDefault: true, DeadLetterRoutingKey: "dead"}.Table()
			require.NoError(t, ch.Declare(ch.Context(), amqp.Topology{Queues: []amqp.Queue{
				{Name: requests, Durable: true, Arguments: arguments},
				{Name: "dead", Durable: true},
			}}))
		})
		test(w)
	})
}

// channel runs body on a channel, and expects that to end well.
func (w *world) channel(body func(*amqp.Channel)) {
	w.Helper()
	require.NoError(w, amqp.WithChannel(context.Background(), w.cfg, func(ch *amqp.Channel) error {
		body(ch)
		return nil
	}))
}

// client runs body with a client, and expects that to end well.
func (w *world) client(body func(ctx context.Context, c *rpc.Client)) {
	w.Helper()
	w.channel(func(ch *amqp.Channel) {
		require.NoError(w, rpc.WithClient(ch.Context(), ch, func(c *rpc.Client) error {
			body(ch.Context(), c)
			return nil
		}))
	})
}

// served runs body while requests are served on a connection of their own, and returns how serving ended.
func (w *world) served(workers int, handle handler, body func()) (err error) {
	w.Helper()
	ctx, stop := context.WithCancel(context.Background())
	require.NoError(w, scope.Run(context.Background(), func(s *scope.Scope) error {
		s.Go(func(context.Context) error {
			err = amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
				return rpc.Serve(ctx, ch, requests, workers, handle)
			})
			return nil
		})
		defer stop()
		synctest.Wait()
		body()
		return nil
	}))
	return err
}

func echo(_ context.Context, body []byte, _ *amqp.Envelope) (amqp.Message, error) {
	return amqp.Message{Body: append([]byte("re: "), body...)}, nil
}

func text(s string) amqp.Message { return amqp.Message{Body: []byte(s)} }

func (w *world) ready(queue string) int {
	w.Helper()
	info, ok := w.broker.Queue(queue)
	require.True(w, ok, "queue %q", queue)
	return info.Ready
}
