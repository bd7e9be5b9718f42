package amqptest

import (
	"encoding/binary"
	"strings"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// An assembly puts together a message from its method, header and body frames. Its channel's reader owns it.
type assembly struct {
	stage     assemblyStage
	exchange  string
	key       string
	mandatory bool
	immediate bool
	left      uint64 // bytes of the body that are still to come
	message   *message
}

type assemblyStage uint8

const (
	awaitMethod assemblyStage = iota
	awaitHeader
	awaitBody
	complete
)

// parsePublish reads the payload of a basic.publish frame, as DecodeMethod does, and keeps strings that come again.
func (a *assembly) parsePublish(payload []byte) bool {
	const head = 4 + 2 // the id and a reserved field
	if len(payload) < head+1 {
		return false
	}
	b := payload[head:]
	n := int(b[0])
	if len(b) < 1+n+1 {
		return false
	}
	exchange, b := b[1:1+n], b[1+n:]
	n = int(b[0])
	if len(b) != 1+n+1 {
		return false
	}
	key, bits := b[1:1+n], b[1+n]
	if a.exchange != string(exchange) {
		a.exchange = string(exchange)
	}
	if a.key != string(key) {
		a.key = string(key)
	}
	a.mandatory, a.immediate = bits&1 != 0, bits&2 != 0
	a.stage = awaitHeader
	return true
}

// header takes the content header frame.
func (a *assembly) header(payload []byte, limit uint64) *exception {
	h, err := wire.ParseContentHeader(payload)
	switch {
	case err != nil:
		return fail(syntaxError, "%v", err)
	case h.Class != classBasic:
		return inPublish(fail(unexpectedFrame, "expected content header for class 60, got one for class %d instead", h.Class))
	case h.BodySize > limit:
		return inPublish(fail(preconditionFailed, "message size %d is larger than configured max size %d", h.BodySize, limit))
	}
	const trusted = 1 << 20 // what a client says about the size of a body is believed up to here
	raw := h.Properties
	buf := make([]byte, len(raw), len(raw)+int(min(h.BodySize, trusted)))
	copy(buf, raw)
	m := &message{exchange: a.exchange, key: a.key, raw: buf[:len(raw):len(raw)], body: buf[len(raw):]}
	if m.has(flagsOfInterest) {
		m.props = new(wire.Properties)
		if err := m.props.Decode(m.raw, nil); err != nil {
			return &exception{code: internalError, text: "INTERNAL_ERROR"} // RabbitMQ's words are no more than these
		}
	}
	a.message, a.left = m, h.BodySize
	a.advance()
	return nil
}

// body takes one body frame.
func (a *assembly) body(payload []byte) *exception {
	if uint64(len(payload)) > a.left {
		return inPublish(fail(frameError, "content body of %d bytes where %d were to come", len(payload), a.left))
	}
	a.message.body = append(a.message.body, payload...)
	a.left -= uint64(len(payload))
	a.advance()
	return nil
}

func (a *assembly) advance() {
	a.stage = awaitBody
	if a.left == 0 {
		a.stage = complete
	}
}

// take hands over the message that is complete.
func (a *assembly) take() publication {
	p := publication{message: a.message, mandatory: a.mandatory, immediate: a.immediate}
	a.message, a.stage = nil, awaitMethod
	return p
}

// feed takes any frame but a heartbeat and checks that it is one that may come now.
func (a *assembly) feed(f frame) (m wire.Method, e *exception) {
	switch {
	case f.typ == wire.FrameMethod && a.stage == awaitMethod:
		return a.method(f.payload)
	case f.typ == wire.FrameContentHeader && a.stage == awaitHeader:
		return nil, a.header(f.payload, f.maxMessage)
	case f.typ == wire.FrameBody && a.stage == awaitBody:
		return nil, a.body(f.payload)
	case a.stage == awaitHeader:
		return nil, inPublish(fail(unexpectedFrame, "expected content header for class 60, got non content header frame instead"))
	case a.stage == awaitBody:
		return nil, inPublish(fail(unexpectedFrame, "expected content body, got non content body frame instead"))
	}
	return nil, fail(unexpectedFrame, "expected method frame, got non method frame instead")
}

// inPublish marks an exception as one about the basic.publish under way.
func inPublish(e *exception) *exception {
	e.method = wire.BasicPublishID
	return e
}

// method reads a method frame. A publish is not complete yet, and comes out as nil.
func (a *assembly) method(payload []byte) (wire.Method, *exception) {
	if len(payload) >= 4 && wire.MethodID(binary.BigEndian.Uint32(payload)) == wire.BasicPublishID && a.parsePublish(payload) {
		return nil, nil
	}
	return decodeMethod(payload)
}

func decodeMethod(payload []byte) (wire.Method, *exception) {
	m, err := wire.DecodeMethod(payload)
	if err == nil {
		return m, nil
	}
	id, unreadable := wire.PeekMethodID(payload)
	if unreadable != nil {
		return nil, fail(frameError, "cannot decode %s", binaryText(payload))
	}
	e := fail(frameError, "cannot decode %s", binaryText(payload[4:min(len(payload), 68)]))
	if strings.HasPrefix(id.String(), "method ") {
		e = fail(commandInvalid, "unknown %s", id)
	}
	e.method = id
	return nil, e
}
