package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// reader takes fields off the front of b. After the first thing that is wrong every field reads as zero, so that a caller
// reads everything and asks once, at the end, with end.
type reader struct {
	b   []byte
	err error
}

// fail keeps the first error and leaves nothing to read.
func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// tooShort is out of line so that the methods which call it stay small.
//
//go:noinline
func (r *reader) tooShort(n uint64) {
	r.fail(fmt.Errorf("%w: %d bytes too few", ErrMalformed, n-uint64(len(r.b))))
}

// end returns the first error, and an error when bytes are left over.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		return fmt.Errorf("%w: %d bytes too many", ErrMalformed, len(r.b))
	}
	return r.err
}

// take returns the next n bytes, which are the payload's own.
func (r *reader) take(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)) {
		r.tooShort(uint64(n))
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) octet() byte {
	if len(r.b) < 1 {
		r.tooShort(1)
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) short() uint16 {
	if len(r.b) < 2 {
		r.tooShort(2)
		return 0
	}
	v := binary.BigEndian.Uint16(r.b)
	r.b = r.b[2:]
	return v
}

func (r *reader) long() uint32 {
	if len(r.b) < 4 {
		r.tooShort(4)
		return 0
	}
	v := binary.BigEndian.Uint32(r.b)
	r.b = r.b[4:]
	return v
}

func (r *reader) longlong() uint64 {
	if len(r.b) < 8 {
		r.tooShort(8)
		return 0
	}
	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

func (r *reader) shortBytes() []byte { return r.take(uint32(r.octet())) }
func (r *reader) longBytes() []byte  { return r.take(r.long()) }

func (r *reader) shortstr() string { return string(r.shortBytes()) }
func (r *reader) longstr() string  { return string(r.longBytes()) }
func (r *reader) bytes() []byte    { return bytes.Clone(r.longBytes()) }

func (r *reader) table() Table {
	if r.err != nil {
		return nil
	}
	t, rest, err := DecodeTable(r.b)
	if err != nil {
		r.fail(err)
		return nil
	}
	r.b = rest
	return t
}
