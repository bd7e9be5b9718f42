package amqptest

import (
	"maps"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// inBubble runs a test in a synctest bubble with a broker and a client of it.
func inBubble(t *testing.T, test func(t *testing.T, b *Broker, c *testClient), opts ...Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := NewBroker(append([]Option{InMemory()}, opts...)...)
		c := dial(t, b)
		test(t, b, c)
		_ = c.nc.Close()
		b.Close()
	})
}

func readyIn(b *Broker, queue string) int {
	synctest.Wait()
	q, _ := b.Queue(queue)
	return q.Ready
}

func TestQueueTTL(t *testing.T) {
	inBubble(t, func(t *testing.T, b *Broker, c *testClient) {
		c.declare("q", wire.Table{"x-message-ttl": int32(1000)})
		c.publish("q", "a")
		time.Sleep(600 * time.Millisecond)
		c.publish("q", "b")
		time.Sleep(399 * time.Millisecond)
		assert.Equal(t, 2, readyIn(b, "q"))
		time.Sleep(2 * time.Millisecond)
		assert.Equal(t, 1, readyIn(b, "q"))
		time.Sleep(600 * time.Millisecond)
		assert.Equal(t, 0, readyIn(b, "q"))
	})
}

func TestMessageTTL(t *testing.T) {
	inBubble(t, func(t *testing.T, b *Broker, c *testClient) {
		c.declare("q", wire.Table{"x-message-ttl": int32(1000)})
		c.publishWith("q", "short", wire.Properties{Expiration: "100"})
		c.publishWith("q", "capped", wire.Properties{Expiration: "5000"})
		c.publishWith("q", "behind", wire.Properties{Expiration: "200"})
		time.Sleep(150 * time.Millisecond)
		assert.Equal(t, 2, readyIn(b, "q"))
		time.Sleep(100 * time.Millisecond)
		assert.Equal(t, 2, readyIn(b, "q")) // what is behind a longer life waits for it
		r := c.get("q")
		require.NotNil(t, r)
		assert.Equal(t, "capped", r.body)
		assert.Equal(t, 0, readyIn(b, "q"))
		time.Sleep(time.Second)
		c.send(1, &wire.BasicReject{DeliveryTag: 1, Requeue: true}) // its time went on while it was out
		assert.Equal(t, 0, readyIn(b, "q"))
	})
}

func TestZeroTTL(t *testing.T) {
	inBubble(t, func(t *testing.T, b *Broker, c *testClient) {
		c.declare("q", wire.Table{"x-message-ttl": int32(0)})
		c.publish("q", "nobody there")
		assert.Equal(t, 0, readyIn(b, "q"))
		c.consume("q", "me", noAck)
		c.publish("q", "caught")
		assert.Equal(t, []string{"me:caught"}, c.deliveries(1))
	})
}

func TestQueueExpires(t *testing.T) {
	inBubble(t, func(t *testing.T, b *Broker, c *testClient) {
		exists := func() bool {
			synctest.Wait()
			_, ok := b.Queue("q")
			return ok
		}
		c.declare("q", wire.Table{"x-expires": int32(1000)})
		for _, use := range []wire.Method{&wire.BasicGet{Queue: "q"}, &wire.QueueDeclare{Queue: "q", Passive: true}} {
			time.Sleep(900 * time.Millisecond)
			c.call(use)
		}
		c.consume("q", "me")
		time.Sleep(time.Hour)
		assert.True(t, exists()) // a consumer keeps it
		c.call(&wire.BasicCancel{ConsumerTag: "me"})
		time.Sleep(999 * time.Millisecond)
		c.publish("q", "publishing is no use")
		assert.True(t, exists())
		time.Sleep(2 * time.Millisecond)
		assert.False(t, exists())
	})
}

