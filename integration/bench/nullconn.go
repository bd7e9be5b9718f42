//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// nullConn is a connection at the null broker. One goroutine reads; deliveries
// have another.
type nullConn struct {
	orders
	nc net.Conn
	in *frames

	channels  []*nullChannel // by number; the reader's
	confirmed []*nullChannel // with confirms to send after this read
	lagging   bool           // some are held back
	credited  bool           // the deliverer may go on after this read

	writing sync.Mutex // held by who writes

	mu        sync.Mutex // guards what follows; taken inside writing
	pending   []byte     // replies
	consumers []*nullConsumer
	version   int           // of consumers
	changed   chan struct{} // capacity 1: consumers or their credit
	closed    bool
}

type nullChannel struct {
	id                  uint16
	confirming          bool
	published, answered uint64
	prefetch            int
	tag                 uint64 // of the last delivery; the deliverer's
	ledger              nullLedger
	consumer            *nullConsumer // the last one
}

// serveConn is the life of a connection.
func serveConn(nc net.Conn) {
	defer nc.Close()
	c := &nullConn{nc: nc, in: newFrames(nc), changed: make(chan struct{}, 1)}
	err := c.handshake()
	if err == nil {
		delivering := make(chan struct{})
		go func() {
			defer close(delivering)
			c.deliver()
		}()
		err = c.read()
		c.mu.Lock()
		c.closed = true
		c.mu.Unlock()
		c.touch()
		nc.Close()
		<-delivering
	}
	// A client may just hang up when its time is over.
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ECONNRESET) {
		fmt.Fprintln(os.Stderr, "null broker:", err)
	}
}

func (c *nullConn) handshake() error {
	header := make([]byte, len(protocolHeader))
	if _, err := io.ReadFull(c.nc, header); err != nil {
		return err
	}
	if string(header) != string(protocolHeader) {
		return fmt.Errorf("the client speaks %q", header)
	}
	steps := []struct {
		say  []byte
		hear methodID
	}{
		{appendMethod(nil, 0, connectionStart, uint8(0), uint8(9), table(nil), longString("PLAIN"), longString("en_US")), connectionStartOk},
		{appendMethod(nil, 0, connectionTune, uint16(2047), uint32(frameMax), uint16(60)), connectionTuneOk},
		{nil, connectionOpen},
	}
	for _, s := range steps {
		if _, err := c.nc.Write(s.say); err != nil {
			return err
		}
		f, err := c.in.next()
		if err != nil {
			return err
		}
		if f.method() != s.hear {
			return fmt.Errorf("the client sent method %#x in the handshake", f.method())
		}
		if s.hear == connectionOpen {
			a := args(f.payload[4:])
			if c.orders, err = parseOrders(a.shortStr()); err != nil {
				return err
			}
		}
	}
	_, err := c.nc.Write(appendMethod(nil, 0, connectionOpenOk, ""))
	return err
}

