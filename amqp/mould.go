package amqp

import (
	"bytes"
	"encoding/binary"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// mould is what the next small message of a channel looks like, from its method
// frame to where the body begins, if it is like the last one; and what it means.
// Most are, and to see that at a glance instead of parsing them saves a third of
// what consuming costs.
type mould struct {
	bytes  []byte // up to the body, with the tag that comes next
	end    int    // of the body, where the frame's end is
	tagAt  int    // delivery tag, and the octet with the redelivered bit
	sizeAt int    // body size in the content header; that of the body's frame ends bytes
	most   uint64 // bytes of body

	consumer *Consumer
	roster   uint32 // of the channel, when consumer was found
	like     delivery
}

const (
	tagSize   = 8 + 1 // with the redelivered bit
	frameSize = 4     // how a frame's header ends
)

// cast makes the mould from b, which begins with a delivery whose method frame
// and header frame are so long, and which has been understood to be d.
func (m *mould) cast(b []byte, method, header int, most uint64, d *delivery) {
	m.bytes = append(m.bytes[:0], b[:method+header+wire.FrameHeaderSize]...)
	m.tagAt = wire.FrameHeaderSize + 4 + 1 + len(d.ConsumerTag)
	m.sizeAt = method + wire.FrameHeaderSize + headerFixed - 8
	m.most = most
	m.consumer, m.roster = d.channel.consumer, d.channel.seen
	m.like = *d
	m.like.data = nil
	m.foresee(b, d.DeliveryTag, len(m.bytes)+int(d.size))
}

// fits is where the body of the message begins and ends that b begins with, if
// that is whole and out of the mould; else both are 0.
func (m *mould) fits(b []byte) (bodyAt, end int) {
	bodyAt, end = len(m.bytes), m.end
	if len(b) <= end || b[end] != wire.FrameEnd || string(b[:bodyAt]) != string(m.bytes) {
		return m.nearly(b)
	}
	return bodyAt, end
}

// nearly is fits for a message with another tag than the next, or another size.
func (m *mould) nearly(b []byte) (bodyAt, end int) {
	bodyAt = len(m.bytes)
	if len(b) < bodyAt ||
		!bytes.Equal(b[m.tagAt+tagSize:m.sizeAt], m.bytes[m.tagAt+tagSize:m.sizeAt]) || // where most differ that do
		!bytes.Equal(b[m.sizeAt+8:bodyAt-frameSize], m.bytes[m.sizeAt+8:bodyAt-frameSize]) ||
		!bytes.Equal(b[:m.tagAt], m.bytes[:m.tagAt]) {
		return 0, 0
	}
	size := binary.BigEndian.Uint64(b[m.sizeAt:])
	if size == 0 || size > m.most || size != uint64(binary.BigEndian.Uint32(b[bodyAt-frameSize:])) {
		return 0, 0
	}
	end = bodyAt + int(size) // #nosec G115 -- most is small
	if len(b) <= end || b[end] != wire.FrameEnd {
		return 0, 0
	}
	return bodyAt, end
}

// foresee expects the message after the one that b begins with.
func (m *mould) foresee(b []byte, tag uint64, end int) {
	if end != m.end {
		copy(m.bytes[m.sizeAt:], b[m.sizeAt:len(m.bytes)])
		m.end = end
	}
	m.bytes[m.tagAt+tagSize-1] = b[m.tagAt+tagSize-1]
	binary.BigEndian.PutUint64(m.bytes[m.tagAt:], tag+1)
}

// takeAlike takes the next message if it is out of the mould of its channel's last
// one. It leaves anything else, and all that is wrong, to the frame by frame way.
func (c *Conn) takeAlike() (ok bool, err error) {
	b := c.in.buf[c.in.r:c.in.w]
	if len(b) < wire.FrameHeaderSize {
		return false, nil
	}
	id := int(binary.BigEndian.Uint16(b[1:]))
	if id >= len(c.known) || c.known[id] == nil || c.known[id].content.mould == nil {
		return false, nil
	}
	ch := c.known[id]
	m := ch.content.mould
	bodyAt, end := m.fits(b)
	if end == 0 || ch.closing.Load() || ch.roster.Load() != m.roster || !ch.content.idle() {
		return false, nil
	}
	tag := binary.BigEndian.Uint64(b[m.tagAt:])
	if !m.consumer.direct {
		if err := ch.enterTag(tag, m.consumer.noAck); err != nil {
			return false, err
		}
	}
	d := c.deliveries.Next()
	*d = m.like
	d.DeliveryTag = tag
	d.Redelivered = b[m.tagAt+tagSize-1]&1 != 0
	d.setBody(c.bytes.Copy(b[bodyAt:end]))
	c.deliveries.Pin(end - bodyAt)
	c.in.r += end + 1
	m.foresee(b, tag, end)
	m.consumer.receive(d)
	return true, nil
}
