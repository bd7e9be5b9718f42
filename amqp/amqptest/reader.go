package amqptest

import (
	"bytes"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// A request is what a client wants: a method, or a publication, or a heartbeat that wants nothing.
type request struct {
	channel     uint16
	method      wire.Method // nil for a publication, and for a heartbeat
	publication publication
	late        bool // a hook has put it off
}

// read serves the client until the connection ends, however that comes.
func (c *conn) read() {
	if !c.greet() {
		return
	}
	for {
		f, ok, e := c.in.next(c.inboundFrameMax())
		switch {
		case e != nil:
			c.broker.lock()
			c.broken(e)
			c.broker.unlock()
			c.in.start = c.in.end // there is no telling where the next frame begins; an answer comes in a read of its own
		case !ok:
			c.flush()
			if c.in.fill() != nil {
				return
			}
			c.reads.Add(1)
		default:
			if !c.take(f) {
				return
			}
		}
	}
}

// inboundFrameMax is the reader's own copy of what has been agreed: only the reader changes it.
func (c *conn) inboundFrameMax() uint32 { return c.frameMax }

// greet reads the protocol header. To a wrong one the broker answers with the right one and hangs up.
func (c *conn) greet() bool {
	want := wire.ProtocolHeader
	for c.in.end < len(want) {
		if c.in.fill() != nil {
			return false
		}
	}
	c.reads.Add(1)
	c.broker.lock()
	defer c.broker.unlock()
	c.hold()
	if !bytes.Equal(c.in.buf[:len(want)], want[:]) {
		c.out = append(c.out, want[:]...)
		c.finish()
		return false
	}
	c.in.start += len(want)
	c.start()
	return true
}

// flush sends the confirms that are due, before the reader waits for more.
func (c *conn) flush() {
	if len(c.confirming) == 0 {
		return
	}
	c.broker.lock()
	for _, ch := range c.confirming {
		if !ch.closing {
			ch.flushConfirms()
		}
	}
	c.confirming = c.confirming[:0]
	c.broker.unlock()
}

// take handles one frame. It returns false when there is nothing more to read.
func (c *conn) take(f frame) (more bool) {
	b := c.broker
	b.lock()
	c.hold()
	req, ok, e := c.assemble(f)
	if e != nil {
		c.broken(e)
	}
	if ok && !c.dead {
		if hooks := b.hooks; len(hooks) > 0 {
			b.unlock()
			c.hooked(hooks, req)
			b.lock()
		} else {
			c.perform(req)
		}
	}
	more = !c.dead && !c.finishing
	b.unlock()
	return more
}

// broken refuses what a frame says. Before connection.open the broker says nothing, and hangs up.
func (c *conn) broken(e *exception) {
	if c.stage == running || e.code == unexpectedFrame {
		c.refuse(e)
		return
	}
	c.hangUp(e)
}

// hangUp drops a client that has not got through the handshake.
func (c *conn) hangUp(e *exception) {
	c.broker.logf("connection %s: dropped in the handshake: %s", c.name, e.text)
	c.release()
	c.drop()
}

// assemble turns frames into requests.
func (c *conn) assemble(f frame) (req request, ok bool, e *exception) {
	f.maxMessage = c.broker.cfg.maxMessage
	req.channel = f.channel
	switch f.typ {
	case wire.FrameHeartbeat:
		switch {
		case len(f.payload) != 0:
			return req, false, fail(frameError, "type %d, %s: unknown_frame", f.typ, octets(f.payload))
		case f.channel != 0:
			return req, false, fail(unexpectedFrame, "type %d, %s", f.typ, octets(f.payload))
		}
		return req, true, nil // for hooks alone
	case wire.FrameMethod, wire.FrameContentHeader, wire.FrameBody:
	default:
		return req, false, fail(frameError, "type %d, %s: unknown_frame", f.typ, octets(f.payload))
	}
	if f.channel == 0 {
		if f.typ != wire.FrameMethod {
			return req, false, fail(unexpectedFrame, "expected method frame, got non method frame instead")
		}
		req.method, e = decodeMethod(f.payload)
		return req, e == nil, e
	}
	if c.closing {
		return req, false, nil
	}
	if c.stage != running {
		return req, false, fail(unexpectedFrame, "type %d, %s", f.typ, octets(f.payload))
	}
	ch := c.channels[f.channel]
	switch {
	case ch == nil:
		req.method, e = c.channelless(f)
		return req, e == nil, e
	case ch.closing:
		req.method, ok = closingMethod(f)
		return req, ok, nil
	}
	if f.typ == wire.FrameContentHeader && c.broker.alarmed {
		c.block()
	}
	if req.method, e = ch.assembly.feed(f); e != nil {
		return c.assemblyFailed(ch, req, e)
	}
	if req.method == nil && ch.assembly.stage != complete {
		return req, false, nil
	}
	if req.method == nil {
		req.publication = ch.assembly.take()
	}
	return req, true, nil
}

// assemblyFailed closes the channel alone when that is enough.
func (c *conn) assemblyFailed(ch *channel, req request, e *exception) (request, bool, *exception) {
	if e.hard() {
		return req, false, e
	}
	ch.refuse(e)
	return req, false, nil
}

// channelless reads a method for a channel that is not open: it has to open it.
func (c *conn) channelless(f frame) (wire.Method, *exception) {
	if f.typ != wire.FrameMethod {
		return nil, fail(unexpectedFrame, "expected method frame, got non method frame instead")
	}
	m, e := decodeMethod(f.payload)
	if e != nil {
		return nil, e
	}
	switch m.(type) {
	case *wire.ChannelOpen, *wire.ChannelCloseOk:
		return m, nil
	}
	e = fail(channelError, "expected 'channel.open'")
	e.method = m.ID()
	return nil, e
}

// closingMethod picks what still counts after the broker has closed a channel.
func closingMethod(f frame) (wire.Method, bool) {
	if f.typ != wire.FrameMethod {
		return nil, false
	}
	m, err := wire.DecodeMethod(f.payload)
	if err != nil {
		return nil, false
	}
	switch m.(type) {
	case *wire.ChannelClose, *wire.ChannelCloseOk:
		return m, true
	}
	return nil, false
}
