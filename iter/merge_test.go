package iter_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/iter"
)

func TestMergeTakesTurns(t *testing.T) {
	a, b, c := ended("a1", "a2", "a3"), ended("b1"), ended("c1", "c2")
	got := slices.Collect(iter.Merge(a, nil, b, c))
	assert.Equal(t, []string{"a1", "b1", "c1", "a2", "c2", "a3"}, got)
}

func TestMergeOfNothing(t *testing.T) {
	assert.Empty(t, slices.Collect(iter.Merge[int]()))
	assert.Empty(t, slices.Collect(iter.Merge[int](nil)))
	assert.Empty(t, slices.Collect(iter.Merge(ended[int](), ended[int]())))
}

func TestMergeWaitsForAny(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := iter.NewStream[int](), iter.NewStream[int]()
		begin := time.Now()
		go func() {
			for i := range 6 {
				time.Sleep(time.Second)
				[]*iter.Stream[int]{a, b}[i/2%2].Push(i)
			}
			a.End(errGone) // the other goes on
			time.Sleep(time.Second)
			b.Push(6)
			time.Sleep(time.Second)
			b.Stop(nil)
		}()
		n := 0
		for i := range iter.Merge(a, b) {
			assert.Equal(t, n, i)
			n++
			assert.Equal(t, time.Duration(n)*time.Second, time.Since(begin))
		}
		assert.Equal(t, 7, n)
		assert.Equal(t, 8*time.Second, time.Since(begin))
	})
}

func TestABreakLeavesMergedStreamsUsable(t *testing.T) {
	a, b := ended(1, 3), ended(2, 4)
	assert.Equal(t, []int{1, 2}, take(2, iter.Merge(a, b)))
	assert.Equal(t, []int{3}, slices.Collect(a.All()))
	assert.Equal(t, []int{4}, slices.Collect(iter.Merge(a, b)))
	assert.Panics(t, func() {
		for range iter.Merge(ended(1), a) {
			panic("the body is broken")
		}
	})
	assert.Zero(t, a.Loops())
	assert.Zero(t, b.Loops())
}

func TestAStoppedStreamIsLeftOutOfTheMerge(t *testing.T) {
	a, b := ended(1, 2, 3), ended(10, 20, 30)
	var got []int
	for i := range iter.Merge(a, b) {
		if got = append(got, i); i == 10 {
			b.Stop(nil)
		}
	}
	assert.Equal(t, []int{1, 10, 2, 3}, got)
	assert.Equal(t, []int{20, 30}, b.Drain())
}

// While a merging loop is busy with one stream's item, another loop gets the other stream's, although the merging loop
// was called first.
func TestABusyMergeHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := iter.NewStream[int](), iter.NewStream[int]()
		var mu sync.Mutex
		var got []int
		keep := func(i int) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, i)
		}
		go func() {
			for i := range iter.Merge(a, b) {
				keep(i)
				time.Sleep(time.Hour)
			}
		}()
		synctest.Wait()
		go func() {
			for i := range b.All() {
				keep(i)
			}
		}()
		synctest.Wait()
		mu.Lock() // so that both calls find the merging loop asleep
		a.Push(1)
		b.Push(2)
		mu.Unlock()
		synctest.Wait()
		assert.ElementsMatch(t, []int{1, 2}, got)
		assert.Equal(t, 1, b.Waiting(), "and the merging loop does not wait while it is busy")
		a.End(nil)
		b.End(nil)
		time.Sleep(2 * time.Hour)
	})
}

func TestMergeMayBeCalledByAllStreamsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		streams := []*iter.Stream[int]{{}, {}, {}, {}, {}}
		got := 0
		go func() {
			for range iter.Merge(streams...) {
				got++
			}
		}()
		for range 100 {
			synctest.Wait()
			for _, s := range streams {
				s.Push(1) // never blocks
			}
		}
		for _, s := range streams {
			s.End(nil)
		}
		synctest.Wait()
		assert.Equal(t, 500, got)
	})
}

func TestMergeUnderStress(t *testing.T) {
	const streams, each = 4, 500
	for range 20 {
		all := make([]*iter.Stream[int], streams)
		seen := make(tally, streams*each)
		var wg sync.WaitGroup
		for k := range all {
			all[k] = iter.NewStream[int]()
			wg.Go(func() {
				for i := range each {
					all[k].Push(k*each + i)
				}
				all[k].End(nil)
			})
		}
		for range 2 {
			wg.Go(func() {
				last := [streams]int{}
				for i := range iter.Merge(all...) {
					seen.see(i)
					require.LessOrEqual(t, last[i/each], i%each)
					last[i/each] = i % each
				}
			})
		}
		for k := range 2 {
			wg.Go(func() { seen.see(slices.Collect(all[k].All())...) })
		}
		wg.Wait()
		seen.requireOnce(t)
	}
}
