package slab

import (
	"sync"
	"sync/atomic"
)

const (
	// reserveSize is from where on more gains little.
	reserveSize = 8 << 20
	// reserveAfter is what the garbage collector lets a small heap allocate
	// before it runs: who receives less than that is not slowed down by it.
	reserveAfter = 4 << 20
)

// reserve is shared by all who want it.
var reserve struct {
	mu      sync.Mutex
	holders int
	memory  []byte
}

// Reserve keeps the garbage collector from running for every 4 MiB while a lot is
// received, by holding memory that nobody ever touches: the heap may then grow by
// as much before it is collected. In a program with a large heap it changes
// nothing. Messages of 16 bytes cost a sixth less with it, and those with a
// header table more than a quarter.
//
// The zero value is ready. There is one such memory, whoever holds it.
type Reserve struct {
	received int // since nothing is held; belongs to the one who receives
	held     atomic.Bool
}

// Received says that n bytes have come.
func (r *Reserve) Received(n int) {
	if r.held.Load() {
		return
	}
	if r.received += n; r.received < reserveAfter {
		return
	}
	r.received = 0
	reserve.mu.Lock()
	defer reserve.mu.Unlock()
	if reserve.holders++; reserve.memory == nil {
		reserve.memory = uncleared(reserveSize)
	}
	r.held.Store(true)
}

// Release lets go of the memory. Any goroutine may call it, and again.
func (r *Reserve) Release() {
	reserve.mu.Lock()
	defer reserve.mu.Unlock()
	if !r.held.Load() {
		return
	}
	r.held.Store(false)
	if reserve.holders--; reserve.holders == 0 {
		reserve.memory = nil
	}
}
