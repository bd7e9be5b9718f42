package amqptest

import (
	"slices"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// filtered writes a batch of frames as the hooks decide.
func (c *conn) filtered(hooks []*hook, batch []byte) error {
	var passed []byte
	write := func() error {
		_, err := c.nc.Write(passed)
		passed = passed[:0]
		return err
	}
	for len(batch) > 0 {
		unit, e := outgoing(batch)
		batch = batch[len(unit):]
		if e == nil || !wants(hooks, e.Method) {
			passed = append(passed, unit...)
			continue
		}
		if err := write(); err != nil { // what comes before goes before, however long the hook takes
			return err
		}
		a, alive := c.decide(hooks, e)
		switch {
		case !alive:
			return errClosed
		case a.kind == pass:
			passed = append(passed, unit...)
		case a.kind == reply:
			passed = append(passed, a.raw...)
		case a.kind == cut:
			passed = append(passed, unit[:min(a.bytes, len(unit))]...)
			_ = write()
			_ = c.raw.Close() // not a reset, which could overtake the bytes
			return errClosed
		case a.kind == later:
			frames := slices.Clone(unit)
			c.broker.lock()
			c.afterwards(a.later, func() {
				c.late = append(c.late, frames...)
				c.wake()
			})
			c.broker.unlock()
		default:
			c.broker.lock()
			c.carryOut(a, e)
			c.broker.unlock()
		}
	}
	return write()
}

// outgoing splits off the first method with its message. What is not a method has no event.
func outgoing(batch []byte) (unit []byte, e *Event) {
	size := frameSize(batch)
	if size == 0 {
		return batch, nil
	}
	unit = batch[:size]
	switch unit[0] {
	case wire.FrameHeartbeat:
		return unit, &Event{Direction: ToClient, Method: heartbeat}
	case wire.FrameMethod:
	default:
		return unit, nil
	}
	m, err := wire.DecodeMethod(unit[wire.FrameHeaderSize : size-1])
	if err != nil {
		return unit, nil
	}
	e = &Event{Direction: ToClient, Channel: wire.ParseFrameHeader(unit).Channel, Method: m.ID().String(), method: m}
	message := &message{}
	for next := batch[size:]; carriesContent(m); next = batch[size:] {
		n := frameSize(next)
		if n == 0 || next[0] != wire.FrameContentHeader && next[0] != wire.FrameBody || wire.ParseFrameHeader(next).Channel != e.Channel {
			break
		}
		payload := next[wire.FrameHeaderSize : n-1]
		if next[0] == wire.FrameBody {
			message.body = append(message.body, payload...)
		} else if h, err := wire.ParseContentHeader(payload); err == nil {
			message.raw = h.Properties
		}
		size += n
	}
	if carriesContent(m) {
		e.Message = message.export()
		e.Message.Exchange, _ = e.Field("exchange").(string)
		e.Message.RoutingKey, _ = e.Field("routing-key").(string)
	}
	return batch[:size], e
}

// frameSize is the size of the frame that begins here; zero when these bytes are not one.
func frameSize(b []byte) int {
	if len(b) < wire.FrameOverhead || b[0] == wire.ProtocolHeader[0] {
		return 0
	}
	size := int(wire.ParseFrameHeader(b).Size) + wire.FrameOverhead
	if size > len(b) || b[size-1] != wire.FrameEnd {
		return 0
	}
	return size
}

func carriesContent(m wire.Method) bool {
	switch m.(type) {
	case *wire.BasicDeliver, *wire.BasicReturn, *wire.BasicGetOk:
		return true
	}
	return false
}
