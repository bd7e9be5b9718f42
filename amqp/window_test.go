package amqp

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fill enters numbers up to last, each kept as itself, and closes those that
// are not in open.
func fill(w *window[uint64], last uint64, open map[uint64]bool) {
	isOpen := func(n uint64) bool { return n != 0 }
	if w.next == 0 {
		w.base, w.next = 1, 1
	}
	for w.next <= last {
		w.reserve(1, isOpen)
		if open[w.next] {
			*w.at(w.next) = w.next
			w.open++
		}
		w.next++
	}
}

func TestWindowGrowsWithWhatIsOpen(t *testing.T) {
	var w window[uint64]
	open := map[uint64]bool{}
	for n := uint64(1); n <= 10*sparse; n++ {
		open[n] = true
	}
	fill(&w, 10*sparse, open)
	assert.Len(t, w.ring, 16*sparse)
	assert.Empty(t, w.old)
	for n := w.base; n < w.next; n++ {
		require.Equal(t, n, *w.at(n))
	}
}

func TestWindowLeavesWhatIsOpenBehind(t *testing.T) {
	var w window[uint64]
	open := map[uint64]bool{7: true, sparse - 1: true, 3*sparse + 5: true}
	fill(&w, 5*sparse, open)
	assert.Len(t, w.ring, sparse)
	assert.Equal(t, map[uint64]uint64{7: 7, sparse - 1: sparse - 1, 3*sparse + 5: 3*sparse + 5}, w.old)
	for n := w.base; n < w.next; n++ {
		require.Zero(t, *w.at(n))
	}
	assert.Zero(t, w.open)
}

// A number is found at its place wherever the ring has wrapped when it grows.
func TestWindowGrowsAtAnyPlace(t *testing.T) {
	for base := uint64(1); base < 3*firstRing; base++ {
		w := window[uint64]{base: base, next: base}
		isOpen := func(n uint64) bool { return n != 0 }
		for range 3 * firstRing {
			w.reserve(1, isOpen)
			*w.at(w.next) = w.next
			w.next++
		}
		for n := w.base; n < w.next; n++ {
			require.Equal(t, n, *w.at(n))
		}
	}
}

func TestWindowReservesManyAtOnce(t *testing.T) {
	var w window[uint64]
	w.reserve(1, nil)
	assert.Len(t, w.ring, firstRing)
	w.reserve(1000, nil)
	assert.Len(t, w.ring, 1024)
	w.next += 1000
	w.reserve(1<<13, func(uint64) bool { return false })
	assert.GreaterOrEqual(t, len(w.ring), 1<<13)
}
