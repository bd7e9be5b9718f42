package iter_test

import (
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/iter"
)

func TestABatchIsFullOrLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := iter.NewStream[int]()
		begin := time.Now()
		go func() {
			s.Push(1, 2, 3, 4, 5, 6, 7) // two batches at once, and the first of a third
			time.Sleep(600 * time.Millisecond)
			s.Push(8) // within the wait
			time.Sleep(600 * time.Millisecond)
			s.Push(9)                          // too late: the fourth
			time.Sleep(900 * time.Millisecond) // within the wait of 9, though not of 8
			s.Push(10, 11, 12)                 // a full batch, and a rest
			time.Sleep(time.Minute)
			s.End(nil)
		}()
		type event struct {
			at    time.Duration
			batch []int
		}
		var got []event
		for batch := range iter.Batches(s, 3, time.Second) {
			got = append(got, event{time.Since(begin).Round(time.Millisecond), batch})
		}
		assert.Equal(t, []event{
			{0, []int{1, 2, 3}},
			{0, []int{4, 5, 6}},
			{1000 * time.Millisecond, []int{7, 8}},
			{2100 * time.Millisecond, []int{9, 10, 11}},
			{3100 * time.Millisecond, []int{12}},
		}, got, "and each slice is the loop's to keep")
		assert.Equal(t, 62100*time.Millisecond, time.Since(begin))
	})
}

func TestABatchWithoutAWaitIsWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, wait := range []time.Duration{0, -1} {
			s := iter.NewStream[int]()
			go func() {
				s.Push(1, 2)
				time.Sleep(time.Nanosecond)
				s.Push(3)
				time.Sleep(time.Nanosecond)
				s.End(nil)
			}()
			got := slices.Collect(iter.Batches(s, 10, wait))
			assert.Equal(t, [][]int{{1, 2}, {3}}, got)
		}
	})
}

func TestABatchGathersWhatSeveralPushesLeft(t *testing.T) {
	s := iter.NewStream[int]()
	s.Push(1, 2)
	assert.Equal(t, []int{1}, take(1, s.All())) // 2 has been taken over, too
	s.Push(3)
	s.Push(4, 5)
	assert.Equal(t, [][]int{{2, 3, 4}}, take(1, iter.Batches(s, 3, time.Hour)))
	assert.Equal(t, 1, s.Len())
}

func TestBatchesOfAnySize(t *testing.T) {
	for size, want := range map[int][][]int{
		-1: {{1}, {2}, {3}}, 0: {{1}, {2}, {3}}, 1: {{1}, {2}, {3}}, 2: {{1, 2}, {3}}, 3: {{1, 2, 3}}, math.MaxInt: {{1, 2, 3}},
	} {
		assert.Equal(t, want, slices.Collect(iter.Batches(ended(1, 2, 3), size, time.Hour)), "size %d", size)
	}
	assert.Empty(t, slices.Collect(iter.Batches(ended[int](), 2, time.Hour)))
}

func TestStopGivesOutTheBatchInHandAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := iter.NewStream[int]()
		var got [][]int
		over := make(chan struct{})
		go func() {
			defer close(over)
			got = slices.Collect(iter.Batches(s, 10, time.Hour))
		}()
		s.Push(1, 2)
		synctest.Wait() // taken, and waiting for more
		begin := time.Now()
		s.Stop(errGone)
		<-over
		assert.Equal(t, [][]int{{1, 2}}, got)
		assert.Zero(t, time.Since(begin), "at once")
		assert.Empty(t, s.Drain())

		s = iter.NewStream[int]()
		s.Push(1, 2, 3)
		for batch := range iter.Batches(s, 2, 0) {
			assert.Equal(t, []int{1, 2}, batch)
			s.Stop(nil)
		}
		assert.Equal(t, []int{3}, s.Drain(), "nothing more")
	})
}

func TestABrokenBatchLoopLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := iter.NewStream[int]()
		s.Push(1)
		for range iter.Batches(s, 2, time.Second) { // after a wait
			break
		}
		assert.Zero(t, s.Waiting())
		assert.Zero(t, s.Loops())
		s.Push(2)
		assert.Panics(t, func() {
			for range iter.Batches(s, 2, time.Second) {
				panic("the body is broken")
			}
		})
		assert.Zero(t, s.Waiting())
		assert.Zero(t, s.Loops())
	})
}

// A loop whose wait is over at the very moment at which it is woken for an item must not sit on the call: another loop
// is waiting for just that.
func TestALateCallIsPassedOn(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			s := iter.NewStream[int]()
			var taken atomic.Int32
			s.Push(0)
			go func() {
				for batch := range iter.Batches(s, 10, time.Second) {
					taken.Add(int32(len(batch)))
					time.Sleep(time.Hour)
				}
			}()
			synctest.Wait()
			go func() {
				for range s.All() {
					taken.Add(1)
				}
			}()
			synctest.Wait()
			time.Sleep(time.Second)
			s.Push(1)
			synctest.Wait()
			require.EqualValues(t, 2, taken.Load())
			s.End(nil)
			time.Sleep(2 * time.Hour)
		})
	}
}