// read handles what comes, and answers all publishes of one read by one ack.
func (c *nullConn) read() error {
	for {
		f, ok, err := c.in.take()
		if err != nil {
			return err
		}
		if ok {
			if f.kind == frameMethod {
				if err := c.onMethod(&f); err != nil {
					return err
				}
			}
			continue
		}
		c.confirm(uint64(c.lag))
		if c.credited {
			c.credited = false
			c.touch()
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// quiet is how long a client that lags behind its confirms has to send nothing
// to get all of them.
const quiet = 2 * time.Millisecond

func (c *nullConn) fill() error {
	if !c.lagging {
		return c.in.fill()
	}
	if err := c.nc.SetReadDeadline(time.Now().Add(quiet)); err != nil {
		return err
	}
	err := c.in.fill()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.lagging = false
		for _, ch := range c.channels {
			if ch != nil && ch.answered < ch.published {
				c.confirmed = append(c.confirmed, ch)
			}
		}
		c.confirm(0)
		err = nil
	}
	return errors.Join(err, c.nc.SetReadDeadline(time.Time{}))
}

// confirm answers what was published, but for the last so many of a channel.
func (c *nullConn) confirm(but uint64) {
	if len(c.confirmed) == 0 {
		return
	}
	c.mu.Lock()
	for _, ch := range c.confirmed {
		if ch.published > ch.answered+but {
			ch.answered = ch.published - but
			c.pending = appendMethod(c.pending, ch.id, basicAck, ch.answered, uint8(1))
		}
		c.lagging = c.lagging || ch.published > ch.answered
	}
	c.mu.Unlock()
	c.confirmed = c.confirmed[:0]
	c.flush()
}

func (c *nullConn) channel(id uint16) *nullChannel {
	for len(c.channels) <= int(id) {
		c.channels = append(c.channels, nil)
	}
	if c.channels[id] == nil {
		c.channels[id] = &nullChannel{id: id}
	}
	return c.channels[id]
}

// onMethod has the hot ones first.
func (c *nullConn) onMethod(f *frame) error {
	ch := c.channel(f.channel)
	switch f.method() {
	case basicPublish:
		if !ch.confirming {
			return nil
		}
		if ch.published++; len(c.confirmed) == 0 || c.confirmed[len(c.confirmed)-1] != ch {
			c.confirmed = append(c.confirmed, ch)
		}
		return nil
	case basicAck, basicNack, basicReject:
		if c.honour {
			return c.settled(ch, f)
		}
		return nil
	}
	return c.onCall(ch, f)
}

// onCall answers a method.
func (c *nullConn) onCall(ch *nullChannel, f *frame) error {
	a := args(f.payload[4:])
	var reply methodID
	var say []any
	switch id := f.method(); id {
	case channelOpen:
		reply, say = channelOpenOk, []any{longString(nil)}
	case channelFlow:
		reply, say = channelFlowOk, []any{a.octet()}
	case queueDeclare:
		a.short()
		reply, say = queueDeclareOk, []any{a.shortStr(), uint32(0), uint32(0)}
	case confirmSelect:
		ch.confirming = true
		reply = confirmSelectOk
	case basicQos:
		a.long()
		ch.prefetch = int(a.short())
		reply = basicQosOk
	case basicConsume:
		a.short()
		a.shortStr()
		tag, flags := a.shortStr(), a.octet()
		const noAck, noWait = 2, 8
		if flags&noWait != 0 || tag == "" {
			return errors.New("the null broker wants a consumer tag, and to answer")
		}
		c.say(ch.id, basicConsumeOk, tag)
		ch.consumer = &nullConsumer{ch: ch, tag: tag, limited: c.honour && flags&noAck == 0 && ch.prefetch > 0, credit: ch.prefetch}
		c.add(ch.consumer)
		return nil
	case basicCancel:
		tag := a.shortStr()
		c.drop(func(n *nullConsumer) bool { return n.ch == ch && n.tag == tag })
		reply, say = basicCancelOk, []any{tag}
	case channelClose:
		c.drop(func(n *nullConsumer) bool { return n.ch == ch })
		c.channels[ch.id] = nil
		reply = channelCloseOk
	case connectionClose:
		c.drop(func(*nullConsumer) bool { return true })
		reply = connectionCloseOk
	case connectionCloseOk:
		return io.EOF
	default:
		return fmt.Errorf("the client sent method %d.%d, which the null broker does not know", id>>16, id&0xFFFF)
	}
	c.say(ch.id, reply, say...)
	return nil
}

// say sends a method. It does not wait for a delivery that is being written,
// since the client may not read before this goroutine does.
func (c *nullConn) say(channel uint16, id methodID, say ...any) {
	c.mu.Lock()
	c.pending = appendMethod(c.pending, channel, id, say...)
	c.mu.Unlock()
	c.flush()
}

// flush writes what is pending, unless somebody who writes will.
func (c *nullConn) flush() {
	for {
		c.mu.Lock()
		empty := len(c.pending) == 0
		c.mu.Unlock()
		if empty || !c.writing.TryLock() {
			return
		}
		c.mu.Lock()
		out := c.pending
		c.pending = nil
		c.mu.Unlock()
		_, _ = c.nc.Write(out) // a failure is met by the reader
		c.writing.Unlock()
	}
}
