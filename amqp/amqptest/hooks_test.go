package amqptest

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

func always(a Action) func(*Event) Action { return func(*Event) Action { return a } }

// once acts on the first event alone.
func once(a Action) func(*Event) Action {
	done := false
	return func(*Event) Action {
		if done {
			return Pass()
		}
		done = true
		return a
	}
}

func TestHooksObserve(t *testing.T) {
	b := memoryBroker(t)
	events := make(chan Event, 100)
	remove := b.On("*", func(e *Event) Action { events <- *e; return Pass() })
	c := dial(t, b)
	c.declare("q", wire.Table{"x-max-length": int32(3)})
	c.publishOn(1, wire.BasicPublish{RoutingKey: "q", Mandatory: true}, &wire.Properties{MessageID: "id", Headers: wire.Table{"n": wire.Table{}}}, "body")
	c.consume("q", "me")
	c.deliveries(1)
	remove()
	c.nothing()
	close(events)
	var names []string
	byName := map[string]Event{}
	for e := range events {
		names = append(names, e.Method)
		byName[e.Method] = e
	}
	assert.Equal(t, []string{"connection.start", "connection.start-ok", "connection.tune", "connection.tune-ok", "connection.open", "connection.open-ok",
		"channel.open", "channel.open-ok", "queue.declare", "queue.declare-ok", "basic.publish", "basic.consume", "basic.consume-ok", "basic.deliver"}, names)
	declare := byName["queue.declare"]
	assert.Equal(t, ToBroker, declare.Direction)
	assert.Equal(t, t.Name(), declare.Connection)
	assert.Equal(t, "guest", declare.User)
	assert.Equal(t, "/", declare.VHost)
	assert.Equal(t, uint16(1), declare.Channel)
	assert.Equal(t, "q", declare.Field("queue"))
	assert.Equal(t, map[string]any{"x-max-length": int32(3)}, declare.Field("arguments"))
	assert.Nil(t, declare.Field("nothing"))
	publish := byName["basic.publish"]
	assert.Equal(t, true, publish.Field("mandatory"))
	want := &Message{RoutingKey: "q", Properties: Properties{MessageID: "id", Headers: map[string]any{"n": map[string]any{}}}, Body: []byte("body")}
	assert.Equal(t, want, publish.Message)
	deliver := byName["basic.deliver"]
	assert.Equal(t, ToClient, deliver.Direction)
	assert.Equal(t, want, deliver.Message)
	assert.Equal(t, uint64(1), deliver.Field("delivery-tag"))
}

func TestHooksOnRequests(t *testing.T) {
	t.Run("drop", func(t *testing.T) {
		b := memoryBroker(t)
		b.On("basic.publish", once(Drop()))
		c := dial(t, b)
		c.declare("q", nil)
		c.publish("q", "lost")
		c.publish("q", "kept")
		assert.Equal(t, []string{"kept"}, c.bodies("q"))
	})
	t.Run("refuse", func(t *testing.T) {
		b := memoryBroker(t)
		b.On("queue.declare", once(CloseChannel(406, "PRECONDITION_FAILED - says the hook")))
		c := dial(t, b)
		c.send(1, &wire.QueueDeclare{Queue: "q"})
		m := expect[*wire.ChannelClose](c)
		assert.Equal(t, &wire.ChannelClose{ReplyCode: 406, ReplyText: "PRECONDITION_FAILED - says the hook", ClassID: 50, MethodID: 10}, m)
		c.send(1, &wire.ChannelCloseOk{})
		c.openChannel(1)
		c.declare("q", nil)
	})
	t.Run("close", func(t *testing.T) {
		b := memoryBroker(t)
		b.On("connection.open", always(CloseConnection(530, "NOT_ALLOWED - node is full")))
		c := dialRaw(t, b)
		c.startOk("guest", "guest")
		expect[*wire.ConnectionTune](c)
		c.send(0, &wire.ConnectionTuneOk{ChannelMax: 1, FrameMax: 4096})
		c.send(0, &wire.ConnectionOpen{VirtualHost: "/"})
		c.refusedConnection(530, "NOT_ALLOWED - node is full")
	})
	t.Run("sever", func(t *testing.T) {
		b := memoryBroker(t)
		b.On("basic.publish", always(Sever()))
		c := dial(t, b)
		c.publish("q", "x")
		require.ErrorIs(t, c.closed(), errReset)
	})
	t.Run("answer wrongly", func(t *testing.T) {
		b := memoryBroker(t)
		b.On("queue.declare", always(Reply(MethodFrame(1, 60, 72, []byte{0})))) // get-empty
		c := dial(t, b)
		assert.Equal(t, &wire.BasicGetEmpty{}, c.call(&wire.QueueDeclare{Queue: "q"}))
	})
}

