package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/integration/rabbit"
)

// patience is how long a test waits for what should come soon: on a machine that
// has a lot to do besides, that may take a while.
const patience = time.Minute

// broker is what a test of behaviour runs against: a virtual host of its own.
type broker struct {
	uri   string
	vhost string
	box   *amqptest.Broker // nil for RabbitMQ
	node  *rabbit.Node     // nil for amqptest
}

// eachBroker runs a test of behaviour against both brokers.
func eachBroker(t *testing.T, test func(t *testing.T, b broker)) {
	t.Helper()
	onBox(t, test)
	onRabbitMQ(t, test)
}

// onBox runs a test against amqptest alone.
func onBox(t *testing.T, test func(t *testing.T, b broker)) {
	t.Helper()
	t.Run("amqptest", func(t *testing.T) {
		t.Parallel()
		box := amqptest.NewBroker()
		t.Cleanup(box.Close)
		test(t, broker{uri: box.URI(), vhost: "/", box: box})
	})
}

// onRabbitMQ runs a test against RabbitMQ alone.
func onRabbitMQ(t *testing.T, test func(t *testing.T, b broker)) {
	t.Helper()
	t.Run("rabbitmq", func(t *testing.T) {
		t.Parallel()
		node := plainNode.get(t)
		vhost := newVhost(t, node)
		test(t, broker{uri: node.URI(vhost), vhost: vhost, node: node})
	})
}

// privately is onRabbitMQ for tests that do to the node what only its owner may.
func privately(t *testing.T, test func(t *testing.T, b broker)) {
	t.Helper()
	onRabbitMQ(t, func(t *testing.T, b broker) {
		if !b.node.Private() {
			t.Skip("SKIPPED: the broker of AMQP_URL is not ours to stop or reconfigure")
		}
		test(t, b)
	})
}

var vhosts atomic.Int64

func newVhost(t *testing.T, node *rabbit.Node) string {
	t.Helper()
	name := fmt.Sprintf("leveret-test-%d-%d", os.Getpid(), vhosts.Add(1))
	err := node.NewVhost(t.Context(), name)
	if errors.Is(err, rabbit.ErrNoManagement) && !rabbit.Required() {
		t.Skip("SKIPPED: set AMQP_MANAGEMENT_URL beside AMQP_URL, so that each test can have a virtual host of its own")
	}
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, node.DeleteVhost(context.WithoutCancel(t.Context()), name))
	})
	return name
}

// config is a client's configuration for the broker. What the client would log
// goes nowhere, and a broker that is slow to close is waited for.
func (b broker) config(t *testing.T) amqp.Config {
	t.Helper()
	cfg, err := amqp.ParseURI(b.uri)
	require.NoError(t, err)
	cfg.ConnectionName = t.Name()
	cfg.CloseTimeout = patience
	cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	return cfg
}

// connection runs body on a connection, and expects that to end well.
func (b broker) connection(t *testing.T, body func(ctx context.Context, conn *amqp.Conn)) {
	t.Helper()
	require.NoError(t, b.connectionEnds(t, func(ctx context.Context, conn *amqp.Conn) error {
		body(ctx, conn)
		return nil
	}))
}

// connectionEnds runs body on a connection and returns how that ended.
func (b broker) connectionEnds(t *testing.T, body func(ctx context.Context, conn *amqp.Conn) error) error {
	t.Helper()
	ctx := soon(t)
	return amqp.WithConnection(ctx, b.config(t), func(conn *amqp.Conn) error { return body(ctx, conn) })
}

// channel runs body on a channel of a new connection, and expects that to end
// well.
func (b broker) channel(t *testing.T, body func(ctx context.Context, ch *amqp.Channel)) {
	t.Helper()
	require.NoError(t, b.channelEnds(t, body))
}

// channelEnds runs body on a channel of a new connection and returns how that
// ended.
func (b broker) channelEnds(t *testing.T, body func(ctx context.Context, ch *amqp.Channel)) error {
	t.Helper()
	return b.connectionEnds(t, func(ctx context.Context, conn *amqp.Conn) error {
		return channelOn(ctx, conn, body)
	})
}

// channelOn runs body on a channel of conn and returns how that ended.
func channelOn(ctx context.Context, conn *amqp.Conn, body func(ctx context.Context, ch *amqp.Channel)) error {
	return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
		body(ctx, ch)
		return nil
	})
}

// soon bounds what a test waits for.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// newQueue declares an exclusive queue that the broker names.
func newQueue(t *testing.T, ctx context.Context, ch *amqp.Channel, arguments amqp.Table) string {
	t.Helper()
	q, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true, Arguments: arguments})
	require.NoError(t, err)
	require.NotEmpty(t, q.Name)
	return q.Name
}

// send publishes texts to a queue. A Get on the same channel finds them; another
// channel and a count of the ready messages may overtake them, see requireCount.
func send(t *testing.T, ctx context.Context, ch *amqp.Channel, queue string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		require.NoError(t, ch.Publish(ctx, "", queue, amqp.Message{Body: []byte(text)}))
	}
}

// get takes one message from a queue, which must have it already.
func get(t *testing.T, ctx context.Context, ch *amqp.Channel, queue string) (string, *amqp.Envelope) {
	t.Helper()
	body, env, err := ch.Get(ctx, queue, false)
	require.NoError(t, err)
	return string(body), env
}

// await gets from a queue until it has a message: for what the broker does in
// its own time, such as dead-lettering.
func await(t *testing.T, ctx context.Context, ch *amqp.Channel, queue string) (string, *amqp.Envelope) {
	t.Helper()
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for {
		body, env, err := ch.Get(ctx, queue, false)
		if err == nil {
			return string(body), env
		}
		require.ErrorIs(t, err, amqp.ErrEmptyQueue)
		select {
		case <-retry.C:
		case <-ctx.Done():
			require.NoError(t, ctx.Err(), "nothing came to %s", queue)
		}
	}
}

// requireEmpty finds no message in a queue.
func requireEmpty(t *testing.T, ctx context.Context, ch *amqp.Channel, queue string) {
	t.Helper()
	_, _, err := ch.Get(ctx, queue, false)
	require.ErrorIs(t, err, amqp.ErrEmptyQueue)
}

// requireCount waits until so many messages are ready in a queue.
func requireCount(t *testing.T, ctx context.Context, conn *amqp.Conn, queue string, ready int) {
	t.Helper()
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for {
		q, err := conn.QueueStatus(ctx, queue)
		require.NoError(t, err)
		if q.Messages == ready {
			return
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			require.Equal(t, ready, q.Messages, "messages ready in %s", queue)
		}
	}
}

// requireException finds the broker's exception in err.
func requireException(t *testing.T, err error, code amqp.ReplyCode, text string) {
	t.Helper()
	require.ErrorIs(t, err, code)
	require.ErrorContains(t, err, text)
	var exception *amqp.Error
	require.ErrorAs(t, err, &exception)
	require.Equal(t, code, exception.Code)
}
