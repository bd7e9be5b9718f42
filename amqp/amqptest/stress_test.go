package amqptest

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// TestNothingIsLost has publishers with confirms, and consumers that settle as they like, come and go:
// in the end every message has been acked exactly once.
func TestNothingIsLost(t *testing.T) {
	const publishers, each = 4, 300
	b := memoryBroker(t)
	dial(t, b).declare("q", nil)
	var mu sync.Mutex
	got := map[string]int{}
	var all sync.WaitGroup
	for p := range publishers {
		c := dial(t, b)
		all.Go(func() {
			c.call(&wire.ConfirmSelect{})
			for i := range each {
				c.publish("q", strconv.Itoa(p*each+i))
				if _, ok := c.receive().method.(*wire.BasicAck); !ok {
					t.Errorf("message %d was not confirmed", i)
				}
			}
		})
	}
	for worker := range 4 {
		random := rand.New(rand.NewPCG(1, uint64(worker)))
		all.Go(func() {
			for {
				mu.Lock()
				done := len(got) == publishers*each
				mu.Unlock()
				if done {
					return
				}
				work(t, b, random, func(body string) {
					mu.Lock()
					got[body]++
					mu.Unlock()
				})
			}
		})
	}
	all.Wait()
	assert.Len(t, got, publishers*each)
	for body, times := range got {
		assert.Equal(t, 1, times, body)
	}
	until(t, b, func() bool { return counts(b) == [2]int{} })
}

// work consumes some messages on a connection of its own, and then drops it or closes it.
func work(t *testing.T, b *Broker, random *rand.Rand, acked func(string)) {
	nc, err := b.Dial(t.Context(), "", "")
	if !assert.NoError(t, err) {
		return
	}
	c := &testClient{t: t, nc: nc, max: 131072, caps: allCapabilities}
	defer func() { _ = nc.Close() }()
	c.login("guest", "guest", "/", 0)
	c.openChannel(1)
	for range 50 {
		r := c.get("q")
		if r == nil {
			return
		}
		tag := r.method.(*wire.BasicGetOk).DeliveryTag
		switch random.IntN(4) {
		case 0:
			c.send(1, &wire.BasicNack{DeliveryTag: tag, Requeue: true})
		case 1:
			if random.IntN(5) == 0 {
				return // with the message in hand
			}
			fallthrough
		default:
			c.send(1, &wire.BasicAck{DeliveryTag: tag})
			c.nothing() // the broker has it
			acked(r.body)
		}
	}
}

func TestFaultsUnderLoad(t *testing.T) {
	b := memoryBroker(t)
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for worker := range 4 {
		clients.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				nc, err := b.Dial(t.Context(), "", "")
				if err != nil {
					return
				}
				hammer(nc, "q"+strconv.Itoa(worker%2))
				_ = nc.Close()
			}
		})
	}
	for range 200 {
		b.Block("load")
		b.Sever()
		b.Stall()
		b.CancelConsumers("q0")
		b.Resume()
		b.Unblock()
		b.CloseChannels(406, "PRECONDITION_FAILED - load")
		b.CloseConnections(320, "CONNECTION_FORCED - load")
		b.NackNext(3)
		b.Connections()
		b.Consumers()
	}
	close(stop)
	clients.Wait()
	b.Sever()
	until(t, b, func() bool { return len(b.Connections()) == 0 })
	c := dial(t, b)
	c.call(&wire.QueueDelete{Queue: "q0"})
	c.declare("q0", nil)
	c.nothing()
}

// hammer writes a conversation without reading the other half of it.
func hammer(nc interface{ Write([]byte) (int, error) }, queue string) {
	out := append([]byte(nil), wire.ProtocolHeader[:]...)
	add := func(channel uint16, m wire.Method) { out, _ = wire.AppendMethod(out, channel, m) }
	add(0, &wire.ConnectionStartOk{Mechanism: "PLAIN", Response: []byte("\x00guest\x00guest"), ClientProperties: wire.Table{"capabilities": allCapabilities}})
	add(0, &wire.ConnectionTuneOk{ChannelMax: 10, FrameMax: 4096, Heartbeat: 1})
	add(0, &wire.ConnectionOpen{VirtualHost: "/"})
	add(1, &wire.ChannelOpen{})
	add(1, &wire.QueueDeclare{Queue: queue})
	add(1, &wire.ConfirmSelect{})
	add(1, &wire.BasicConsume{Queue: queue})
	for tag := range uint64(20) {
		out = wire.AppendPublish(out, 1, "", queue, true, false)
		out, _ = wire.AppendContentHeader(out, 1, 1, nil)
		out = wire.AppendBody(out, 1, []byte("x"), 0)
		if tag%3 == 2 {
			add(1, &wire.BasicNack{DeliveryTag: tag, Requeue: true})
		}
	}
	_, _ = nc.Write(out)
}

// FuzzFrames sends whatever comes after a handshake: the broker must survive it and go on serving others.
func FuzzFrames(f *testing.F) {
	for _, m := range []wire.Method{&wire.QueueDeclare{Queue: "q", Arguments: wire.Table{"x-max-length": int32(1)}}, &wire.BasicConsume{Queue: "q"},
		&wire.BasicAck{DeliveryTag: 1, Multiple: true}, &wire.QueueBind{Queue: "q", Exchange: "amq.topic", RoutingKey: "#.*.#"},
		&wire.TxSelect{}, &wire.TxRollback{}, &wire.ChannelClose{}, &wire.ConnectionClose{}, &wire.BasicRecover{Requeue: true}} {
		seed, err := wire.AppendMethod(nil, 1, m)
		require.NoError(f, err)
		f.Add(seed)
	}
	publish, err := wire.AppendContentHeader(wire.AppendPublish(nil, 1, "", "q", true, false), 1, 3, &wire.Properties{Expiration: "1", ReplyTo: replyToName})
	require.NoError(f, err)
	f.Add(wire.AppendBody(publish, 1, []byte("abc"), 0))
	f.Add([]byte{1, 0, 1, 0xff, 0xff, 0xff, 0xff})
	b := NewBroker(InMemory())
	f.Cleanup(b.Close)
	f.Fuzz(func(t *testing.T, input []byte) {
		c := dial(t, b)
		c.declare("q", nil)
		_, _ = c.nc.Write(input)
		_ = c.nc.Close()
		until(t, b, func() bool { return len(b.Connections()) == 0 })
		c = dial(t, b)
		c.nothing()
		c.call(&wire.QueueDelete{Queue: "q"})
		_ = c.nc.Close()
		until(t, b, func() bool { return len(b.Connections()) == 0 })
	})
}
