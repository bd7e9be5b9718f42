package wire

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
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

// ParseContentHeader reads the payload of a content header frame.
func ParseContentHeader(payload []byte) (ContentHeader, error) {
	if len(payload) < headerSize-FrameOverhead {
		return ContentHeader{}, shortHeader(len(payload))
	}
	return ContentHeader{
		Class:      binary.BigEndian.Uint16(payload),
		BodySize:   binary.BigEndian.Uint64(payload[4:]),
		Properties: payload[12:],
	}, nil
}

func shortHeader(n int) error {
	return fmt.Errorf("%w: a content header of %d bytes", ErrMalformed, n)
}

// AppendContentHeader appends a content header frame; a nil p is a message without properties. On error, which names the
// field, dst comes back as it was.
func AppendContentHeader(dst []byte, channel uint16, bodySize uint64, p *Properties) ([]byte, error) {
	n := len(dst)
	if p == nil {
		return appendHeader(dst, channel, bodySize, 0, 0), nil
	}
	flags, size, longest := p.measure()
	if flags == 0 {
		return appendHeader(dst, channel, bodySize, 0, 0), nil
	}
	if longest > math.MaxUint8 || flags&flagTimestamp != 0 && p.Timestamp.Unix() < 0 {
		return dst, p.problem()
	}
	out := appendHeader(dst, channel, bodySize, flags, size)
	out, ok := p.append(out[:len(out)-1], flags)
	if !ok {
		_, err := p.Size()
		return dst, err
	}
	if out, ok = finishFrame(out, n); !ok {
		return dst, fmt.Errorf("headers: the content header outgrows a frame")
	}
	return out, nil
}

// AppendContentHeaderWith does what AppendContentHeader does with one header entry more, beside p.Headers or instead of the
// entry that has its key. Nothing is written to p.Headers.
func AppendContentHeaderWith(dst []byte, channel uint16, bodySize uint64, p *Properties, key string, value int64) ([]byte, error) {
	var with Properties
	if p != nil {
		with = *p
	}
	with.Headers = maps.Clone(with.Headers)
	if with.Headers == nil {
		with.Headers = Table{}
	}
	with.Headers[key] = value
	return AppendContentHeader(dst, channel, bodySize, &with)
}

// appendHeader appends the frame up to the flags and the end byte, with room for size bytes more.
func appendHeader(dst []byte, channel uint16, bodySize uint64, flags uint16, size int) []byte {
	n := len(dst)
	dst = slices.Grow(dst, headerSize+size)[:n+headerSize]
	b := dst[n:][:headerSize]
	binary.BigEndian.PutUint64(b, frameHead(FrameContentHeader, channel, headerSize-FrameOverhead))
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

// append appends the values whose flags are set. It reports false when the headers cannot be carried.
func (p *Properties) append(dst []byte, flags uint16) (_ []byte, ok bool) {
	if flags&flagContentType != 0 {
		dst = appendShortstr(dst, p.ContentType)
	}
	if flags&flagContentEncoding != 0 {
		dst = appendShortstr(dst, p.ContentEncoding)
	}
	if flags&flagHeaders != 0 {
		if dst, ok = appendTable(dst, p.Headers, 0); !ok {
			return dst, false
		}
	}
	if flags&flagDeliveryMode != 0 {
		dst = append(dst, p.DeliveryMode)
	}
	if flags&flagPriority != 0 {
		dst = append(dst, p.Priority)
	}
	if flags&(flagCorrelationID|flagReplyTo|flagExpiration|flagMessageID) != 0 {
		dst = appendSet(dst, p.CorrelationID)
		dst = appendSet(dst, p.ReplyTo)
		dst = appendSet(dst, p.Expiration)
		dst = appendSet(dst, p.MessageID)
	}
	if flags&flagTimestamp != 0 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(p.Timestamp.Unix()))
	}
	if flags&(flagType|flagUserID|flagAppID|flagClusterID) != 0 {
		dst = appendSet(dst, p.Type)
		dst = appendSet(dst, p.UserID)
		dst = appendSet(dst, p.AppID)
		dst = appendSet(dst, p.ClusterID)
	}
	return dst, true
}

// appendSet appends a string property that is present when it is not empty.
func appendSet(dst []byte, s string) []byte {
	if s == "" {
		return dst
	}
	return appendShortstr(dst, s)
}
