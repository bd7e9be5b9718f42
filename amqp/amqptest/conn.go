package amqptest

import (
	"crypto/tls"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// A conn is the broker's side of a connection: a goroutine that reads and does what it reads, and one that writes.
// Everything but the first group is guarded by the broker's lock.
type conn struct {
	broker *Broker
	id     uint64
	name   string   // "127.0.0.1:50000 -> 127.0.0.1:5672"
	raw    net.Conn // the socket itself
	nc     net.Conn // the socket, or TLS over it
	in     frameReader
	reads  atomic.Int64              // how often something came
	writes atomic.Int64              // how often something went out
	doing  [2]atomic.Pointer[string] // what keeps the reader and the writer, by direction
	gone   chan struct{}             // closed when dead is set

	stage            stage
	secret           func(response []byte) (string, bool) // judges the answer to connection.secure
	user             *user
	lastSecret       string
	vhost            *vhost
	clientProperties wire.Table
	channelMax       uint16
	frameMax         uint32
	heartbeat        time.Duration
	channels         map[uint16]*channel
	confirming       []*channel // have confirms to flush; the reader alone adds

	out       []byte // waits for the writer
	late      []byte // the same, but hooks have seen it
	spare     []byte // the writer's last buffer
	inflight  int    // bytes that the writer is writing
	crowded   bool   // a delivery was held back because out is full
	wakeup    sync.Cond
	blocked   bool // it has published under an alarm
	closing   bool // connection.close was sent or received: only its answer counts
	finishing bool // the writer closes the socket when it has written everything
	dead      bool // the socket is closed
	pulse     alarmClock
	lastReads int64
	lastWrite int64
	missed    int
	timeout   alarmClock // ends a handshake or a close that takes too long
}

const (
	outFull      = 512 << 10 // bytes that wait for a client before deliveries to it are held back
	outOverfull  = 8 << 20   // and before nothing more is read from it
	closeTimeout = 5 * time.Second
)

func newConn(b *Broker, raw net.Conn) *conn {
	c := &conn{broker: b, raw: raw, nc: raw, channels: map[uint16]*channel{}, gone: make(chan struct{}), frameMax: b.cfg.version.minFrameMax}
	c.name = raw.RemoteAddr().String() + " -> " + raw.LocalAddr().String()
	if b.cfg.tls != nil {
		c.nc = tls.Server(raw, b.cfg.tls)
	}
	c.in.source = c.nc
	c.wakeup.L = &b.mu
	c.pulse.init(b, c.beat)
	c.timeout.init(b, c.giveUp)
	return c
}

// send appends a method for the writer.
func (c *conn) send(channel uint16, m wire.Method) {
	out, err := wire.AppendMethod(c.out, channel, m)
	if err != nil {
		c.broker.logf("connection %s: %s can't be sent: %v", c.name, m.ID(), err)
		return
	}
	c.out = out
	c.wake()
}

func (c *conn) wake() { c.wakeup.Signal() }

// deliver appends a basic.deliver with its message.
func (c *conn) deliver(to *consumer, tag uint64, e *entry) {
	ch, m := to.channel, e.outgoing(to.queue, false)
	c.out = wire.AppendDeliver(c.out, ch.id, to.tag, tag, e.redelivered, m.exchange, m.key)
	c.out = m.appendContent(c.out, ch.id, c.frameMax)
	c.wake()
}

// getOk appends a basic.get-ok with its message.
func (c *conn) getOk(ch *channel, q *queue, e *entry) {
	m := e.outgoing(q, true)
	c.send(ch.id, &wire.BasicGetOk{DeliveryTag: ch.deliveryTag, Redelivered: e.redelivered,
		Exchange: m.exchange, RoutingKey: m.key, MessageCount: uint32(q.length)})
	c.out = m.appendContent(c.out, ch.id, c.frameMax)
}

// congested tells whether enough waits for the client already. Its queues are served again when the writer gets on.
func (c *conn) congested() bool {
	if len(c.out)+c.inflight < outFull {
		return false
	}
	c.crowded = true
	return true
}

// refuse closes the connection with the broker's reason. Its channels end at once; the client has a while to answer.
func (c *conn) refuse(e *exception) {
	if c.closing {
		return
	}
	c.broker.logf("connection %s: closed with %d %s", c.name, e.code, e.text)
	c.release()
	c.send(0, &wire.ConnectionClose{ReplyCode: e.code, ReplyText: clip(e.text), ClassID: e.method.Class(), MethodID: e.method.Method()})
	c.timeout.set(closeTimeout)
}

// release ends everything that the connection has: channels, consumers and exclusive queues.
func (c *conn) release() {
	if c.closing {
		return
	}
	c.closing = true
	c.pulse.stop()
	for _, id := range slices.Sorted(maps.Keys(c.channels)) {
		c.channels[id].release()
	}
	clear(c.channels)
	if c.vhost == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(c.vhost.queues)) {
		if q := c.vhost.queues[name]; q != nil && q.owner == c {
			c.vhost.deleteQueue(q)
		}
	}
}

// finish lets the writer close the socket when everything is written.
func (c *conn) finish() {
	c.finishing = true
	c.timeout.set(closeTimeout)
	c.wake()
}

// drop closes the socket without a word. A TCP client sees a reset.
func (c *conn) drop() {
	if c.dead {
		return
	}
	c.dead = true
	close(c.gone)
	switch raw := c.raw.(type) {
	case *memConn:
		raw.reset()
	case *net.TCPConn:
		_ = raw.SetLinger(0)
		_ = raw.Close()
	default:
		_ = raw.Close()
	}
	c.wakeup.Broadcast()
	c.broker.gate.Broadcast()
}

// giveUp drops a client that took too long. A broker that is stalled has no idea how late it is.
func (c *conn) giveUp() {
	if c.broker.stalled {
		c.timeout.set(closeTimeout)
		return
	}
	c.release()
	c.drop()
}

// capable tells whether the client said that it has a capability.
func (c *conn) capable(name string) bool {
	capabilities, _ := c.clientProperties["capabilities"].(wire.Table)
	has, _ := capabilities[name].(bool)
	return has
}

// beat runs twice per heartbeat interval: it sends a heartbeat when nothing was sent since the last time, and
// drops a client from which nothing came for two intervals. A client that the broker does not read from is not to blame.
func (c *conn) beat() {
	reads, writes := c.reads.Load(), c.writes.Load()
	switch {
	case reads != c.lastReads || c.broker.stalled || c.held():
		c.missed = 0
	default:
		c.missed++
	}
	if c.missed >= 4 {
		c.broker.logf("connection %s: missed heartbeats from client, timeout: %v", c.name, c.heartbeat)
		c.release()
		c.drop()
		return
	}
	if writes == c.lastWrite && !c.broker.stalled && len(c.out)+c.inflight == 0 {
		c.out = wire.AppendHeartbeat(c.out)
		c.wake()
		writes++ // the heartbeat itself is no reason to skip the next one
	}
	c.lastReads, c.lastWrite = reads, writes
	c.pulse.set(c.heartbeat / 2)
}

// connectionName is what the client calls itself, or the addresses.
func (c *conn) connectionName() string {
	if name, _ := c.clientProperties["connection_name"].(string); strings.TrimSpace(name) != "" {
		return name
	}
	return c.name
}
