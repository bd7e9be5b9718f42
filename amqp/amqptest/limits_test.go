package amqptest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

func TestMaxLength(t *testing.T) {
	for name, tt := range map[string]struct {
		arguments wire.Table
		bodies    []string
		want      []string
		nacked    []bool
	}{
		"drop head":      {wire.Table{"x-max-length": int32(2)}, []string{"a", "b", "c"}, []string{"b", "c"}, []bool{false, false, false}},
		"bytes":          {wire.Table{"x-max-length-bytes": int32(5)}, []string{"aaa", "bb", "c"}, []string{"bb", "c"}, []bool{false, false, false}},
		"one too large":  {wire.Table{"x-max-length-bytes": int32(5)}, []string{"aaa", "bbbbbb"}, nil, []bool{false, false}},
		"nothing at all": {wire.Table{"x-max-length": int32(0)}, []string{"a"}, nil, []bool{false}},
		"reject": {wire.Table{"x-max-length": int32(2), "x-overflow": "reject-publish"}, []string{"a", "b", "c"},
			[]string{"a", "b"}, []bool{false, false, true}},
		"reject bytes": {wire.Table{"x-max-length-bytes": int32(3), "x-overflow": "reject-publish"}, []string{"aa", "bb", "c"},
			[]string{"aa", "c"}, []bool{false, true, false}},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, memoryBroker(t))
			c.declare("q", tt.arguments)
			c.call(&wire.ConfirmSelect{})
			for i, body := range tt.bodies {
				c.publish("q", body)
				_, nacked := c.receive().method.(*wire.BasicNack)
				assert.Equal(t, tt.nacked[i], nacked, body)
			}
			assert.Equal(t, tt.want, c.bodies("q"))
		})
	}
}

