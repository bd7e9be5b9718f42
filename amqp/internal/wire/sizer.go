package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

// sizer adds up the bytes of a method's fields and keeps the first error about one that cannot be carried.
type sizer struct {
	n   int
	err error
}

func (s *sizer) shortstr(field, v string) {
	if len(v) > math.MaxUint8 && s.err == nil {
		s.err = tooLong(field, len(v))
	}
	s.n += 1 + len(v)
}

func (s *sizer) longstr(field string, n int) {
	if uint64(n) > math.MaxUint32 && s.err == nil {
		s.err = fmt.Errorf("%s: %d bytes, and a long string holds %d at most", field, n, uint32(math.MaxUint32))
	}
	s.n += 4 + n
}

func (s *sizer) table(field string, t Table) {
	n, err := tableSize(field, t)
	if s.err == nil {
		s.err = err
	}
	s.n += n
}

func tooLong(field string, n int) error {
	return fmt.Errorf("%s: %d bytes, and a short string holds %d at most", field, n, math.MaxUint8)
}

// bit returns a set bit at position n when v holds.
func bit(v bool, n uint) byte {
	var b byte
	if v {
		b = 1
	}
	return b << n
}

// appendShortstr appends a string whose length the caller has checked.
func appendShortstr(dst []byte, s string) []byte {
	dst = append(dst, byte(len(s)))
	return append(dst, s...)
}

// appendLongstr appends a string or bytes whose length the caller has checked.
func appendLongstr[T string | []byte](dst []byte, s T) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}
