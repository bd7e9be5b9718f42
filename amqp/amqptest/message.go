package amqptest

import (
	"maps"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// A message is what was published. It is never changed once it is routed: queues and consumers share it.
type message struct {
	exchange, key string
	keys          []string // what it is routed by beside key: the CC headers, and behind them the BCC headers
	hidden        int      // how many of keys are BCC headers
	raw           []byte   // property flags and values as they travel
	body          []byte
	props         *wire.Properties // raw, decoded when somebody asked
}

// The property flags that the broker looks at, as the first flag word has them.
const (
	flagHeaders      = 1 << 13
	flagPriority     = 1 << 11
	flagReplyTo      = 1 << 9
	flagExpiration   = 1 << 8
	flagUserID       = 1 << 4
	flagContinuation = 1 << 0

	flagsOfInterest = flagHeaders | flagPriority | flagReplyTo | flagExpiration | flagUserID | flagContinuation
)

// has tells whether one of the flags is set in the first flag word, without decoding anything.
func (m *message) has(flags uint16) bool {
	return len(m.raw) >= 2 && (uint16(m.raw[0])<<8|uint16(m.raw[1]))&flags != 0
}

// properties decodes the message's properties, once.
func (m *message) properties() *wire.Properties {
	if m.props == nil {
		m.props = new(wire.Properties)
		if len(m.raw) > 0 {
			// Publishing has decoded the same bytes before: they are sound.
			_ = m.props.Decode(m.raw, nil)
		}
	}
	return m.props
}

// encodeProperties gives the flags and values of p as they travel.
func encodeProperties(p *wire.Properties) ([]byte, error) {
	frame, err := wire.AppendContentHeader(nil, 0, 0, p)
	if err != nil {
		return nil, err
	}
	const classWeightSize = 12
	return frame[wire.FrameHeaderSize+classWeightSize : len(frame)-1], nil
}

// with gives the same message with other properties.
func (m *message) with(p *wire.Properties) (*message, error) {
	raw, err := encodeProperties(p)
	if err != nil {
		return nil, err
	}
	changed := *m
	changed.raw, changed.props = raw, p
	return &changed, nil
}

// outgoing is the message as a client gets it: from a quorum queue with the number of attempts before, which RabbitMQ tells
// a consumer if there were any, and in older versions basic.get in any case. Newer ones count what came back as well.
func (e *entry) outgoing(q *queue, get bool) *message {
	counts := q.vhost.broker.cfg.version.countsAcquisitions
	attempts := e.attempts > 0 || get && !counts
	acquired := e.acquired > 0 && counts
	if !q.settings.quorum || !attempts && !acquired {
		return e.msg
	}
	props := *e.msg.properties()
	props.Headers = maps.Clone(props.Headers)
	if props.Headers == nil {
		props.Headers = wire.Table{}
	}
	if attempts {
		props.Headers["x-delivery-count"] = int64(e.attempts)
	}
	if acquired {
		props.Headers["x-acquired-count"] = int64(e.acquired)
	}
	m, err := e.msg.with(&props)
	if err != nil {
		return e.msg // its own headers leave no room for one more
	}
	return m
}

// appendContent appends the header and body frames of the message.
func (m *message) appendContent(dst []byte, channel uint16, frameMax uint32) []byte {
	raw := m.raw
	if len(raw) == 0 {
		raw = []byte{0, 0}
	}
	dst = wire.AppendFrameHeader(dst, wire.FrameContentHeader, channel, uint32(12+len(raw)))
	size := uint64(len(m.body))
	dst = append(dst, 0, classBasic, 0, 0,
		byte(size>>56), byte(size>>48), byte(size>>40), byte(size>>32), byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
	dst = append(dst, raw...)
	dst = append(dst, wire.FrameEnd)
	return wire.AppendBody(dst, channel, m.body, frameMax)
}

const classBasic = 60