func TestRejectPublishDLX(t *testing.T) {
	c := dial(t, memoryBroker(t))
	c.declare("dead", nil)
	c.declare("q", wire.Table{"x-max-length": int32(1), "x-overflow": "reject-publish-dlx",
		"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
	c.call(&wire.ConfirmSelect{})
	c.publish("q", "a")
	expect[*wire.BasicAck](c)
	c.publish("q", "b")
	expect[*wire.BasicNack](c)
	assert.Equal(t, []string{"b"}, c.bodies("dead"))
}

func TestLimitsCountWhatIsReady(t *testing.T) {
	c := dial(t, memoryBroker(t))
	c.declare("q", wire.Table{"x-max-length": int32(2)})
	for _, body := range []string{"a", "b"} {
		c.publish("q", body)
	}
	c.hold(2)
	c.publish("q", "c")
	c.publish("q", "d")
	c.send(1, &wire.BasicNack{Multiple: true, Requeue: true}) // four are ready now, and the oldest have to go
	assert.Equal(t, []string{"c", "d"}, c.bodies("q"))
}

func TestPriorities(t *testing.T) {
	c := dial(t, memoryBroker(t))
	c.declare("q", wire.Table{"x-max-priority": int32(3)})
	for _, m := range []struct {
		body     string
		priority uint8
	}{{"none", 0}, {"1", 1}, {"9", 9}, {"3", 3}, {"2", 2}, {"1 again", 1}} {
		c.publishWith("q", m.body, wire.Properties{Priority: m.priority})
	}
	c.hold(3)
	c.send(1, &wire.BasicNack{Multiple: true, Requeue: true})
	assert.Equal(t, []string{"9", "3", "2", "1", "1 again", "none"}, c.bodies("q"))
}

func TestDeliveryLimit(t *testing.T) {
	for name, tt := range map[string]struct {
		version  Version
		settle   wire.Method
		attempts int // until the message is gone; zero: it stays
	}{
		"3.10 reject": {V310, &wire.BasicReject{Requeue: true}, 3},
		"3.10 nack":   {V310, &wire.BasicNack{Requeue: true}, 3},
		"4.3 reject":  {V43, &wire.BasicReject{Requeue: true}, 3},
		"4.3 nack":    {V43, &wire.BasicNack{Requeue: true}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, memoryBroker(t, WithVersion(tt.version)))
			c.call(&wire.QueueDeclare{Queue: "dead", Durable: true})
			c.call(&wire.QueueDeclare{Queue: "q", Durable: true, Arguments: wire.Table{"x-queue-type": "quorum", "x-delivery-limit": int32(2),
				"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}})
			c.publish("q", "poison")
			attempts := 0
			for ; attempts < 5; attempts++ {
				r := c.get("q")
				if r == nil {
					break
				}
				count := func(n int, zero any) any {
					if n == 0 {
						return zero
					}
					return int64(n)
				}
				if tt.version == V310 {
					assert.Equal(t, count(attempts, int64(0)), r.props.Headers["x-delivery-count"])
				} else {
					assert.Equal(t, count(attempts, nil), r.props.Headers["x-acquired-count"])
					assert.Equal(t, count(min(attempts, tt.attempts), nil), r.props.Headers["x-delivery-count"])
				}
				switch m := tt.settle.(type) {
				case *wire.BasicReject:
					m.DeliveryTag = uint64(attempts + 1)
				case *wire.BasicNack:
					m.DeliveryTag = uint64(attempts + 1)
				}
				c.send(1, tt.settle)
			}
			if tt.attempts == 0 {
				assert.Equal(t, 5, attempts)
				return
			}
			assert.Equal(t, tt.attempts, attempts)
			r := c.get("dead")
			require.NotNil(t, r)
			assert.Equal(t, "delivery_limit", r.props.Headers["x-first-death-reason"])
		})
	}
}

func TestConsumerPriorities(t *testing.T) {
	c := dial(t, memoryBroker(t))
	c.declare("q", nil)
	for tag, priority := range map[string]int32{"low": -1, "high": 5} {
		c.consume("q", tag, func(m *wire.BasicConsume) { m.Arguments = wire.Table{"x-priority": priority} })
	}
	c.call(&wire.BasicQos{PrefetchCount: 1})
	c.consume("q", "a")
	c.consume("q", "b")
	for range 4 {
		c.publish("q", "m")
	}
	assert.Equal(t, []string{"high:m", "high:m", "high:m", "high:m"}, c.deliveries(4))
	c.call(&wire.BasicCancel{ConsumerTag: "high"})
	for range 3 {
		c.publish("q", "m")
	}
	assert.Equal(t, []string{"a:m", "b:m", "low:m"}, c.deliveries(3))
}

func TestSingleActiveConsumer(t *testing.T) {
	b := memoryBroker(t)
	c := dial(t, b)
	c.declare("q", wire.Table{"x-single-active-consumer": true})
	c.consume("q", "a", noAck)
	c.consume("q", "b", noAck)
	c.publish("q", "1")
	c.publish("q", "2")
	assert.Equal(t, []string{"a:1", "a:2"}, c.deliveries(2))
	assert.True(t, b.Consumers()[0].Active)
	assert.False(t, b.Consumers()[1].Active)
	c.call(&wire.BasicCancel{ConsumerTag: "a"})
	c.publish("q", "3")
	assert.Equal(t, []string{"b:3"}, c.deliveries(1))
	c.send(1, &wire.BasicConsume{Queue: "q", Exclusive: true})
	c.refused(403, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use")
}

func TestRoundRobin(t *testing.T) {
	c := dial(t, memoryBroker(t))
	c.declare("q", nil)
	for _, tag := range []string{"a", "b", "c"} {
		c.consume("q", tag, noAck)
	}
	for range 6 {
		c.publish("q", "m")
	}
	assert.Equal(t, []string{"a:m", "b:m", "c:m", "a:m", "b:m", "c:m"}, c.deliveries(6))
}

func TestQuorumRequeueOrder(t *testing.T) {
	for name, tt := range map[string]struct {
		arguments wire.Table
		want      []string
	}{
		"to the end":          {wire.Table{"x-queue-type": "quorum"}, []string{"3", "4", "2", "0"}},
		"before all the rest": {wire.Table{"x-queue-type": "quorum", "x-delivery-limit": int32(5)}, []string{"2", "0", "3", "4"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, memoryBroker(t))
			c.call(&wire.QueueDeclare{Queue: "q", Durable: true, Arguments: tt.arguments})
			for _, body := range []string{"0", "1", "2", "3", "4"} {
				c.publish("q", body)
			}
			c.hold(3)
			for _, tag := range []uint64{3, 1} {
				c.send(1, &wire.BasicNack{DeliveryTag: tag, Requeue: true})
			}
			assert.Equal(t, tt.want, c.bodies("q"))
			c.call(&wire.BasicQos{PrefetchCount: 1, Global: true})
			c.send(1, &wire.BasicConsume{Queue: "q"})
			c.refusedConnection(540, "NOT_IMPLEMENTED - queue 'q' in vhost '/' does not support global qos")
		})
	}
}
