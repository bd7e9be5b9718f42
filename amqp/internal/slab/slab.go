// Package slab carves what is received out of larger pieces of memory, so that
// many messages cost one allocation. The garbage collector owns the pieces:
// nothing has to be released, and what is kept pins the piece that it is in.
//
//	slab.go     bytes and items, carved out of pieces
//	recycle.go  memory that nobody holds any more, to be filled again
//	reserve.go  memory that nobody touches, so that there is less collecting
package slab

import (
	"sync/atomic"
	"unsafe"
)

const (
	firstBytes = 512
	maxBytes   = 64 << 10
	firstItems = 4
	itemBytes  = 32 << 10 // a size class of the allocator's, filled as far as items go into it
)

// Bytes carves byte slices and strings. Pieces start small and double, so that
// a quiet connection holds little. The zero value is ready, and must not be
// copied.
type Bytes struct {
	free []byte
	next int // size of the next piece
	// used is apart, since the finalizers of all pieces refer to it: the piece
	// in free must not be among what it refers to.
	used atomic.Pointer[recycler]
}

// Make returns n bytes of its own with anything in them, n being small against a
// piece. Their capacity ends with them, so that appending to them copies.
func (s *Bytes) Make(n int) []byte {
	if n > len(s.free) {
		s.refill(n)
	}
	b := s.free[:n:n]
	s.free = s.free[n:]
	return b
}

// Large is Make for what deserves a piece of its own.
func (s *Bytes) Large(n int) []byte {
	if n < minRecycled || n > maxRecycled {
		return make([]byte, n)
	}
	r := s.used.Load()
	if r == nil {
		r = new(recycler)
		s.used.Store(r)
	}
	return r.piece(n)[:n:n]
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
	if s.next < maxBytes {
		s.free = make([]byte, max(s.next, n))
	} else {
		s.free = s.Large(max(s.next, n))
	}
}

// Reset drops the current piece and starts small again.
func (s *Bytes) Reset() { s.free, s.next = nil, 0 }

// Forget drops the memory that is kept for being filled again. Any goroutine may
// call it.
func (s *Bytes) Forget() {
	if r := s.used.Load(); r != nil {
		r.forget(false)
	}
}

// Close is Forget for good, for when nothing will be received any more.
func (s *Bytes) Close() {
	if r := s.used.Load(); r != nil {
		r.forget(true)
	}
}

// Items carves values of one type, in the same way.
type Items[T any] struct {
	piece  []T
	used   int
	next   int // size of the next piece
	pinned int // bytes that the values of the piece hold
}

// pinLimit is how many bytes one value of a piece may keep from being collected
// through its neighbours, about.
const pinLimit = 256 << 10

// Next returns a zero value of its own.
func (s *Items[T]) Next() *T {
	if s.used == len(s.piece) {
		s.refill()
	}
	v := &s.piece[s.used]
	s.used++
	return v
}

// Undo takes the last value back, which nobody may hold.
func (s *Items[T]) Undo() {
	var zero T
	s.used--
	s.piece[s.used] = zero
}

// Pin says that the last value holds n bytes.
func (s *Items[T]) Pin(n int) {
	if s.pinned += n; s.pinned >= pinLimit {
		s.piece = s.piece[:s.used]
	}
}

func (s *Items[T]) refill() {
	var v T
	most := itemBytes / int(unsafe.Sizeof(v))
	if s.pinned > 0 {
		most = min(most, pinLimit/(s.pinned/s.used+1))
	}
	s.next = max(min(max(2*s.next, firstItems), most), 1)
	s.piece, s.used, s.pinned = make([]T, s.next), 0, 0
}

// Reset drops the current piece and starts small again.
func (s *Items[T]) Reset() { *s = Items[T]{} }
