package slab

import (
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// collect runs the garbage collector until done.
func collect(t *testing.T, done func() bool) {
	t.Helper()
	require.Eventually(t, func() bool { runtime.GC(); return done() }, time.Minute, time.Millisecond)
}

// alone waits until nothing of other tests circulates.
func alone(t *testing.T) {
	collect(t, func() bool { return circulation.Load() == 0 })
}

func (s *Bytes) counts() (lent, kept int) {
	r := s.used.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lent, r.kept
}

func TestMemoryThatNobodyHoldsIsFilledAgain(t *testing.T) {
	alone(t)
	var s Bytes
	defer s.Close()
	const n, size = 50, 64 << 10
	var held [][]byte
	for range n {
		held = append(held, s.Large(size))
	}
	runtime.KeepAlive(held)
	collect(t, func() bool { lent, kept := s.counts(); return lent == 0 && kept == n*size })
	var again [][]byte
	for i := range n {
		b := s.Large(size - i)
		b[0] = byte(i)
		again = append(again, b)
	}
	lent, kept := s.counts()
	assert.Equal(t, n*size, lent)
	assert.Zero(t, kept)
	for i, b := range again {
		assert.EqualValues(t, i, b[0], "a piece was given out twice")
		assert.Len(t, b, size-i)
		assert.Equal(t, len(b), cap(b))
	}
	s.Close()
	collect(t, func() bool { return circulation.Load() == 0 })
	_, kept = s.counts()
	assert.Zero(t, kept, "who has closed keeps nothing")
}

func TestHeldMemoryDoesNotComeBack(t *testing.T) {
	var s Bytes
	defer s.Close()
	held := s.Large(minRecycled)
	part := held[100:101:101]
	part[0] = 42
	for range 5 {
		runtime.GC()
	}
	for range 100 {
		clear(s.Large(minRecycled))
	}
	assert.EqualValues(t, 42, part[0])
	s.Close()
}

func TestCirculationIsBounded(t *testing.T) {
	alone(t)
	var all [4]Bytes
	var held [][]byte
	for i := range all {
		for range 2 * connectionLimit / maxRecycled {
			held = append(held, all[i].Large(maxRecycled))
		}
		lent, kept := all[i].counts()
		assert.LessOrEqual(t, lent+kept, connectionLimit)
	}
	assert.LessOrEqual(t, circulation.Load(), int64(circulationLimit))
	runtime.KeepAlive(held)
	for i := range all {
		all[i].Close()
	}
	collect(t, func() bool { return circulation.Load() == 0 })
}

func TestSizesThatAreAskedForNoMoreGiveWay(t *testing.T) {
	alone(t)
	var s Bytes
	defer s.Close()
	var held [][]byte
	for range connectionLimit / maxRecycled {
		held = append(held, s.Large(maxRecycled))
	}
	runtime.KeepAlive(held)
	collect(t, func() bool { _, kept := s.counts(); return kept == connectionLimit })
	s.Large(minRecycled)
	lent, kept := s.counts()
	assert.Equal(t, minRecycled, lent)
	assert.Zero(t, kept)
	s.Close()
}

func TestForgottenMemoryIsCollected(t *testing.T) {
	alone(t)
	var s Bytes
	defer s.Close()
	s.Large(maxRecycled)
	collect(t, func() bool { _, kept := s.counts(); return kept == maxRecycled })
	s.Forget()
	_, kept := s.counts()
	assert.Zero(t, kept)
	s.Close()
}

func TestMemoryKeepsNobodyFromBeingCollected(t *testing.T) {
	s := new(Bytes)
	s.next = maxBytes
	s.Make(10) // of a piece that s holds
	held := weak.Make(s)
	s.Close()
	collect(t, func() bool { return held.Value() == nil })
}
