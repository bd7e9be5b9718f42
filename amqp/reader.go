package amqp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// readLoop is the reader's goroutine: it gives each frame to the channel it
// belongs to, and everything that one read brought for a consumer to that
// consumer at once. It never waits for the application, with the one exception
// of holdBack. What it allocates is bounded by what has come: by 128 bytes for
// each byte received, and by trustSize for each channel, beside the buffers. Now
// and then a loop does this instead, see lead.
func (c *Conn) readLoop(context.Context) error {
	err := c.readFrames()
	if said := new(Error); errors.As(err, &said) {
		c.sayCloseOk()
		c.fail(said, said.method(), true)
		return nil
	}
	if errors.Is(err, ErrProtocol) || errors.Is(err, ErrMessageTooLarge) || errors.Is(err, ErrSlowConsumer) {
		c.sayWhy(err)
		c.fail(fmt.Errorf("%w: %w", ErrConnectionClosed, err), 0, true)
		return nil
	}
	if errors.Is(err, errGoodbye) {
		return nil
	}
	if w := c.failed.Load(); w != nil {
		err = fmt.Errorf("writing: %w", *w)
	} else if errors.Is(err, io.EOF) {
		err = fmt.Errorf("reading: %w: the broker or the network ended it without a word", io.ErrUnexpectedEOF)
	} else {
		err = fmt.Errorf("reading: %w", err)
	}
	c.fail(fmt.Errorf("%w: %w", ErrConnectionClosed, err), 0, false)
	return nil
}

// errGoodbye ends the reader when the broker has answered connection.close.
var errGoodbye = errors.New("goodbye")

