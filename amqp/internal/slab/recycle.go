package slab

import (
	"math/bits"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	minRecycled = 16 << 10
	maxRecycled = 1 << 20
	classes     = 6*4 + 1 // four to each doubling
	// circulationLimit bounds what all connections together have in
	// circulation, so that it does not grow with their number.
	circulationLimit = 32 << 20
	// connectionLimit is where more gains a connection nothing.
	connectionLimit = 16 << 20
)

// circulation is how many bytes come back when nobody holds them any more, or
// have come back.
var circulation atomic.Int64

// recycler gives out pieces of memory again when the garbage collector has found
// that nobody holds anything of them. A program with a small heap is collected
// for every 4 MiB that it receives, and gets memory of the operating system's
// anew for much of that: bodies of 1 KiB to 1 MiB cost 1.6 to 2.2 times as much
// without this.
//
// A piece comes back by its finalizer, so it is out of everybody's reach. It has
// no pointers, and so nothing that it could keep from being collected.
type recycler struct {
	mu     sync.Mutex
	free   [classes][]*byte
	back   [classes]func(*byte) // the finalizers
	lent   int                  // bytes with a finalizer
	kept   int                  // bytes in free
	closed bool
}

// class is the smallest class whose pieces hold n bytes.
func class(n int) int {
	n = max(n, minRecycled)
	doubling := bits.Len(uint(n-1)) - 1 // so that 1<<doubling < n, or n is the least
	quarter := (n-1)>>(doubling-2)&3 + 1
	return (doubling-bits.Len(minRecycled-1))*4 + quarter
}

// size is the length of a class's pieces.
func size(class int) int { return minRecycled >> 2 * (4 + class&3) << (class >> 2) }

// piece returns n bytes with anything in them, n being from minRecycled to
// maxRecycled. Their capacity may be larger.
func (r *recycler) piece(n int) []byte {
	c := class(n)
	n = size(c)
	p, returns := r.take(c, n)
	if p == nil {
		p = unsafe.SliceData(uncleared(n)) // #nosec G103 -- it has n bytes
	}
	if returns {
		runtime.SetFinalizer(p, r.back[c])
	}
	return unsafe.Slice(p, n) // #nosec G103 -- it was made with the size of its class
}

// uncleared is n new bytes that nobody has set to zero, which for memory that is
// about to be overwritten is a tenth to a quarter of what it costs. They are a
// string's only until they are returned.
func uncleared(n int) []byte {
	var b strings.Builder
	b.Grow(n)
	return unsafe.Slice(unsafe.StringData(b.String()), n) // #nosec G103 -- Grow has made them, and the string is empty
}

// take takes a piece that has come back, if there is one. It reports whether the
// piece is to come back again.
func (r *recycler) take(c, n int) (p *byte, returns bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := len(r.free[c]) - 1; last >= 0 {
		p, r.free[c][last] = r.free[c][last], nil
		r.free[c] = r.free[c][:last]
		r.kept -= n
		r.lent += n
		return p, true
	}
	if r.lent+r.kept+n > connectionLimit {
		r.drop() // what is there is of other sizes
	}
	if r.lent+r.kept+n > connectionLimit || !circulate(n) {
		return nil, false
	}
	if r.back[c] == nil {
		r.back[c] = func(p *byte) { r.takeBack(c, p) }
	}
	r.lent += n
	return nil, true
}

// circulate enters n bytes, if there may be so many.
func circulate(n int) bool {
	if circulation.Add(int64(n)) <= circulationLimit {
		return true
	}
	circulation.Add(int64(-n))
	return false
}

func (r *recycler) takeBack(c int, p *byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := size(c)
	r.lent -= n
	if r.closed {
		circulation.Add(int64(-n))
		return
	}
	r.kept += n
	r.free[c] = append(r.free[c], p)
}

// forget drops what is kept, and with last set also what will come back.
func (r *recycler) forget(last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop()
	r.closed = r.closed || last
}

// drop leaves what is kept to the garbage collector.
func (r *recycler) drop() {
	clear(r.free[:])
	circulation.Add(int64(-r.kept))
	r.kept = 0
}
