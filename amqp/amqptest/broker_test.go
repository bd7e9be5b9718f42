package amqptest

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// TestHarness shows the test client at work: declare, publish, consume, acknowledge.
func TestHarness(t *testing.T) {
	b := NewBroker()
	defer b.Close()
	for _, c := range []*testClient{dial(t, b), dialTCP(t, b)} {
		c.declare("hello", nil)
		c.publish("hello", "one")
		c.consume("hello", "me")
		d, r := expectMessage[*wire.BasicDeliver](c)
		assert.Equal(t, &wire.BasicDeliver{ConsumerTag: "me", DeliveryTag: 1, RoutingKey: "hello"}, d)
		assert.Equal(t, "one", r.body)
		c.send(1, &wire.BasicAck{DeliveryTag: 1})
		c.nothing()
		q, _ := b.Queue("hello")
		assert.Equal(t, QueueInfo{VHost: "/", Name: "hello", Consumers: 1}, q)
		c.send(0, &wire.ConnectionClose{ReplyCode: 200})
		expect[*wire.ConnectionCloseOk](c)
		require.ErrorIs(t, c.closed(), io.EOF)
	}
}

func TestURI(t *testing.T) {
	b := NewBroker()
	defer b.Close()
	assert.Regexp(t, `^amqp://guest:guest@127\.0\.0\.1:\d+$`, b.URI())
	assert.Equal(t, "amqp://guest:guest@localhost:5672", memoryBroker(t).URI())
}

func TestDialAfterCloseAndCancel(t *testing.T) {
	b := NewBroker(InMemory())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Dial(ctx, "", "")
	require.ErrorIs(t, err, context.Canceled)
	b.Close()
	b.Close()
	_, err = b.Dial(t.Context(), "", "")
	require.ErrorIs(t, err, errClosed)
}

func TestManyBrokersInParallel(t *testing.T) {
	for range 8 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			b := NewBroker()
			defer b.Close()
			c := dialTCP(t, b)
			c.declare("q", nil)
			c.publish("q", "x")
			assert.Equal(t, []string{"x"}, c.bodies("q"))
		})
	}
}

// TestCloseSaysGoodbye is in a bubble, whose clock gives the client all the time that it takes to answer.
func TestCloseSaysGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBroker(InMemory())
		c := dial(t, b)
		start := time.Now()
		var closing sync.WaitGroup
		closing.Go(b.Close)
		m := expect[*wire.ConnectionClose](c)
		assert.Equal(t, uint16(320), m.ReplyCode)
		assert.Equal(t, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'", m.ReplyText)
		c.send(0, &wire.ConnectionCloseOk{})
		require.ErrorIs(t, c.closed(), io.EOF)
		closing.Wait()
		assert.Equal(t, start, time.Now(), "it does not wait when it has been answered")
	})
}

func TestCloseWithStubbornClients(t *testing.T) {
	b := NewBroker()
	c := dialTCP(t, b)
	dialRaw(t, b) // says nothing at all
	c.declare("q", nil)
	c.consume("q", "slow", noAck)
	big := strings.Repeat("x", 1<<20)
	for range 20 {
		c.publish("q", big) // nobody reads what comes back
	}
	until(t, b, func() bool { q, _ := b.Queue("q"); return q.Ready > 0 })
	start := time.Now()
	b.Close()
	assert.Less(t, time.Since(start), 5*time.Second)
}

func TestSlowClientHoldsNobodyUp(t *testing.T) {
	b := NewBroker()
	defer b.Close()
	slow, quick := dialTCP(t, b), dialTCP(t, b)
	slow.declare("q", nil)
	slow.consume("q", "slow", noAck)
	body := strings.Repeat("x", 256<<10)
	for range 60 {
		quick.publish("q", body)
	}
	until(t, b, func() bool { q, _ := b.Queue("q"); return q.Ready > 0 })
	quick.consume("q", "quick", noAck)
	_, r := expectMessage[*wire.BasicDeliver](quick)
	assert.Equal(t, body, r.body)
}

func TestAddresses(t *testing.T) {
	b := memoryBroker(t)
	nc, err := b.Dial(t.Context(), "tcp", "ignored:1")
	require.NoError(t, err)
	defer func() { _ = nc.Close() }()
	assert.Equal(t, "memory", nc.LocalAddr().Network())
	assert.NotEmpty(t, nc.LocalAddr().String())
	assert.Equal(t, "amqptest", nc.RemoteAddr().String())
}

func TestFaults(t *testing.T) {
	t.Run("close connections", func(t *testing.T) {
		b := memoryBroker(t)
		c := dial(t, b)
		b.CloseConnections(320, "CONNECTION_FORCED - because")
		c.refusedConnection(320, "CONNECTION_FORCED - because")
		until(t, b, func() bool { return len(b.Connections()) == 0 })
	})
	t.Run("close channels", func(t *testing.T) {
		b := memoryBroker(t)
		c := dial(t, b)
		b.CloseChannels(406, "PRECONDITION_FAILED - on purpose")
		c.refused(406, "PRECONDITION_FAILED - on purpose")
		c.declare("q", nil)
	})
	t.Run("sever in memory", func(t *testing.T) {
		b := memoryBroker(t)
		c := dial(t, b)
		b.Sever()
		require.ErrorIs(t, c.closed(), errReset)
	})
	t.Run("sever over TCP", func(t *testing.T) {
		b := NewBroker()
		defer b.Close()
		c := dialTCP(t, b)
		b.Sever()
		require.ErrorIs(t, c.closed(), errReset)
	})
	t.Run("nack", func(t *testing.T) {
		b := memoryBroker(t)
		c := dial(t, b)
		c.declare("q", nil)
		c.call(&wire.ConfirmSelect{})
		b.NackNext(1)
		c.publish("q", "lost")
		assert.Equal(t, &wire.BasicNack{DeliveryTag: 1}, expect[*wire.BasicNack](c))
		c.publish("q", "kept")
		assert.Equal(t, &wire.BasicAck{DeliveryTag: 2}, expect[*wire.BasicAck](c))
		assert.Equal(t, []string{"kept"}, c.bodies("q"))
	})
	t.Run("cancel consumers", func(t *testing.T) {
		b := memoryBroker(t)
		c := dial(t, b)
		c.declare("q", nil)
		c.consume("q", "me")
		assert.Equal(t, 1, b.CancelConsumers("q"))
		assert.Equal(t, &wire.BasicCancel{ConsumerTag: "me", NoWait: true}, expect[*wire.BasicCancel](c))
		assert.Empty(t, b.Consumers())
	})
}

