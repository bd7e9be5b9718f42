package wire

import (
	"encoding/binary"
	"fmt"
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
	dst = Extend(dst, size)
	head := (*[14]byte)(dst[n:])
	putMethod(head[:], channel, size, BasicPublishID)
	binary.BigEndian.PutUint16(head[11:], 0)
	head[13] = byte(len(exchange))
	b := dst[n+14:]
	b = b[copy(b, exchange):]
	b[0] = byte(len(routingKey))
	b = b[1+copy(b[1:], routingKey):]
	b[0] = bit(mandatory, 0) | bit(immediate, 1)
	b[1] = FrameEnd
	return dst
}

// AppendDeliver appends a basic.deliver frame. The strings hold at most 255 bytes: the caller has checked it.
func AppendDeliver(dst []byte, channel uint16, consumerTag string, tag uint64, redelivered bool, exchange, routingKey string) []byte {
	n, size := len(dst), deliverSize+len(consumerTag)+len(exchange)+len(routingKey)
	dst = Extend(dst, size)
	head := (*[12]byte)(dst[n:])
	putMethod(head[:], channel, size, BasicDeliverID)
	head[11] = byte(len(consumerTag))
	b := dst[n+12:]
	b = b[copy(b, consumerTag):]
	binary.BigEndian.PutUint64(b, tag)
	b[8] = bit(redelivered, 0)
	b[9] = byte(len(exchange))
	b = b[10+copy(b[10:], exchange):]
	b[0] = byte(len(routingKey))
	b = b[1+copy(b[1:], routingKey):]
	b[0] = FrameEnd
	return dst
}

// putMethod writes the head of a method frame of size bytes, and the method's id, to the front of b.
func putMethod(b []byte, channel uint16, size int, id MethodID) {
	_ = b[10]
	putFrameHeader(b, FrameMethod, channel, size-FrameOverhead)
	binary.BigEndian.PutUint32(b[7:], uint32(id))
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
	dst = Extend(dst, settleSize)
	b := (*[settleSize]byte)(dst[n:])
	putMethod(b[:], channel, settleSize, id)
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
