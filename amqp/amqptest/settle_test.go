package amqptest

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// filled makes a broker with a queue "q" that holds the messages 0 … n-1.
func filled(t *testing.T, n int) (*Broker, *testClient) {
	b := memoryBroker(t)
	c := dial(t, b)
	c.declare("q", nil)
	for i := range n {
		c.publish("q", strconv.Itoa(i))
	}
	return b, c
}

// hold fetches n messages without settling them.
func (c *testClient) hold(n int) {
	c.t.Helper()
	for range n {
		require.NotNil(c.t, c.get("q"))
	}
}

func counts(b *Broker) [2]int {
	q, _ := b.Queue("q")
	return [2]int{q.Ready, q.Unacked}
}

func TestRequeueKeepsTheOrder(t *testing.T) {
	for name, settle := range map[string]func(*testClient){
		"nack multiple": func(c *testClient) { c.send(1, &wire.BasicNack{DeliveryTag: 5, Multiple: true, Requeue: true}) },
		"nack all":      func(c *testClient) { c.send(1, &wire.BasicNack{Multiple: true, Requeue: true}) },
		"one by one": func(c *testClient) {
			for _, tag := range []uint64{4, 1, 5, 2, 3} {
				c.send(1, &wire.BasicReject{DeliveryTag: tag, Requeue: true})
			}
		},
		"recover": func(c *testClient) {
			require.IsType(c.t, &wire.BasicRecoverOk{}, c.call(&wire.BasicRecover{Requeue: true}))
		},
		"recover async": func(c *testClient) { c.send(1, &wire.BasicRecoverAsync{Requeue: true}) },
		"channel close": func(c *testClient) {
			require.IsType(c.t, &wire.ChannelCloseOk{}, c.call(&wire.ChannelClose{ReplyCode: 200}))
			c.openChannel(1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, c := filled(t, 7)
			c.hold(5)
			settle(c)
			c.nothing()
			assert.Equal(t, [2]int{7, 0}, counts(b))
			var redelivered []bool
			for _, m := range b.Messages("q") {
				redelivered = append(redelivered, m.Redelivered)
			}
			assert.Equal(t, []bool{true, true, true, true, true, false, false}, redelivered)
			assert.Equal(t, []string{"0", "1", "2", "3", "4", "5", "6"}, c.bodies("q"))
		})
	}
}

func TestRequeueIntoTheMiddle(t *testing.T) {
	_, c := filled(t, 6)
	c.hold(5)
	for _, tag := range []uint64{4, 1, 3} {
		c.send(1, &wire.BasicReject{DeliveryTag: tag, Requeue: true})
	}
	assert.Equal(t, []string{"0", "2", "3", "5"}, c.bodies("q"))
}

func TestConnectionLossRequeues(t *testing.T) {
	b, c := filled(t, 3)
	c.hold(2)
	require.NoError(t, c.nc.Close())
	until(t, b, func() bool { return counts(b) == [2]int{3, 0} })
	assert.Equal(t, []string{"0", "1", "2"}, dial(t, b).bodies("q"))
}

func TestAckMultiple(t *testing.T) {
	b, c := filled(t, 6)
	c.hold(6)
	c.send(1, &wire.BasicAck{DeliveryTag: 2})
	c.send(1, &wire.BasicAck{DeliveryTag: 4, Multiple: true})
	c.nothing()
	assert.Equal(t, [2]int{0, 2}, counts(b))
	c.send(1, &wire.BasicAck{Multiple: true})
	c.send(1, &wire.BasicAck{Multiple: true}) // nothing left is no error
	c.nothing()
	assert.Equal(t, [2]int{0, 0}, counts(b))
}

func TestUnknownDeliveryTag(t *testing.T) {
	for name, m := range map[string]wire.Method{
		"ack": &wire.BasicAck{DeliveryTag: 7}, "ack multiple": &wire.BasicAck{DeliveryTag: 7, Multiple: true},
		"nack": &wire.BasicNack{DeliveryTag: 7}, "reject": &wire.BasicReject{DeliveryTag: 7}, "settled": &wire.BasicAck{DeliveryTag: 2},
		"zero": &wire.BasicAck{},
	} {
		t.Run(name, func(t *testing.T) {
			_, c := filled(t, 3)
			c.hold(3)
			c.send(1, &wire.BasicAck{DeliveryTag: 2})
			c.send(1, m)
			tag := map[string]string{"settled": "2", "zero": "0"}[name]
			if tag == "" {
				tag = "7"
			}
			c.refused(406, "PRECONDITION_FAILED - unknown delivery tag "+tag)
			assert.Equal(t, []string{"0", "2"}, c.bodies("q")) // what was not settled came back
		})
	}
}