func TestStall(t *testing.T) {
	b := memoryBroker(t)
	c := dial(t, b)
	b.Stall()
	c.send(1, &wire.QueueDeclare{Queue: "q"})
	_ = c.nc.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, err := c.next()
	var late net.Error
	require.ErrorAs(t, err, &late)
	assert.True(t, late.Timeout())
	assert.Empty(t, b.Queues())
	b.Resume()
	expect[*wire.QueueDeclareOk](c)
}

func TestBlocked(t *testing.T) {
	b := memoryBroker(t)
	publisher, consumer := dial(t, b), dial(t, b)
	consumer.declare("q", nil)
	publisher.publish("q", "before")
	assert.Equal(t, []string{"before"}, firstBodies(consumer, "q", 1))
	b.Block("low on memory")
	publisher.nothing() // having published before is no reason to be blocked
	publisher.publish("q", "while blocked")
	assert.Equal(t, "low on memory", expect[*wire.ConnectionBlocked](publisher).Reason)
	publisher.publish("q", "not even read")
	assert.Empty(t, consumer.bodies("q")) // and consuming goes on
	late := dial(t, b)                    // a new connection is told as soon as it publishes
	late.publish("q", "late")
	expect[*wire.ConnectionBlocked](late)
	b.Unblock()
	expect[*wire.ConnectionUnblocked](publisher)
	expect[*wire.ConnectionUnblocked](late)
	assert.ElementsMatch(t, []string{"while blocked", "not even read", "late"}, firstBodies(consumer, "q", 3))
}

// firstBodies fetches until so many messages have come.
func firstBodies(c *testClient, queue string, n int) (list []string) {
	for len(list) < n {
		list = append(list, c.bodies(queue)...)
	}
	return list
}

func TestInspection(t *testing.T) {
	b := memoryBroker(t, WithHistory(2))
	c := dial(t, b)
	c.send(1, &wire.ExchangeDeclare{Exchange: "x", Type: "topic", AutoDelete: true})
	expect[*wire.ExchangeDeclareOk](c)
	c.declare("q", wire.Table{"x-max-length": int32(5)})
	c.call(&wire.QueueBind{Queue: "q", Exchange: "x", RoutingKey: "a.*"})
	c.call(&wire.ExchangeBind{Destination: "amq.fanout", Source: "x", RoutingKey: "#", Arguments: wire.Table{"n": int32(1)}})
	for _, body := range []string{"1", "2", "3"} {
		c.publishOn(1, wire.BasicPublish{Exchange: "x", RoutingKey: "a.b"}, &wire.Properties{MessageID: "id" + body,
			Headers: wire.Table{"t": wire.Table{"k": "v"}, "d": wire.Decimal{Scale: 1, Value: 2}}}, body)
	}
	c.send(1, &wire.BasicGet{Queue: "q"})
	c.receive()
	q, ok := b.Queue("q")
	assert.True(t, ok)
	assert.Equal(t, QueueInfo{VHost: "/", Name: "q", Arguments: map[string]any{"x-max-length": int32(5)}, Ready: 2, Unacked: 1, Bytes: 2}, q)
	assert.Equal(t, []BindingInfo{
		{VHost: "/", Source: "x", Destination: "q", RoutingKey: "a.*"},
		{VHost: "/", Source: "x", Destination: "amq.fanout", ToExchange: true, RoutingKey: "#", Arguments: map[string]any{"n": int32(1)}},
	}, b.Bindings())
	assert.Contains(t, b.Exchanges(), ExchangeInfo{VHost: "/", Name: "x", Kind: "topic", AutoDelete: true})
	published := b.Published()
	require.Len(t, published, 2) // the third is forgotten
	assert.Equal(t, "3", string(published[1].Body))
	assert.Equal(t, "id3", published[1].Properties.MessageID)
	assert.Equal(t, map[string]any{"t": map[string]any{"k": "v"}, "d": Decimal{1, 2}}, published[1].Properties.Headers)
	assert.Len(t, b.Messages("q"), 2)
	connections := b.Connections()
	require.Len(t, connections, 1)
	assert.Equal(t, t.Name(), connections[0].Name)
	assert.Equal(t, 1, connections[0].Channels)
	c.send(1, &wire.BasicConsume{Queue: "q", ConsumerTag: "tag", Arguments: wire.Table{"x-priority": int32(3)}})
	expect[*wire.BasicConsumeOk](c)
	assert.Equal(t, []ConsumerInfo{{VHost: "/", Queue: "q", Tag: "tag", Connection: t.Name(), Channel: 1, Unacked: 2, Priority: 3,
		Active: true, Arguments: map[string]any{"x-priority": int32(3)}}}, b.Consumers())
}

func TestWaitEndsWithItsContext(t *testing.T) {
	b := memoryBroker(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, b.Wait(ctx, func() bool { return false }), context.DeadlineExceeded)
}