func TestDeadLetters(t *testing.T) {
	inBubble(t, func(t *testing.T, b *Broker, c *testClient) {
		c.declare("dead", nil)
		c.exchange("dlx", "fanout", nil)
		c.bind("dead", "dlx", "", nil)
		c.declare("q", wire.Table{"x-dead-letter-exchange": "dlx", "x-max-length": int32(1)})
		death := func(reason string, more wire.Table) wire.Table {
			event := wire.Table{"count": int64(1), "reason": reason, "queue": "q", "exchange": "", "routing-keys": []any{"q"},
				"time": time.Now().Truncate(time.Second).UTC()}
			maps.Copy(event, more)
			return wire.Table{"x-first-death-exchange": "", "x-first-death-queue": "q", "x-first-death-reason": reason, "x-death": []any{event}}
		}
		check := func(body string, headers wire.Table) {
			t.Helper()
			synctest.Wait()
			r := c.get("dead")
			require.NotNil(t, r)
			assert.Equal(t, body, r.body)
			assert.Equal(t, headers, r.props.Headers)
			assert.Equal(t, "dlx", r.method.(*wire.BasicGetOk).Exchange)
			assert.Equal(t, "q", r.method.(*wire.BasicGetOk).RoutingKey)
			assert.Empty(t, r.props.Expiration)
		}
		c.publishWith("q", "expires", wire.Properties{Expiration: "100"})
		time.Sleep(101 * time.Millisecond)
		check("expires", death("expired", wire.Table{"original-expiration": "100"}))
		c.publish("q", "one")
		c.publish("q", "two")
		check("one", death("maxlen", nil))
		two := c.get("q")
		c.send(1, &wire.BasicReject{DeliveryTag: two.method.(*wire.BasicGetOk).DeliveryTag})
		check("two", death("rejected", nil))
	})
}

func TestDeadLetterCycles(t *testing.T) {
	inBubble(t, func(t *testing.T, b *Broker, c *testClient) {
		c.declare("self", wire.Table{"x-dead-letter-exchange": "", "x-message-ttl": int32(10)})
		c.publish("self", "x")
		time.Sleep(time.Second)
		assert.Equal(t, 0, readyIn(b, "self")) // nobody rejected it: it goes round once and is dropped

		c.declare("wait", wire.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work", "x-message-ttl": int32(10)})
		c.declare("work", wire.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "wait"})
		c.publish("work", "retry")
		for round := range 3 {
			r := c.get("work")
			require.NotNil(t, r)
			deaths, _ := r.props.Headers["x-death"].([]any)
			if round > 0 {
				require.Len(t, deaths, 2)
				assert.Equal(t, "wait", deaths[0].(wire.Table)["queue"])
				assert.Equal(t, int64(round), deaths[0].(wire.Table)["count"])
			}
			c.send(1, &wire.BasicReject{DeliveryTag: r.method.(*wire.BasicGetOk).DeliveryTag})
			time.Sleep(20 * time.Millisecond)
		}
	})
}

func TestHeartbeatIsSent(t *testing.T) {
	inBubble(t, func(t *testing.T, b *Broker, _ *testClient) {
		c := dialRaw(t, b)
		c.login("guest", "guest", "/", 10)
		start := time.Now()
		for range 3 {
			h, _, err := c.frame()
			require.NoError(t, err)
			require.Equal(t, wire.FrameHeartbeat, h.Type)
			c.write(wire.AppendHeartbeat(nil))
		}
		assert.InDelta(t, 15, time.Since(start).Seconds(), 5.1)
		_ = c.nc.Close()
	})
}

func TestHeartbeatIsMissed(t *testing.T) {
	inBubble(t, func(t *testing.T, b *Broker, _ *testClient) {
		c := dialRaw(t, b)
		c.login("guest", "guest", "/", 10)
		start := time.Now()
		require.ErrorIs(t, c.closed(), errReset)
		assert.InDelta(t, 22.5, time.Since(start).Seconds(), 2.6)
	}, WithLogger(nil))
}

func TestHeartbeatWhileBlocked(t *testing.T) {
	inBubble(t, func(t *testing.T, b *Broker, _ *testClient) {
		c := dialRaw(t, b)
		c.login("guest", "guest", "/", 10)
		c.openChannel(1)
		b.Block("alarm")
		c.publish("nowhere", "x")
		expect[*wire.ConnectionBlocked](c)
		time.Sleep(time.Hour) // the broker reads nothing, and blames nobody for silence
		b.Unblock()
		expect[*wire.ConnectionUnblocked](c)
		_ = c.nc.Close()
	})
}

func TestHandshakeTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, b *Broker, _ *testClient) {
		c := dialRaw(t, b)
		start := time.Now()
		require.ErrorIs(t, c.closed(), errReset)
		assert.Equal(t, handshakeTimeout, time.Since(start))
	})
}

func TestCloseTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, b *Broker, c *testClient) {
		start := time.Now()
		b.CloseConnections(320, "CONNECTION_FORCED - bye")
		expect[*wire.ConnectionClose](c)
		require.ErrorIs(t, c.closed(), errReset) // there was no close-ok
		assert.Equal(t, closeTimeout, time.Since(start))
	})
}

func TestConsumerTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, b *Broker, c *testClient) {
		c.declare("q", nil)
		c.consume("q", "me")
		c.publish("q", "a")
		c.deliveries(1)
		time.Sleep(600 * time.Millisecond)
		c.publish("q", "b")
		c.deliveries(1)
		c.send(1, &wire.BasicAck{DeliveryTag: 1})
		time.Sleep(600 * time.Millisecond)
		c.nothing()
		time.Sleep(600 * time.Millisecond)
		c.refused(406, "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1000 ms. "+
			"This timeout value can be configured, see consumers doc guide to learn more")
		assert.Equal(t, 1, readyIn(b, "q"))
	}, WithConsumerTimeout(time.Second))
}

func TestConsumerTimeoutInNewerVersions(t *testing.T) {
	inBubble(t, func(t *testing.T, b *Broker, c *testClient) {
		c.call(&wire.QueueDeclare{Queue: "q", Durable: true, Arguments: wire.Table{"x-queue-type": "quorum"}})
		c.call(&wire.QueueDeclare{Queue: "classic", Durable: true})
		c.consume("classic", "patient")
		c.publish("classic", "never late")
		c.deliveries(1)
		c.consume("q", "me", func(m *wire.BasicConsume) { m.Arguments = wire.Table{"x-consumer-timeout": int32(2000)} })
		c.publish("q", "late")
		c.deliveries(1)
		time.Sleep(2001 * time.Millisecond)
		assert.Equal(t, &wire.BasicCancel{ConsumerTag: "me", NoWait: true}, expect[*wire.BasicCancel](c))
		assert.Equal(t, 1, readyIn(b, "q"))
		c.send(1, &wire.BasicAck{DeliveryTag: 2}) // too late
		c.nothing()
		assert.Equal(t, 1, readyIn(b, "q"))
		time.Sleep(time.Hour)
		c.nothing()
		for _, answer := range []wire.Method{&wire.BasicCancelOk{ConsumerTag: "me"}, &wire.BasicCancel{ConsumerTag: "me", NoWait: true}} {
			c.send(1, answer)
			c.consume("q", "me", func(m *wire.BasicConsume) { m.Arguments = wire.Table{"x-consumer-timeout": int32(2000)} })
			c.deliveries(1)
			time.Sleep(2001 * time.Millisecond)
			expect[*wire.BasicCancel](c)
		}
		c.send(1, &wire.BasicConsume{Queue: "q", ConsumerTag: "me"}) // which is not free before
		c.refusedConnection(530, "NOT_ALLOWED - attempt to reuse consumer tag 'me'")
	}, WithVersion(V43))
}

func TestHookDelay(t *testing.T) {
	inBubble(t, func(t *testing.T, b *Broker, c *testClient) {
		b.On("queue.declare", func(*Event) Action { return Delay(3 * time.Second) })
		b.On("queue.declare-ok", func(*Event) Action { return Delay(4 * time.Second) })
		start := time.Now()
		c.declare("q", nil)
		assert.Equal(t, 7*time.Second, time.Since(start))
		c.send(1, &wire.QueueDeclare{Queue: "other"})
		synctest.Wait() // and Close does not wait for the delay
	})
}

func TestThroughputInBubble(t *testing.T) {
	inBubble(t, func(t *testing.T, b *Broker, c *testClient) {
		c.declare("q", nil)
		c.consume("q", "me", noAck)
		for i := range 1000 {
			c.publish("q", strconv.Itoa(i))
		}
		assert.Equal(t, "me:999", c.deliveries(1000)[999])
	})
}