func TestManyOutOfOrderSettlements(t *testing.T) {
	b, c := filled(t, 500)
	c.hold(500)
	for tag := uint64(500); tag > 1; tag-- { // the oldest stays, and must not keep the rest in memory
		c.send(1, &wire.BasicAck{DeliveryTag: tag})
	}
	c.nothing()
	assert.Equal(t, [2]int{0, 1}, counts(b))
	b.mu.Lock()
	for conn := range b.conns {
		assert.Less(t, len(conn.channels[1].unacked), 100)
	}
	b.mu.Unlock()
	c.send(1, &wire.BasicNack{DeliveryTag: 1, Requeue: true})
	assert.Equal(t, []string{"0"}, c.bodies("q"))
}

func TestPrefetch(t *testing.T) {
	t.Run("per consumer", func(t *testing.T) {
		_, c := filled(t, 6)
		c.call(&wire.BasicQos{PrefetchCount: 2})
		c.consume("q", "a")
		assert.Equal(t, []string{"a:0", "a:1"}, c.deliveries(2))
		c.consume("q", "b")
		assert.Equal(t, []string{"b:2", "b:3"}, c.deliveries(2))
		c.send(1, &wire.BasicAck{DeliveryTag: 1})
		assert.Equal(t, []string{"a:4"}, c.deliveries(1))
		c.send(1, &wire.BasicNack{DeliveryTag: 3, Requeue: true})
		assert.Equal(t, []string{"b:2"}, c.deliveries(1))
	})
	t.Run("common to the channel", func(t *testing.T) {
		_, c := filled(t, 6)
		c.call(&wire.BasicQos{PrefetchCount: 3, Global: true})
		c.consume("q", "a")
		assert.Equal(t, []string{"a:0", "a:1", "a:2"}, c.deliveries(3))
		c.consume("q", "b")
		c.send(1, &wire.BasicAck{DeliveryTag: 1})
		assert.Equal(t, []string{"b:3"}, c.deliveries(1))
		c.send(1, &wire.BasicQos{PrefetchCount: 4, Global: true})
		expect[*wire.BasicQosOk](c)
		assert.Len(t, c.deliveries(1), 1)
	})
	t.Run("no-ack knows none", func(t *testing.T) {
		_, c := filled(t, 4)
		c.call(&wire.BasicQos{PrefetchCount: 1})
		c.consume("q", "a", noAck)
		assert.Len(t, c.deliveries(4), 4)
	})
	t.Run("size is not implemented", func(t *testing.T) {
		_, c := filled(t, 0)
		c.send(1, &wire.BasicQos{PrefetchSize: 5})
		c.refusedConnection(540, "NOT_IMPLEMENTED - prefetch_size!=0 (5)")
	})
}

func TestConfirms(t *testing.T) {
	b := memoryBroker(t)
	c := dial(t, b)
	c.declare("full", wire.Table{"x-max-length": int32(1), "x-overflow": "reject-publish"})
	c.call(&wire.ConfirmSelect{})
	// In one write, so that the broker confirms them together: sent, refused twice, unroutable, sent.
	var batch []byte
	for _, key := range []string{"full", "full", "full", "nowhere", "nowhere"} {
		batch = wire.AppendPublish(batch, 1, "", key, false, false)
		batch, _ = wire.AppendContentHeader(batch, 1, 0, nil)
	}
	c.write(batch)
	got := map[uint64]bool{}
	next := uint64(1)
	for len(got) < 5 {
		switch m := c.receive().method.(type) {
		case *wire.BasicAck:
			for tag := next; m.Multiple && tag < m.DeliveryTag; tag++ {
				got[tag] = true
			}
			got[m.DeliveryTag] = true
		case *wire.BasicNack:
			require.False(t, m.Multiple)
			got[m.DeliveryTag] = false
		}
	}
	assert.Equal(t, map[uint64]bool{1: true, 2: false, 3: false, 4: true, 5: true}, got)
}

func TestConfirmMultiple(t *testing.T) {
	c := dial(t, memoryBroker(t))
	c.declare("q", nil)
	c.call(&wire.ConfirmSelect{})
	var batch []byte
	for range 10 {
		batch = wire.AppendPublish(batch, 1, "", "q", false, false)
		batch, _ = wire.AppendContentHeader(batch, 1, 0, nil)
	}
	c.write(batch)
	assert.Equal(t, &wire.BasicAck{DeliveryTag: 10, Multiple: true}, expect[*wire.BasicAck](c))
}

