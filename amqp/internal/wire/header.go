package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ClassBasic is the class that messages belong to.
const ClassBasic uint16 = 60

// headerSize is a content header frame without properties: class, weight, body size and flags.
const headerSize = FrameOverhead + 2 + 2 + 8 + 2

// ContentHeader follows a method that carries a message. Properties are raw flags and values, the payload's own bytes.
type ContentHeader struct {
	Class      uint16
	BodySize   uint64
	Properties []byte
}

// errShortHeader is made once so that ParseContentHeader is small enough to be inlined.
var errShortHeader = fmt.Errorf("%w: a content header that is cut short", ErrMalformed)

// ParseContentHeader reads the payload of a content header frame.
func ParseContentHeader(payload []byte) (h ContentHeader, err error) {
	if len(payload) < headerSize-FrameOverhead {
		return h, errShortHeader
	}
	h.Class = binary.BigEndian.Uint16(payload)
	h.BodySize = binary.BigEndian.Uint64(payload[4:])
	h.Properties = payload[12:]
	return h, nil
}

// AppendContentHeader appends a content header frame; a nil p is a message without properties. On error, which names the
// field, dst comes back as it was.
func AppendContentHeader(dst []byte, channel uint16, bodySize uint64, p *Properties) ([]byte, error) {
	if p == nil || p.IsZero() {
		return appendBareHeader(dst, channel, bodySize, 0, 0), nil
	}
	return appendContentHeader(dst, channel, bodySize, p, nil)
}

// AppendContentHeaderWith does what AppendContentHeader does with one header entry more, beside p.Headers or instead of the
// entry that has its key. Nothing is written to p.Headers.
func AppendContentHeaderWith(dst []byte, channel uint16, bodySize uint64, p *Properties, key string, value int64) ([]byte, error) {
	if len(key) > math.MaxUint8 {
		return dst, tooLong("headers."+quoteKey(key), len(key))
	}
	if p == nil {
		p = &Properties{}
	}
	return appendContentHeader(dst, channel, bodySize, p, &extraEntry{key, value})
}

// extraEntry is a header that is sent although the message's table does not hold it.
type extraEntry struct {
	key   string
	value int64
}

func appendContentHeader(dst []byte, channel uint16, bodySize uint64, p *Properties, extra *extraEntry) ([]byte, error) {
	flags, size, longest := p.measure()
	if longest > math.MaxUint8 || flags&flagTimestamp != 0 && p.Timestamp.Unix() < 0 {
		return dst, p.problem()
	}
	if extra != nil {
		flags |= flagHeaders
	}
	out := appendBareHeader(dst, channel, bodySize, flags, size)
	out, ok := p.append(out[:len(out)-1], flags, extra)
	if ok {
		out, ok = finishFrame(out, len(dst))
	}
	if !ok {
		return dst, p.headersProblem()
	}
	return out, nil
}

// headersProblem says why the headers could not be appended.
func (p *Properties) headersProblem() error {
	if _, err := p.Size(); err != nil {
		return err
	}
	return errors.New("headers: they outgrow a frame")
}

// appendBareHeader appends a content header frame without the values of properties, and makes room for size bytes of them.
func appendBareHeader(dst []byte, channel uint16, bodySize uint64, flags uint16, size int) []byte {
	n := len(dst)
	dst = Extend(dst, headerSize+size)[:n+headerSize]
	b := (*[headerSize]byte)(dst[n:])
	putFrameHeader(b[:], FrameContentHeader, channel, headerSize-FrameOverhead)
	binary.BigEndian.PutUint32(b[7:], uint32(ClassBasic)<<16)
	binary.BigEndian.PutUint64(b[11:], bodySize)
	binary.BigEndian.PutUint16(b[19:], flags)
	b[21] = FrameEnd
	return dst
}

// finishFrame fills in the size of the frame that begins at n, now that its payload is there, and ends it.
func finishFrame(dst []byte, n int) ([]byte, bool) {
	size := len(dst) - n - FrameHeaderSize
	if uint64(size) > math.MaxUint32 {
		return dst, false
	}
	binary.BigEndian.PutUint32(dst[n+3:], uint32(size))
	return append(dst, FrameEnd), true
}