func TestHooksOnAnswers(t *testing.T) {
	t.Run("drop with the message", func(t *testing.T) {
		b := memoryBroker(t)
		b.On("basic.deliver", once(Drop()))
		c := dial(t, b)
		c.declare("q", nil)
		c.consume("q", "me")
		c.publish("q", "lost on the way")
		c.publish("q", "arrived")
		assert.Equal(t, []string{"me:arrived"}, c.deliveries(1))
		assert.Equal(t, 2, b.Consumers()[0].Unacked)
	})
	t.Run("replace", func(t *testing.T) {
		b := memoryBroker(t)
		b.On("basic.ack", always(Reply(wire.AppendNack(nil, 1, 1, false, false))))
		c := dial(t, b)
		c.call(&wire.ConfirmSelect{})
		c.publish("q", "x")
		expect[*wire.BasicNack](c)
	})
	t.Run("cut in the middle of a frame", func(t *testing.T) {
		b := memoryBroker(t)
		b.On("basic.ack", always(Cut(5)))
		c := dial(t, b)
		c.call(&wire.ConfirmSelect{})
		c.publish("q", "x")
		_, err := c.next()
		require.ErrorIs(t, err, io.EOF)
		assert.Equal(t, []byte{1, 0, 1, 0, 0}, c.buf)
	})
	t.Run("sever", func(t *testing.T) {
		b := memoryBroker(t)
		b.On("connection.tune", always(Sever()))
		c := dialRaw(t, b)
		c.startOk("guest", "guest")
		require.ErrorIs(t, c.closed(), errReset)
	})
	t.Run("refuse", func(t *testing.T) {
		b := memoryBroker(t)
		b.On("basic.consume-ok", always(CloseChannel(404, "NOT_FOUND - gone in the meantime")))
		c := dial(t, b)
		c.declare("q", nil)
		c.send(1, &wire.BasicConsume{Queue: "q"})
		c.refused(404, "NOT_FOUND - gone in the meantime")
	})
}

func TestHooksLater(t *testing.T) {
	inBubble(t, func(t *testing.T, b *Broker, c *testClient) {
		c.declare("q", nil)
		c.call(&wire.ConfirmSelect{})
		start := time.Now()
		remove := b.On("basic.ack", func(*Event) Action { return Later(time.Second) })
		c.publish("q", "confirmed late")
		c.nothing() // and the rest goes on
		assert.Equal(t, time.Now(), start)
		assert.Equal(t, &wire.BasicAck{DeliveryTag: 1}, expect[*wire.BasicAck](c))
		assert.Equal(t, time.Second, time.Since(start))
		remove()
		b.On("basic.publish", once(Later(time.Second)))
		c.publish("q", "first")
		c.publish("q", "second")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		var order []string
		for _, m := range b.Messages("q") {
			order = append(order, string(m.Body))
		}
		assert.Equal(t, []string{"confirmed late", "second", "first"}, order)
		b.On("queue.declare", always(Later(time.Hour))) // and Close does not wait for it
		c.send(1, &wire.QueueDeclare{Queue: "other"})
	})
}

// A message that is let go later is confirmed then, though nothing else comes that the confirm could go out with.
func TestHooksLaterConfirm(t *testing.T) {
	inBubble(t, func(t *testing.T, b *Broker, c *testClient) {
		c.declare("q", nil)
		c.call(&wire.ConfirmSelect{})
		b.On("basic.publish", func(*Event) Action { return Later(time.Second) })
		start := time.Now()
		c.publish("q", "late")
		assert.Equal(t, &wire.BasicAck{DeliveryTag: 1}, expect[*wire.BasicAck](c))
		assert.Equal(t, time.Second, time.Since(start))
		for range 100 { // at the very moment at which the reader has something else to do
			c.publish("q", "late")
			time.Sleep(time.Second)
			c.send(1, &wire.BasicQos{})
			var got []string
			for range 2 {
				got = append(got, c.receive().method.ID().String())
			}
			require.ElementsMatch(t, []string{"basic.ack", "basic.qos-ok"}, got)
		}
	})
}

func TestHooksOnHeartbeats(t *testing.T) {
	inBubble(t, func(t *testing.T, b *Broker, _ *testClient) {
		c := dialRaw(t, b)
		c.login("guest", "guest", "/", 10)
		var sent, got int
		b.On("heartbeat", func(e *Event) Action {
			assert.Nil(t, e.Field("anything"))
			if e.Direction == ToBroker {
				got++
				return Pass()
			}
			sent++
			return Drop()
		})
		for range 4 {
			c.write(wire.AppendHeartbeat(nil))
			time.Sleep(5 * time.Second)
		}
		synctest.Wait()
		assert.Empty(t, b.Queues())
		assert.Equal(t, 4, got)
		assert.GreaterOrEqual(t, sent, 3)
		_ = c.nc.SetReadDeadline(time.Now())
		_, _, err := c.frame()
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		_ = c.nc.Close()
		synctest.Wait()
	})
}

