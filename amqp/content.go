package amqp

import (
	"bytes"
	"fmt"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// content is the message that a channel is receiving: method, then header, then
// body, frame by frame. It belongs to the reader.
type content struct {
	ch       *Channel
	delivery *delivery // head, for basic.deliver or basic.get-ok, else nil
	head     delivery
	consumer *Consumer // of basic.deliver
	get      *wire.BasicGetOk
	ret      *returned // basic.return, else nil
	body     []byte    // as large as has been asked for so far
	have     int       // bytes of it received
	size     int       // bytes that the header promised
	inBody   bool      // the header has come

	// The last delivery's strings and properties, which mostly recur.
	exchange, routingKey string
	rawProperties        []byte
	properties           *Properties
	mould                *mould // nil until there was a small message
}

const (
	// ownSize is the size of a body from which it gets memory of its own: a
	// piece of the slab holds eight below it.
	ownSize = 8 << 10
	// trustSize is how much is allocated on a header's word alone. Beyond,
	// the memory grows with what really comes.
	trustSize = 1 << 20
)

// idle tells whether a method may come now.
func (m *content) idle() bool { return m.delivery == nil && m.ret == nil }

// onHeader takes the content header.
func (ch *Channel) onHeader(payload []byte) error {
	m := &ch.content
	if m.idle() || m.inBody {
		return protocolError("the broker sent a content header on channel %d that belongs to no method", ch.id)
	}
	h, err := wire.ParseContentHeader(payload)
	if err != nil {
		return protocolError("content header on channel %d: %v", ch.id, err)
	}
	if limit := ch.conn.cfg.MaxMessageSize; h.BodySize > uint64(limit) {
		if m.ret == nil || h.BodySize > maxMessageSize {
			return tooLarge(h.BodySize, limit)
		}
		m.ret.dropped = int(h.BodySize)
	}
	if err := m.setProperties(h.Properties); err != nil {
		return protocolError("properties of a message on channel %d: %v", ch.id, err)
	}
	m.size, m.have, m.inBody = int(h.BodySize), 0, true
	if m.size < ownSize {
		m.body = ch.conn.bytes.Make(m.size)
	} else {
		m.body = ch.conn.bytes.Large(min(m.size, trustSize))
	}
	if m.size == 0 {
		return ch.onContent()
	}
	return nil
}

// setProperties decodes the properties, unless they are those of the message
// before.
func (m *content) setProperties(raw []byte) error {
	c := m.ch.conn
	if m.ret != nil {
		m.ret.size = int64(len(raw))
		return m.ret.Properties.wire().Decode(raw, nil)
	}
	if m.properties == nil || !bytes.Equal(raw, m.rawProperties) {
		p := c.properties.Next()
		if err := p.wire().Decode(raw, c.text); err != nil {
			return err
		}
		p.dropSequence()
		m.properties = p
		m.rawProperties = append(m.rawProperties[:0], raw...)
	}
	m.delivery.Properties = m.properties
	return nil
}

// fits refuses a body frame of n bytes that the header did not promise.
func (m *content) fits(n int) error {
	if !m.inBody {
		return protocolError("the broker sent a body frame on channel %d that belongs to no header", m.ch.id)
	}
	if n > m.size-m.have {
		return protocolError("the broker sent a body on channel %d that exceeds the %d bytes which its header says", m.ch.id, m.size)
	}
	return nil
}

// room is where the next n bytes of the body go, which fit. Of a body that is dropped it
// may have room for less, not less than trustSize.
func (m *content) room(n int) []byte {
	if m.ret != nil && m.ret.dropped > 0 {
		return m.body[:min(n, len(m.body))]
	}
	for m.have+n > len(m.body) {
		bigger := make([]byte, min(2*len(m.body), m.size))
		copy(bigger, m.body[:m.have])
		m.body = bigger
	}
	return m.body[m.have : m.have+n]
}

// onBody notes that n bytes have been put into room.
func (ch *Channel) onBody(n int) error {
	m := &ch.content
	if m.have += n; m.have < m.size {
		return nil
	}
	return ch.onContent()
}

// onContent hands a whole message on.
func (ch *Channel) onContent() error {
	m := &ch.content
	consumer, get, ret := m.consumer, m.get, m.ret
	body := m.body
	m.delivery, m.consumer, m.get, m.ret, m.body, m.inBody = nil, nil, nil, nil, nil, false
	if ret != nil {
		if ret.dropped == 0 {
			ret.body = body
		}
		return ch.onReturn(ret)
	}
	d := m.place(len(body))
	d.setBody(body)
	if get != nil {
		ch.enterTags()
		ch.conn.cfg.Trace.delivered(ch, d)
		return ch.answer(get, d)
	}
	consumer.receive(d)
	return nil
}

// place puts the head where it stays. One with a large body is by itself: its
// neighbours would keep the body from being collected.
func (m *content) place(size int) (d *delivery) {
	if size < ownSize {
		d = m.ch.conn.deliveries.Next()
		m.ch.conn.deliveries.Pin(size)
	} else {
		d = new(delivery)
	}
	*d, m.head = m.head, delivery{}
	return d
}

// text copies b, unless it is what last holds.
func (m *content) text(b []byte, last *string) string {
	if string(b) != *last {
		*last = m.ch.conn.bytes.String(b)
	}
	return *last
}

// tooLarge refuses a body by what its header says.
func tooLarge(size uint64, limit int64) error {
	return fmt.Errorf("%w: the broker announced a body of %d bytes, and Config.MaxMessageSize allows %d", ErrMessageTooLarge, size, limit)
}
