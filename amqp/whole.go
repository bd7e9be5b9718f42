package amqp

import (
	"bytes"
	"encoding/binary"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// takeWhole completes a delivery whose header and body are in the read buffer
// already, as those of small messages mostly are, and whose properties are those
// of the message before, and makes the channel's mould of it. It leaves anything
// else, and all that is wrong, to the frame by frame way.
func (m *content) takeWhole(d *delivery) bool {
	in := &m.ch.conn.in
	rest := in.buf[in.r:in.w]
	header := m.nextFrame(rest, wire.FrameContentHeader)
	if len(header) < headerFixed || m.properties == nil || !bytes.Equal(header[headerFixed:], m.rawProperties) {
		return false
	}
	size := binary.BigEndian.Uint64(header[headerFixed-8:])
	taken := wire.FrameOverhead + len(header)
	if size >= ownSize || int64(size) > m.ch.conn.cfg.MaxMessageSize || binary.BigEndian.Uint16(header) != wire.ClassBasic {
		return false
	}
	if size > 0 {
		body := m.nextFrame(rest[taken:], wire.FrameBody)
		if uint64(len(body)) != size {
			return false
		}
		taken += wire.FrameOverhead + len(body)
		d.setBody(m.ch.conn.bytes.Copy(body))
		m.ch.conn.deliveries.Pin(len(body))
	}
	d.Properties = m.properties
	if size > 0 {
		most := min(ownSize-1, uint64(in.max), uint64(m.ch.conn.cfg.MaxMessageSize)) // #nosec G115 -- it is positive
		if m.mould == nil {
			m.mould = new(mould)
		}
		m.mould.cast(in.buf[in.from:in.w], in.r-in.from, wire.FrameOverhead+len(header), most, d)
	}
	in.r += taken
	return true
}

// headerFixed is the size of a content header's class, weight and body size.
const headerFixed = 2 + 2 + 8

// nextFrame is the payload of the frame that b begins with, if it is whole, of
// that type, and on the channel; nil otherwise.
func (m *content) nextFrame(b []byte, typ byte) []byte {
	if len(b) < wire.FrameOverhead {
		return nil
	}
	h := wire.ParseFrameHeader(b)
	end := wire.FrameHeaderSize + int(h.Size)
	if h.Type != typ || h.Channel != m.ch.id || h.Size > m.ch.conn.in.max || len(b) <= end || b[end] != wire.FrameEnd {
		return nil
	}
	return b[wire.FrameHeaderSize:end:end]
}
