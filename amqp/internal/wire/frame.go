package wire

import (
	"encoding/binary"
	"math"
	"slices"
)

// The types of frames.
const (
	FrameMethod        byte = 1
	FrameContentHeader byte = 2
	FrameBody          byte = 3
	FrameHeartbeat     byte = 8
)

const (
	// FrameEnd is the last byte of every frame.
	FrameEnd byte = 0xCE
	// FrameHeaderSize is the number of bytes in front of a frame's payload: type, channel and size.
	FrameHeaderSize = 7
	// FrameOverhead is the number of bytes that a frame has around its payload, the end byte included.
	FrameOverhead = 8
	// MinFrameMax is the smallest frame-max in bytes that peers may agree on.
	MinFrameMax = 4096
)

// ProtocolHeader is what a client sends first.
var ProtocolHeader = [8]byte{'A', 'M', 'Q', 'P', 0, 0, 9, 1}

// FrameHeader is the head of a frame. Size counts the bytes of the payload, which the end byte follows.
type FrameHeader struct {
	Type    byte
	Channel uint16
	Size    uint32
}

// ParseFrameHeader reads the head of a frame. It panics when b holds fewer than FrameHeaderSize bytes.
func ParseFrameHeader(b []byte) FrameHeader {
	_ = b[FrameHeaderSize-1]
	return FrameHeader{Type: b[0], Channel: binary.BigEndian.Uint16(b[1:]), Size: binary.BigEndian.Uint32(b[3:])}
}

// AppendFrameHeader appends the head of a frame alone, for a payload that is written from where it is. The payload and
// FrameEnd must follow.
func AppendFrameHeader(dst []byte, typ byte, channel uint16, size uint32) []byte {
	return append(dst, typ, byte(channel>>8), byte(channel), byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
}

// AppendHeartbeat appends a heartbeat frame.
func AppendHeartbeat(dst []byte) []byte {
	return append(dst, FrameHeartbeat, 0, 0, 0, 0, 0, 0, FrameEnd)
}

// AppendBody appends the body of a message in as many frames of at most frameMax bytes as it takes. A frameMax of zero
// is no limit, as is one that leaves no room for a body; an empty body has no frame.
func AppendBody(dst []byte, channel uint16, body []byte, frameMax uint32) []byte {
	if len(body) == 0 {
		return dst
	}
	most := uint64(math.MaxUint32)
	if frameMax > FrameOverhead {
		most = uint64(frameMax) - FrameOverhead
	}
	if uint64(len(body)) <= most {
		return appendBodyFrame(dst, channel, body)
	}
	frames := (uint64(len(body)) + most - 1) / most
	dst = slices.Grow(dst, len(body)+FrameOverhead*int(frames))
	for uint64(len(body)) > most {
		dst = appendBodyFrame(dst, channel, body[:most])
		body = body[most:]
	}
	return appendBodyFrame(dst, channel, body)
}

func appendBodyFrame(dst []byte, channel uint16, body []byte) []byte {
	n := len(dst)
	dst = Extend(dst, FrameOverhead+len(body))
	b := dst[n:]
	putFrameHeader(b, FrameBody, channel, len(body))
	copy(b[FrameHeaderSize:], body)
	b[len(b)-1] = FrameEnd
	return dst
}

// putFrameHeader writes the head of a frame whose payload has size bytes to the front of b.
func putFrameHeader(b []byte, typ byte, channel uint16, size int) {
	_ = b[FrameHeaderSize-1]
	b[0] = typ
	binary.BigEndian.PutUint16(b[1:], channel)
	binary.BigEndian.PutUint32(b[3:], uint32(size))
}

// Extend makes dst n bytes longer; they hold anything. It is small enough to be inlined, with its rare half out of line.
func Extend(dst []byte, n int) []byte {
	if cap(dst)-len(dst) < n {
		dst = grow(dst, n)
	}
	return dst[:len(dst)+n]
}

//go:noinline
func grow(dst []byte, n int) []byte { return slices.Grow(dst, n) }
