//go:build unix

package main

import (
	"fmt"
	"net"
	"testing"

	official "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// serveOne has a null broker in this process serve one connection.
func serveOne(t *testing.T, o orders) *Job {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		if nc, err := l.Accept(); err == nil {
			serveConn(nc)
		}
	}()
	t.Cleanup(func() {
		assert.NoError(t, l.Close())
		<-served
	})
	return &Job{Addr: l.Addr().String(), Vhost: o.vhost(), Connections: 1, Channels: 1}
}

// dialNull has the official client speak to the null broker.
func dialNull(t *testing.T, o orders) *official.Channel {
	t.Helper()
	c, err := dialOfficial(serveOne(t, o))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	ch, err := c.Channel()
	require.NoError(t, err)
	return ch
}

// The null broker is correct in every frame, or it would measure something else.
func TestNullBrokerDelivers(t *testing.T) {
	const count = 100
	for _, body := range []int{0, 16, frameMax - frameHead - 1, 1 << 20} {
		// Each with a connection of its own, as it sends no heartbeats.
		t.Run(fmt.Sprint(body, " bytes"), func(t *testing.T) {
			ch := dialNull(t, orders{body: body, props: true, count: count})
			deliveries, err := subscribe(&Job{NoAck: true}, ch, "q")
			require.NoError(t, err)
			for i := range uint64(count) {
				d := <-deliveries
				assert.Equal(t, i+1, d.DeliveryTag)
				assert.Len(t, d.Body, body)
				assert.Equal(t, contentType, d.ContentType)
				assert.Equal(t, tenant, d.Headers["tenant"])
				assert.Equal(t, attempt, d.Headers["attempt"])
				assert.NotEmpty(t, d.MessageId)
			}
		})
	}
}

// With a prefetch, no more comes than was acknowledged, in whatever order and
// by however many acks; and in all no more than was ordered.
func TestNullBrokerHeedsPrefetch(t *testing.T) {
	const prefetch = 10
	j := serveOne(t, orders{body: 16, honour: true, count: 3*prefetch - 1})
	j.Prefetch = prefetch
	conns, err := openRaw(j)
	require.NoError(t, err)
	c := conns[0]
	defer c.nc.Close()
	// take reads so many deliveries, and then past a round trip, before which
	// anything in excess would have come.
	take := func(want int) {
		t.Helper()
		for got := 0; ; {
			f, err := c.in.next()
			require.NoError(t, err)
			switch f.method() {
			case basicDeliver:
				got++
				require.LessOrEqual(t, got, want)
			case channelFlowOk:
				return
			}
			if f.kind == frameBody && got == want {
				_, err := c.nc.Write(appendMethod(nil, 1, channelFlow, uint8(1)))
				require.NoError(t, err)
			}
		}
	}
	ack := func(tag uint64, multiple bool) {
		t.Helper()
		_, err := c.nc.Write(appendAck(nil, 1, tag, multiple))
		require.NoError(t, err)
	}
	require.NoError(t, c.consume(j, "q"))
	take(prefetch)
	ack(10, true)
	take(prefetch)
	for _, tag := range []uint64{12, 14, 19, 13, 11, 20} {
		ack(tag, false)
	}
	ack(18, true)
	take(prefetch - 1)
}

// Each publish is confirmed once, also those that were held back.
func TestNullBrokerConfirms(t *testing.T) {
	const count = 1000
	for _, lag := range []int{0, 100} {
		t.Run(fmt.Sprint("lag ", lag), func(t *testing.T) {
			ch := dialNull(t, orders{lag: lag})
			require.NoError(t, ch.Confirm(false))
			confirms := ch.NotifyPublish(make(chan official.Confirmation, count))
			for range count {
				require.NoError(t, ch.PublishWithContext(t.Context(), "", "q", false, false, official.Publishing{Body: make([]byte, 100)}))
			}
			for i := range uint64(count) {
				assert.Equal(t, official.Confirmation{DeliveryTag: i + 1, Ack: true}, <-confirms)
			}
		})
	}
}

func TestNullLedgerRefusesASecondAck(t *testing.T) {
	var l nullLedger
	for _, step := range []struct {
		tag      uint64
		multiple bool
		settles  int
	}{{3, false, 1}, {1, false, 1}, {2, false, 1}, {6, false, 1}, {5, true, 2}} {
		n, err := l.settle(step.tag, step.multiple)
		require.NoError(t, err)
		assert.Equal(t, step.settles, n, step)
	}
	for tag := range uint64(7) {
		_, err := l.settle(tag, false)
		assert.Error(t, err, tag)
	}
}

// Each kind of the bound does its work to the end.
func TestTheBoundWorks(t *testing.T) {
	type work struct {
		kind     string
		channels int
	}
	all := []work{{"consume", 3}}
	for kind := range bounds {
		all = append(all, work{kind, 1})
	}
	for _, w := range all {
		t.Run(fmt.Sprint(w), func(t *testing.T) {
			do := bounds[w.kind]
			j := serveOne(t, orders{body: 16})
			j.Kind, j.Queue, j.Body, j.Goroutines, j.Window, j.Prefetch, j.Messages = w.kind, "bench", 16, 1, 100, -1, 1000
			j.Channels = w.channels
			require.True(t, boundDoes(j))
			m := newMeter(j)
			require.NoError(t, do(m))
			assert.GreaterOrEqual(t, m.result().Messages, int64(1000))
		})
	}
}
