package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// ErrMalformed is what every decoding error wraps: the peer sent bytes that are not the protocol.
var ErrMalformed = errors.New("malformed")

// MethodID names a method: its class in the upper 16 bits, its number in the lower ones.
type MethodID uint32

// Class returns the number of the method's class.
func (id MethodID) Class() uint16 { return uint16(id >> 16) }

// Method returns the method's number within its class.
func (id MethodID) Method() uint16 { return uint16(id) }

// String returns the method's name, such as "basic.publish", or "method 60/99" for one that does not exist.
func (id MethodID) String() string {
	if name := id.name(); name != "" {
		return name
	}
	return fmt.Sprintf("method %d/%d", id.Class(), id.Method())
}

// HasContent says whether a content header follows the method.
func (id MethodID) HasContent() bool {
	return id == BasicPublishID || id == BasicReturnID || id == BasicDeliverID || id == BasicGetOkID
}

// Method is one of the protocol's methods: a pointer to one of this package's structs.
type Method interface {
	// ID names the method.
	ID() MethodID
	size(s *sizer)
	append(dst []byte) []byte
	decode(r *reader)
}

// AppendMethod appends a whole method frame. When a field cannot be carried, the error names it and dst comes back as it was.
func AppendMethod(dst []byte, channel uint16, m Method) ([]byte, error) {
	s := sizer{n: 4}
	m.size(&s)
	if s.err == nil && uint64(s.n) > math.MaxUint32 {
		s.err = fmt.Errorf("%d bytes do not fit into a frame", s.n)
	}
	if s.err != nil {
		return dst, fmt.Errorf("%s: %w", m.ID(), s.err)
	}
	dst = slices.Grow(dst, FrameOverhead+s.n)
	dst = AppendFrameHeader(dst, FrameMethod, channel, uint32(s.n))
	dst = binary.BigEndian.AppendUint32(dst, uint32(m.ID()))
	return append(m.append(dst), FrameEnd), nil
}

// PeekMethodID returns the method of a method frame's payload without decoding the rest. The method need not exist.
func PeekMethodID(payload []byte) (MethodID, error) {
	if len(payload) < 4 {
		return 0, fmt.Errorf("%w: a method frame of %d bytes", ErrMalformed, len(payload))
	}
	return MethodID(binary.BigEndian.Uint32(payload)), nil
}

// DecodeMethod decodes the payload of a method frame. Nothing in the method refers to payload. Unknown methods, payloads
// that are too short and payloads that are too long are errors that wrap ErrMalformed.
func DecodeMethod(payload []byte) (Method, error) {
	id, err := PeekMethodID(payload)
	if err != nil {
		return nil, err
	}
	m := newMethod(id)
	if m == nil {
		return nil, fmt.Errorf("%w: %s does not exist", ErrMalformed, id)
	}
	r := reader{b: payload[4:]}
	m.decode(&r)
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("%s: %w", id, err)
	}
	return m, nil
}