func TestHookMayUseTheBroker(t *testing.T) {
	b := memoryBroker(t)
	seen := make(chan int, 1)
	b.On("queue.declare-ok", func(*Event) Action {
		seen <- len(b.Queues())
		b.Block("from the hook")
		return Pass()
	})
	c := dial(t, b)
	c.declare("q", nil)
	assert.Equal(t, 1, <-seen)
}

func TestUnknownMethodInHook(t *testing.T) {
	assert.PanicsWithValue(t, `amqptest: there is no method "basic.deliverr"`, func() { memoryBroker(t).On("basic.deliverr", always(Drop())) })
}

// TestCloseSaysWhatItWaitsFor has a hook that does not come back.
func TestCloseSaysWhatItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b := NewBroker(InMemory(), WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		stop := make(chan struct{})
		b.On("queue.declare", func(*Event) Action { <-stop; return Pass() })
		c := dial(t, b)
		c.send(1, &wire.QueueDeclare{Queue: "q"})
		synctest.Wait()
		closed := make(chan struct{})
		go func() { b.Close(); close(closed) }()
		time.Sleep(closePatience + time.Second)
		synctest.Wait()
		assert.Contains(t, log.String(), "Close still waits, for connection client-1 -> amqptest (TestCloseSaysWhatItWaitsFor): a hook on queue.declare")
		close(stop)
		<-closed
	})
}

// lateToClose still takes bytes for a while after Close was called.
type lateToClose struct{ net.Conn }

func (c *lateToClose) Close() error {
	time.Sleep(time.Second)
	return c.Conn.Close()
}

func TestFaultyConn(t *testing.T) {
	faulty := func(t *testing.T, b *Broker, faults ConnFaults) (*testClient, *FaultyConn) {
		nc, err := b.Dial(t.Context(), "", "")
		require.NoError(t, err)
		f := Faulty(nc, faults)
		return newClient(t, f), f
	}
	t.Run("every byte alone", func(t *testing.T) {
		b := memoryBroker(t)
		c, _ := faulty(t, b, ConnFaults{ReadChunk: 1, WriteChunk: 1})
		c.login("guest", "guest", "/", 0)
		c.openChannel(1)
		c.declare("q", nil)
		c.publish("q", "in pieces")
		assert.Equal(t, []string{"in pieces"}, c.bodies("q"))
	})
	t.Run("cut after reading", func(t *testing.T) {
		b := memoryBroker(t)
		c, _ := faulty(t, b, ConnFaults{CutAfterRead: 20})
		c.write(wire.ProtocolHeader[:])
		got, err := io.ReadAll(c.nc)
		require.ErrorIs(t, err, errReset)
		assert.Len(t, got, 20)
	})
	t.Run("cut after writing", func(t *testing.T) {
		b := memoryBroker(t)
		c, _ := faulty(t, b, ConnFaults{CutAfterWrite: 10})
		n, err := c.nc.Write(make([]byte, 15))
		require.ErrorIs(t, err, errReset)
		assert.Equal(t, 10, n)
	})
	t.Run("stall", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := NewBroker(InMemory())
			c, f := faulty(t, b, ConnFaults{})
			f.StallWrites()
			require.NoError(t, f.SetWriteDeadline(time.Now().Add(time.Second)))
			start := time.Now()
			_, err := f.Write(wire.ProtocolHeader[:])
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			assert.Equal(t, time.Second, time.Since(start))
			require.NoError(t, f.SetWriteDeadline(time.Time{}))
			go func() {
				time.Sleep(time.Second)
				f.ResumeWrites()
			}()
			c.write(wire.ProtocolHeader[:])
			expect[*wire.ConnectionStart](c)
			f.StallWrites()
			go func() {
				time.Sleep(time.Second)
				_ = f.Close()
			}()
			_, err = f.Write([]byte("x"))
			require.ErrorIs(t, err, net.ErrClosed)
			b.Close()
		})
	})
	t.Run("closed while stalled", func(t *testing.T) {
		stalledWrite(t, func(f *FaultyConn) { _ = f.Close() })
	})
	t.Run("closed while stalled, and resumed", func(t *testing.T) {
		stalledWrite(t, func(f *FaultyConn) { // Close and ResumeWrites, before the Write has its turn
			f.mu.Lock()
			f.closed, f.stalled = true, false
			f.changed.Broadcast()
			f.mu.Unlock()
		})
	})
}

// stalledWrite has a Write wait while the connection is closed, of which the one below does not know yet.
func stalledWrite(t *testing.T, closing func(*FaultyConn)) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBroker(InMemory())
		nc, err := b.Dial(t.Context(), "", "")
		require.NoError(t, err)
		f := Faulty(&lateToClose{nc}, ConnFaults{})
		f.StallWrites()
		var write sync.WaitGroup
		write.Go(func() {
			_, err := f.Write(wire.ProtocolHeader[:])
			assert.ErrorIs(t, err, net.ErrClosed, "nothing may pass after Close")
		})
		synctest.Wait()
		closing(f)
		write.Wait()
		_ = f.Close()
		b.Close()
	})
}
