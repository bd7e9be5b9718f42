// Package slab carves what is received out of larger pieces of memory, so that
// many messages cost one allocation. The garbage collector owns the pieces:
// nothing has to be released, and what is kept pins the piece that it is in.
package slab

import "unsafe"

const (
	firstBytes = 512
	maxBytes   = 64 << 10
	firstItems = 4
	itemBytes  = 8 << 10 // a size class of the allocator's, filled as far as items go into it
)

// Bytes carves byte slices and strings. Pieces start small and double, so that
// a quiet connection holds little. The zero value is ready.
type Bytes struct {
	free []byte
	next int // size of the next piece
}

// Make returns n bytes of its own, n being small against a piece. Their
// capacity ends with them, so that appending to them copies.
func (s *Bytes) Make(n int) []byte {
	if n > len(s.free) {
		s.refill(n)
	}
	b := s.free[:n:n]
	s.free = s.free[n:]
	return b
}

// Copy returns a copy of b.
func (s *Bytes) Copy(b []byte) []byte {
	dst := s.Make(len(b))
	copy(dst, b)
	return dst
}

// String returns b as a string. It is carved out of the same memory as the
// bodies, but never handed out as bytes, so nobody can change it; an allocation
// for each string would be the largest cost of a message with an id.
func (s *Bytes) String(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	c := s.Copy(b)
	return unsafe.String(unsafe.SliceData(c), len(c)) // #nosec G103 -- c is not written after this
}

func (s *Bytes) refill(n int) {
	s.next = min(max(2*s.next, firstBytes), maxBytes)
	s.free = make([]byte, max(s.next, n))
}

// Reset drops the current piece and starts small again.
func (s *Bytes) Reset() { *s = Bytes{} }

// Items carves values of one type, in the same way.
type Items[T any] struct {
	piece []T
	used  int
	next  int // size of the next piece
}

// Next returns a zero value of its own.
func (s *Items[T]) Next() *T {
	if s.used == len(s.piece) {
		s.refill()
	}
	v := &s.piece[s.used]
	s.used++
	return v
}

func (s *Items[T]) refill() {
	var v T
	s.next = min(max(2*s.next, firstItems), max(itemBytes/int(unsafe.Sizeof(v)), 1))
	s.piece, s.used = make([]T, s.next), 0
}

// Reset drops the current piece and starts small again.
func (s *Items[T]) Reset() { *s = Items[T]{} }