func TestMandatory(t *testing.T) {
	c := dial(t, memoryBroker(t))
	c.call(&wire.ConfirmSelect{})
	c.publishOn(1, wire.BasicPublish{RoutingKey: "nowhere", Mandatory: true}, &wire.Properties{MessageID: "m"}, "body")
	ret, r := expectMessage[*wire.BasicReturn](c) // the return comes before the confirm
	assert.Equal(t, &wire.BasicReturn{ReplyCode: 312, ReplyText: "NO_ROUTE", RoutingKey: "nowhere"}, ret)
	assert.Equal(t, "body", r.body)
	assert.Equal(t, "m", r.props.MessageID)
	assert.Equal(t, &wire.BasicAck{DeliveryTag: 1}, expect[*wire.BasicAck](c))
}

// TestReturnsAndConfirmsInOneWrite has the order that RabbitMQ was seen to keep: each return, and right behind it its confirm.
func TestReturnsAndConfirmsInOneWrite(t *testing.T) {
	c := dial(t, memoryBroker(t))
	c.declare("q", nil)
	c.call(&wire.ConfirmSelect{})
	var batch []byte
	for _, key := range []string{"q", "q", "nowhere", "nowhere", "q"} {
		batch = wire.AppendPublish(batch, 1, "", key, true, false)
		batch, _ = wire.AppendContentHeader(batch, 1, 0, nil)
	}
	c.write(batch)
	expect[*wire.BasicReturn](c)
	assert.Equal(t, &wire.BasicAck{DeliveryTag: 3, Multiple: true}, expect[*wire.BasicAck](c))
	expect[*wire.BasicReturn](c)
	assert.Equal(t, &wire.BasicAck{DeliveryTag: 4}, expect[*wire.BasicAck](c))
	assert.Equal(t, &wire.BasicAck{DeliveryTag: 5}, expect[*wire.BasicAck](c))
}

func TestTransactions(t *testing.T) {
	b, c := filled(t, 2)
	c.call(&wire.TxSelect{})
	c.publish("q", "tx")
	c.hold(2)
	c.send(1, &wire.BasicAck{DeliveryTag: 1})
	c.send(1, &wire.BasicReject{DeliveryTag: 2, Requeue: true})
	c.call(&wire.TxRollback{})
	assert.Equal(t, [2]int{0, 2}, counts(b)) // as before the settlements, and the message is gone
	c.send(1, &wire.BasicAck{DeliveryTag: 1})
	c.send(1, &wire.BasicReject{DeliveryTag: 2, Requeue: true})
	c.publish("q", "tx")
	c.publishOn(1, wire.BasicPublish{RoutingKey: "nowhere", Mandatory: true}, nil, "")
	c.send(1, &wire.TxCommit{})
	expect[*wire.BasicReturn](c)
	expect[*wire.TxCommitOk](c)
	assert.Equal(t, [2]int{2, 0}, counts(b))
	c.hold(1)
	c.send(1, &wire.BasicAck{DeliveryTag: 3})
	c.send(1, &wire.BasicAck{DeliveryTag: 3})
	c.refused(406, "PRECONDITION_FAILED - unknown delivery tag 3")
	assert.Equal(t, [2]int{2, 0}, counts(b))
}

func TestModesExclude(t *testing.T) {
	c := dial(t, memoryBroker(t))
	for _, refusal := range []struct {
		methods []wire.Method
		text    string
	}{
		{[]wire.Method{&wire.TxSelect{}, &wire.ConfirmSelect{NoWait: true}}, "cannot switch from tx to confirm mode"},
		{[]wire.Method{&wire.ConfirmSelect{}, &wire.TxSelect{}}, "cannot switch from confirm to tx mode"},
		{[]wire.Method{&wire.ConfirmSelect{}, &wire.TxCommit{}}, "channel is not transactional"},
		{[]wire.Method{&wire.ConfirmSelect{}, &wire.TxRollback{}}, "channel is not transactional"},
	} {
		c.call(refusal.methods[0])
		c.send(1, refusal.methods[1])
		c.refused(406, "PRECONDITION_FAILED - "+refusal.text)
	}
}

// TestEachConsumerIsServedInItsTurn settles for two consumers at once: the first takes what it has room for.
func TestEachConsumerIsServedInItsTurn(t *testing.T) {
	_, c := filled(t, 6)
	c.call(&wire.BasicQos{PrefetchCount: 2})
	for _, tag := range []string{"a", "b"} {
		c.consume("q", tag)
		c.deliveries(2)
	}
	c.send(1, &wire.BasicNack{Multiple: true, Requeue: true})
	assert.Equal(t, []string{"a:0", "a:1", "b:2", "b:3"}, c.deliveries(4))
	c.send(1, &wire.BasicAck{DeliveryTag: 5})
	c.send(1, &wire.BasicAck{DeliveryTag: 7})
	assert.Equal(t, []string{"a:4", "b:5"}, c.deliveries(2))
}
