//go:build !race

package iter_test

import (
	stditer "iter"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"

	"github.com/leveret-mq/leveret/iter"
)

// AllocsPerRun rounds down, so that many items make one run.
const perRun = 1000

func TestALoneLoopAllocatesNothingPerItem(t *testing.T) {
	for _, burst := range []int{1, 32, 500} {
		s := iter.NewStream[message]()
		items := make([]message, burst)
		for range 2 { // both buffers reach their size
			s.Push(items...)
			take(burst, s.All())
		}
		n := 0
		allocs := testing.AllocsPerRun(20, func() {
			s.Push(items...)
			for range s.All() {
				if n++; n%perRun == 0 {
					break
				}
				if n%burst == 0 {
					s.Push(items...)
				}
			}
		})
		assert.Zero(t, allocs, "burst of %d", burst)
	}
}

// Bursts beyond the usual cost nothing either while they keep coming.
func TestAStreamKeepsWhatTheTrafficNeeds(t *testing.T) {
	s := iter.NewStream[message]()
	items := make([]message, 5*iter.Keep)
	next, stop := stditer.Pull(s.All())
	defer stop()
	burst := func() {
		s.Push(items...)
		for range items {
			next()
		}
	}
	burst()
	burst()
	assert.Zero(t, testing.AllocsPerRun(10, burst))
}

// A waiting loop has its channel made once, and what wakes it is free as well.
func TestALoopAllocatesNothingPerWait(t *testing.T) {
	s := iter.NewStream[message]()
	taken := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(over)
		for range s.All() {
			taken <- struct{}{}
		}
	}()
	allocs := testing.AllocsPerRun(10, func() {
		for range perRun {
			s.Push(message{})
			<-taken
		}
	})
	assert.Less(t, allocs, float64(perRun/100))
	s.End(nil)
	<-over
}

func TestMergeAllocatesNothingPerItem(t *testing.T) {
	a, b := iter.NewStream[message](), iter.NewStream[message]()
	n := 0
	items := make([]message, 32)
	allocs := testing.AllocsPerRun(20, func() {
		a.Push(items...)
		for range iter.Merge(a, b) {
			if n++; n%perRun == 0 {
				break
			}
			if n%16 == 0 {
				a.Push(items[:8]...)
				b.Push(items[:8]...)
			}
		}
	})
	assert.Less(t, allocs, 20.0, "the loop has some, its items none")
}

// A client has a stream for each consumer, by value.
func TestAStreamIsSmall(t *testing.T) {
	assert.LessOrEqual(t, unsafe.Sizeof(iter.Stream[message]{}), uintptr(192))
}
