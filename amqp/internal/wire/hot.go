package wire

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Sizes of hot frames without their strings: head, method id, fields and end byte.
const (
	publishSize = FrameOverhead + 4 + 2 + 1 + 1 + 1
	deliverSize = FrameOverhead + 4 + 1 + 8 + 1 + 1 + 1
	settleSize  = FrameOverhead + 4 + 8 + 1
)

// AppendPublish appends a basic.publish frame. The strings hold at most 255 bytes: the caller has checked it.
func AppendPublish(dst []byte, channel uint16, exchange, routingKey string, mandatory, immediate bool) []byte {
	n, size := len(dst), publishSize+len(exchange)+len(routingKey)
	dst = slices.Grow(dst, size)[:n+size]
	b := dst[n:]
	binary.BigEndian.PutUint64(b, frameHead(FrameMethod, channel, size-FrameOverhead))
	// The class's upper byte, which is zero, came with the head. Then follow the rest of the id, the reserved ticket, the
	// exchange's length and two bytes that are written again.
	binary.BigEndian.PutUint64(b[8:], uint64(BasicPublishID)<<40|uint64(byte(len(exchange)))<<16)
	i := 14 + copy(b[14:], exchange)
	b[i] = byte(len(routingKey))
	i += 1 + copy(b[i+1:], routingKey)
	b[i] = bit(mandatory, 0) | bit(immediate, 1)
	b[i+1] = FrameEnd
	return dst
}

// AppendDeliver appends a basic.deliver frame. The strings hold at most 255 bytes: the caller has checked it.
func AppendDeliver(dst []byte, channel uint16, consumerTag string, tag uint64, redelivered bool, exchange, routingKey string) []byte {
	n, size := len(dst), deliverSize+len(consumerTag)+len(exchange)+len(routingKey)
	dst = slices.Grow(dst, size)[:n+size]
	b := dst[n:]
	binary.BigEndian.PutUint64(b, frameHead(FrameMethod, channel, size-FrameOverhead))
	binary.BigEndian.PutUint32(b[7:], uint32(BasicDeliverID))
	b[11] = byte(len(consumerTag))
	i := 12 + copy(b[12:], consumerTag)
	binary.BigEndian.PutUint64(b[i:], tag)
	b[i+8] = bit(redelivered, 0)
	b[i+9] = byte(len(exchange))
	i += 10 + copy(b[i+10:], exchange)
	b[i] = byte(len(routingKey))
	i += 1 + copy(b[i+1:], routingKey)
	b[i] = FrameEnd
	return dst
}

// AppendAck appends a basic.ack frame.
func AppendAck(dst []byte, channel uint16, tag uint64, multiple bool) []byte {
	return appendSettle(dst, channel, BasicAckID, tag, bit(multiple, 0))
}

// AppendNack appends a basic.nack frame.
func AppendNack(dst []byte, channel uint16, tag uint64, multiple, requeue bool) []byte {
	return appendSettle(dst, channel, BasicNackID, tag, bit(multiple, 0)|bit(requeue, 1))
}

// AppendReject appends a basic.reject frame.
func AppendReject(dst []byte, channel uint16, tag uint64, requeue bool) []byte {
	return appendSettle(dst, channel, BasicRejectID, tag, bit(requeue, 0))
}

func appendSettle(dst []byte, channel uint16, id MethodID, tag uint64, bits byte) []byte {
	n := len(dst)
	dst = slices.Grow(dst, settleSize)[:n+settleSize]
	b := dst[n:][:settleSize]
	binary.BigEndian.PutUint64(b, frameHead(FrameMethod, channel, settleSize-FrameOverhead))
	binary.BigEndian.PutUint32(b[7:], uint32(id))
	binary.BigEndian.PutUint64(b[11:], tag)
	b[19] = bits
	b[20] = FrameEnd
	return dst
}

// Deliver is a basic.deliver whose strings are the payload's own bytes: they change when the payload does.
type Deliver struct {
	ConsumerTag []byte
	DeliveryTag uint64
	Redelivered bool
	Exchange    []byte
	RoutingKey  []byte
}

// ParseDeliver reads the payload of a basic.deliver frame, method id included, into d.
func ParseDeliver(payload []byte, d *Deliver) error {
	const head = 4 + 1 // the id and the tag's length
	if len(payload) < head {
		return malformed(BasicDeliverID, payload)
	}
	b := payload[head:]
	n := int(payload[head-1])
	if MethodID(binary.BigEndian.Uint32(payload)) != BasicDeliverID || len(b) < n+10 {
		return malformed(BasicDeliverID, payload)
	}
	d.ConsumerTag = b[:n:n]
	b = b[n:]
	d.DeliveryTag = binary.BigEndian.Uint64(b)
	d.Redelivered = b[8]&1 != 0
	n = int(b[9])
	b = b[10:]
	if len(b) < n+1 || len(b) != n+1+int(b[n]) {
		return malformed(BasicDeliverID, payload)
	}
	d.Exchange = b[:n:n]
	d.RoutingKey = b[n+1:]
	return nil
}

// ParseAck reads the payload of a basic.ack frame, method id included.
func ParseAck(payload []byte) (tag uint64, multiple bool, err error) {
	if len(payload) != 13 || MethodID(binary.BigEndian.Uint32(payload)) != BasicAckID {
		return 0, false, malformed(BasicAckID, payload)
	}
	return binary.BigEndian.Uint64(payload[4:]), payload[12]&1 != 0, nil
}

// ParseNack reads the payload of a basic.nack frame, method id included.
func ParseNack(payload []byte) (tag uint64, multiple, requeue bool, err error) {
	if len(payload) != 13 || MethodID(binary.BigEndian.Uint32(payload)) != BasicNackID {
		return 0, false, false, malformed(BasicNackID, payload)
	}
	return binary.BigEndian.Uint64(payload[4:]), payload[12]&1 != 0, payload[12]&2 != 0, nil
}

// malformed says what is wrong with a payload that a hot parser refuses.
//
//go:noinline
func malformed(want MethodID, payload []byte) error {
	id, err := PeekMethodID(payload)
	if err != nil {
		return err
	}
	if id != want {
		return fmt.Errorf("%w: %s where %s was to come", ErrMalformed, id, want)
	}
	if _, err := DecodeMethod(payload); err != nil {
		return err
	}
	return fmt.Errorf("%w: %s of %d bytes", ErrMalformed, id, len(payload))
}