func (c *Conn) readFrames() error {
	for {
		if err := c.takeFrames(); err != nil {
			return errors.Join(err, c.handOver())
		}
		if direct, err := c.readBody(); direct || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		if c.mayPutOff() {
			if n := c.in.fillMore(); n > 0 {
				c.putOff += n
				continue
			}
		}
		if err := c.handOver(); err != nil {
			return err
		}
		if c.giveWay && c.waiting.Load() == 0 {
			// Those who have messages now run before more is read. What piles up is out
			// of the cache when its turn comes, and the garbage collector goes through it
			// again and again: 10 connections with 10 consumers each take half the CPU.
			runtime.Gosched()
		}
		c.holdBack()
		if to := c.mayOffer(); to != nil {
			owed, err := c.offer(to)
			if err != nil {
				return err
			}
			if owed {
				continue
			}
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// takeFrames takes all frames that are whole.
func (c *Conn) takeFrames() error {
	for {
		ok, err := c.takeAlike()
		if !ok && err == nil {
			ok, err = c.takeFrame()
		}
		if !ok || err != nil {
			return err
		}
	}
}

// fill waits until more has come.
func (c *Conn) fill() error {
	if err := c.in.fill(); err != nil {
		return err
	}
	if c.in.calm == quietReads {
		c.bytes.Reset()
		c.deliveries.Reset()
		c.giveBack()
	}
	return nil
}

// takeFrame takes the next frame, if it is whole.
func (c *Conn) takeFrame() (ok bool, err error) {
	h, payload, ok, err := c.in.take()
	if err == nil && ok {
		err = c.onFrame(h, payload)
	}
	return ok, err
}

const (
	// handful is how many messages make waking a loop worth its while, which
	// costs as much as ten or twenty of them.
	handful = 32
	// putOffBytes is for how much more those who have less may wait.
	putOffBytes = 2 << 20
)

// mayPutOff tells whether handing over may wait for another read, if more is
// there: with a thousand consumers, one read brings each of them a message.
func (c *Conn) mayPutOff() bool {
	return c.putOff < putOffBytes && len(c.touched) > 1 && len(c.touched[0].batch) < handful
}

// giveBack lets go of memory that only pays while a lot is received.
func (c *Conn) giveBack() {
	c.bytes.Forget()
	c.in.reserve.Release()
}

// readBody reads a large body's frame, of which some is still in the socket,
// straight to where it belongs. In a flood a system call that brings several is
// worth more than a copy less.
func (c *Conn) readBody() (done bool, err error) {
	h, ok := c.in.peek()
	if !ok || h.Type != wire.FrameBody || h.Size < directSize || c.in.brimful && h.Size < floodBuffer {
		return false, nil
	}
	ch := c.find(h.Channel)
	if ch == nil || ch.closing.Load() {
		return false, nil
	}
	if err := c.handOver(); err != nil {
		return false, err
	}
	if err := ch.content.fits(int(h.Size)); err != nil {
		return false, err
	}
	c.holdBack()
	for come, left := c.in.partial(), int(h.Size); left > 0; {
		// The frame's header alone is not worth memory for all of it.
		to := ch.content.room(min(left, trustSize))
		n := copy(to, come)
		if _, err := io.ReadFull(countReads{c}, to[n:]); err != nil {
			return false, err
		}
		come = come[n:]
		ch.content.have += len(to)
		left -= len(to)
	}
	end, err := c.in.octet()
	if err == nil && end != wire.FrameEnd {
		err = protocolError("a body frame on channel %d ends with octet %#x instead of %#x", h.Channel, end, wire.FrameEnd)
	}
	if err != nil {
		return false, err
	}
	return true, ch.onBody(0)
}

// countReads shows the heartbeat that bytes of a large body come in.
type countReads struct{ c *Conn }

func (r countReads) Read(p []byte) (int, error) {
	n, err := r.c.nc.Read(p)
	r.c.in.count(n)
	return n, err
}

// find is the open channel of a number. Only the reader removes channels, so
// what it has seen once stays valid until it does.
func (c *Conn) find(id uint16) *Channel {
	if int(id) < len(c.known) && c.known[id] != nil {
		return c.known[id]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if int(id) >= len(c.channels) {
		return nil
	}
	for len(c.known) < len(c.channels) {
		c.known = append(c.known, nil)
	}
	c.known[id] = c.channels[id]
	return c.known[id]
}

func (c *Conn) onFrame(h wire.FrameHeader, payload []byte) error {
	if h.Channel == 0 {
		return c.onControl(h, payload)
	}
	ch := c.find(h.Channel)
	if ch == nil {
		return protocolError("the broker sent a frame of type %d on channel %d, which is not open", h.Type, h.Channel)
	}
	if ch.closing.Load() && h.Type != wire.FrameMethod {
		return nil
	}
	switch h.Type {
	case wire.FrameMethod:
		return ch.onMethod(payload)
	case wire.FrameContentHeader:
		return ch.onHeader(payload)
	case wire.FrameBody:
		if err := ch.content.fits(len(payload)); err != nil {
			return err
		}
		copy(ch.content.room(len(payload)), payload)
		return ch.onBody(len(payload))
	}
	return protocolError("the broker sent a frame of type %d on channel %d", h.Type, h.Channel)
}

// onControl handles what is said to the connection itself.
func (c *Conn) onControl(h wire.FrameHeader, payload []byte) error {
	switch h.Type {
	case wire.FrameHeartbeat:
		c.beats.Add(1)
		return nil
	case wire.FrameMethod:
	default:
		return protocolError("the broker sent a frame of type %d on channel 0", h.Type)
	}
	m, err := wire.DecodeMethod(payload)
	if err != nil {
		return protocolError("channel 0: %v", err)
	}
	switch m := m.(type) {
	case *wire.ConnectionClose:
		return connectionError(m)
	case *wire.ConnectionBlocked:
		c.setBlocked(blockedState{true, m.Reason})
		return nil
	case *wire.ConnectionUnblocked:
		c.setBlocked(blockedState{})
		return nil
	case *wire.ConnectionCloseOk:
		if err := c.answer(m, nil); err != nil {
			return err
		}
		return errGoodbye
	}
	return c.answer(m, nil)
}

// sayCloseOk answers connection.close.
func (c *Conn) sayCloseOk() {
	if buf, err := c.out.Begin(); err == nil {
		if buf, err := wire.AppendMethod(buf, 0, &wire.ConnectionCloseOk{}); err == nil {
			c.out.Commit(buf)
			return
		}
		c.out.Abort()
	}
}

// sayWhy tells the broker why the client hangs up.
func (c *Conn) sayWhy(err error) {
	code := SyntaxError
	switch {
	case errors.Is(err, ErrMessageTooLarge):
		code = ContentTooLarge
	case errors.Is(err, ErrSlowConsumer):
		code = ResourceError
	}
	buf, closed := c.out.Begin()
	if closed != nil {
		return
	}
	text := err.Error()
	m := &wire.ConnectionClose{ReplyCode: uint16(code), ReplyText: text[:min(len(text), maxShortString)]}
	if framed, err := wire.AppendMethod(buf, 0, m); err == nil {
		buf = framed
	}
	c.out.Commit(buf)
}

// handOver gives the consumers what has been read for them, and the ledgers
// their tags before that.
func (c *Conn) handOver() error {
	c.putOff, c.giveWay = 0, len(c.touched) > 1
	for i, ch := range c.tagged {
		ch.enterTags()
		c.tagged[i] = nil
	}
	c.tagged = c.tagged[:0]
	for i, cons := range c.touched {
		full, err := cons.handOver()
		if err != nil {
			return err
		}
		if full {
			c.full = cons
		}
		c.lead.fed = cons
		c.touched[i] = nil
	}
	c.touched = c.touched[:0]
	return nil
}

// holdBack stops reading while a consumer whose buffer only bytes bound has more
// of them than it may, so that TCP holds the broker back. It gives way while
// anybody waits for an answer, which could be the consumer's own handler, until
// the consumer is behind by more than unreadBound.
func (c *Conn) holdBack() {
	if c.full != nil && c.waiting.Load() > 0 {
		runtime.Gosched() // who has its answer by now, but has not run yet, waits no longer
	}
	for c.full != nil && c.full.full() && c.waiting.Load() == 0 && !c.closing.Load() {
		c.paused.Store(true)
		<-c.nudge
		c.paused.Store(false)
	}
	c.full = nil
}
