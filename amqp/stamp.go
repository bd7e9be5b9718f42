package amqp

import (
	"encoding/binary"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// stamp is the last message of a channel that carried no properties, encoded up to
// its body. Most go the way of the last one, and to print that again instead of
// encoding it makes publishing a fifth faster. The writer's lock guards it.
type stamp struct {
	exchange, routingKey string
	bytes                []byte // ends with the head of the body's frame
	sizeAt               int    // body size in the content header
	most                 int    // bytes of body
}

// fits tells whether the message looks the same. One that may come back is not
// printed, as it carries its number.
func (s *stamp) fits(m *sending, msg *Message) bool {
	size := len(msg.Body)
	return size > 0 && size <= s.most && s.routingKey == m.routingKey && s.exchange == m.exchange &&
		!msg.Mandatory && !msg.Immediate && msg.Properties.wire().IsZero()
}

// print appends a message that fits.
func (s *stamp) print(buf, body []byte) []byte {
	n := len(buf)
	buf = wire.Extend(buf, len(s.bytes)+len(body)+1)
	b := buf[n:]
	k := copy(b, s.bytes)
	binary.BigEndian.PutUint64(b[s.sizeAt:], uint64(len(body)))
	binary.BigEndian.PutUint32(b[k-4:], uint32(len(body))) // #nosec G115 -- most is small
	copy(b[k:], body)
	b[len(b)-1] = wire.FrameEnd
	return buf
}

// cut makes the stamp from a message as it was encoded, whose header frame begins
// at headerAt.
func (s *stamp) cut(m *sending, msg *Message, encoded []byte, headerAt int, frameMax uint32) {
	if msg.Mandatory || msg.Immediate || !msg.Properties.wire().IsZero() {
		return
	}
	s.most = largeBody - 1
	if frameMax != 0 {
		s.most = min(s.most, int(frameMax)-wire.FrameOverhead)
	}
	s.exchange, s.routingKey = m.exchange, m.routingKey
	s.sizeAt = headerAt + wire.FrameHeaderSize + headerFixed - 8
	s.bytes = append(s.bytes[:0], encoded...)
	s.bytes = wire.AppendFrameHeader(s.bytes, wire.FrameBody, binary.BigEndian.Uint16(encoded[1:]), 0)
}
