package iter_test

import (
	"errors"
	stditer "iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/iter"
)

var errGone = errors.New("the producer is gone")

// ended is a stream of items that will be all.
func ended[T any](items ...T) *iter.Stream[T] {
	s := iter.NewStream[T]()
	s.Push(items...)
	s.End(nil)
	return s
}

// take is what the first n rounds of a loop get.
func take[T any](n int, seq iter.Seq[T]) (got []T) {
	for item := range seq {
		got = append(got, item)
		if len(got) == n {
			break
		}
	}
	return got
}

func TestItemsComeInOrder(t *testing.T) {
	s := iter.NewStream[int]()
	s.Push(1, 2)
	s.Push()
	s.Push(3)
	s.End(nil)
	assert.Equal(t, []int{1, 2, 3}, slices.Collect(s.All()))
	assert.Empty(t, slices.Collect(s.All()), "once")
}

func TestTheZeroStreamIsReady(t *testing.T) {
	var consumer struct {
		name   string
		stream iter.Stream[string]
	}
	assert.Zero(t, consumer.stream.Len())
	assert.NoError(t, consumer.stream.Err())
	consumer.stream.Push("a")
	consumer.stream.Stop(errGone)
	assert.Empty(t, slices.Collect(consumer.stream.All()))
	assert.Equal(t, []string{"a"}, consumer.stream.Drain())
}

func TestPushCopies(t *testing.T) {
	s := iter.NewStream[int]()
	burst := []int{1, 2}
	s.Push(burst...)
	clear(burst)
	s.End(nil)
	assert.Equal(t, []int{1, 2}, slices.Collect(s.All()))
}

func TestPushAfterTheEndDropsItsItems(t *testing.T) {
	for name, end := range map[string]func(*iter.Stream[int], error){"End": (*iter.Stream[int]).End, "Stop": (*iter.Stream[int]).Stop} {
		s := iter.NewStream[int]()
		assert.True(t, s.Push(1), name)
		end(s, nil)
		assert.False(t, s.Push(2), name)
		assert.Equal(t, 1, s.Len(), name)
	}
}

// trickle pushes 0 to n-1, one a second, and ends the stream a second later. It belongs into a bubble.
func trickle(s *iter.Stream[int], n int) {
	for i := range n {
		time.Sleep(time.Second)
		s.Push(i)
	}
	time.Sleep(time.Second)
	s.End(nil)
}

func TestALoopWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := iter.NewStream[int]()
		begin := time.Now()
		go trickle(s, 5)
		n := 0
		for i := range s.All() {
			assert.Equal(t, n, i)
			n++
			assert.Equal(t, time.Duration(n)*time.Second, time.Since(begin))
		}
		assert.Equal(t, 5, n)
		assert.Equal(t, 6*time.Second, time.Since(begin))
	})
}

func TestABreakLosesNothing(t *testing.T) {
	s := ended(1, 2, 3, 4, 5)
	assert.Equal(t, []int{1, 2}, take(2, s.All()))
	all := s.All()
	assert.Equal(t, []int{3}, take(1, all))
	assert.Equal(t, []int{4}, take(1, all), "a sequence can be ranged over again")
	assert.Equal(t, 1, s.Len())
	assert.Equal(t, []int{5}, slices.Collect(all))
}

func TestAPanicLeavesTheLoop(t *testing.T) {
	s := ended(1, 2, 3)
	for range 2 {
		assert.Panics(t, func() {
			for range s.All() {
				panic("the body is broken")
			}
		})
	}
	assert.Equal(t, []int{3}, slices.Collect(s.All()))
	assert.Zero(t, s.Loops(), "or memory would never be reused")
	for range iter.Batches(ended(1), 1, 0) {
		break
	}
}

func TestEndLetsTheBufferBeTaken(t *testing.T) {
	s := iter.NewStream[int]()
	s.Push(1, 2)
	assert.NoError(t, s.Err())
	s.End(errGone)
	s.End(nil)
	assert.Equal(t, errGone, s.Err(), "the first reason counts")
	assert.Nil(t, s.Drain(), "they still belong to the loops")
	assert.Equal(t, []int{1, 2}, slices.Collect(s.All()))
}

func TestStopEndsTheLoopNow(t *testing.T) {
	s := iter.NewStream[int]()
	s.Push(1, 2)
	var got []int
	for i := range s.All() {
		got = append(got, i)
		s.Push(3, 4)
		s.Stop(errGone)
		assert.Equal(t, 3, s.Len())
		s.Stop(nil)
		s.End(nil)
	}
	assert.Equal(t, []int{1}, got, "not another item")
	assert.Equal(t, errGone, s.Err())
	assert.Equal(t, []int{2, 3, 4}, s.Drain(), "in order")
	assert.Nil(t, s.Drain(), "once")
	assert.Zero(t, s.Len())
}

func TestStopAfterEnd(t *testing.T) {
	s := ended(1, 2, 3)
	s2 := iter.NewStream[int]()
	s2.Push(1)
	s2.End(errGone)
	for range s.All() {
		s.Stop(errGone)
	}
	assert.Equal(t, []int{2, 3}, s.Drain(), "stops at once")
	assert.NoError(t, s.Err(), "and the reason stays")
	s2.Stop(nil)
	assert.Equal(t, errGone, s2.Err())
}

func TestTheEndWakesAllLoops(t *testing.T) {
	for name, end := range map[string]func(*iter.Stream[int], error){"End": (*iter.Stream[int]).End, "Stop": (*iter.Stream[int]).Stop} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := iter.NewStream[int]()
				for range 3 {
					go func() {
						for range s.All() {
						}
					}()
				}
				synctest.Wait()
				end(s, nil) // the bubble reports loops that stay behind
			})
		})
	}
}

// gather starts loops that keep what they got and then are busy until the bubble's clock moves on.
func gather(s *iter.Stream[int], loops int) func() []int {
	var mu sync.Mutex
	var got []int
	for range loops {
		go func() {
			for i := range s.All() {
				mu.Lock()
				got = append(got, i)
				mu.Unlock()
				time.Sleep(time.Hour)
			}
		}()
		synctest.Wait() // they queue one after the other
	}
	return func() []int {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return slices.Sorted(slices.Values(got))
	}
}

func TestABurstWakesAsManyLoopsAsItHasItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := iter.NewStream[int]()
		got := gather(s, 4)
		s.Push(1, 2, 3)
		assert.Equal(t, []int{1, 2, 3}, got(), "each has one, none waits for a busy loop")
		s.Push(4, 5)
		assert.Equal(t, []int{1, 2, 3, 4}, got(), "all are busy")
		s.End(nil)
		time.Sleep(3 * time.Hour)
		assert.Equal(t, []int{1, 2, 3, 4, 5}, got())
	})
}

func TestWaitingLoopsAreServedFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := iter.NewStream[int]()
		var order []int
		for loop := range 3 {
			go func() {
				for range s.All() {
					order = append(order, loop)
				}
			}()
			synctest.Wait()
		}
		for range 6 {
			s.Push(0)
			synctest.Wait()
		}
		assert.Equal(t, []int{0, 1, 2, 0, 1, 2}, order)
		s.End(nil)
		synctest.Wait()
	})
}

func TestTheHookIsCalledForEachSwapAndWithoutTheLock(t *testing.T) {
	s := iter.NewStream[int]()
	swaps := 0
	s.OnSwap(func() {
		swaps++
		assert.Positive(t, s.Len()) // with the lock held this would hang
	})
	s.Push(1, 2)
	s.Push(3)
	for i := range s.All() {
		switch i {
		case 1:
			assert.Equal(t, 1, swaps, "before the first item")
			s.Push(4)
			s.End(nil)
		case 3:
			assert.Equal(t, 1, swaps)
		}
	}
	assert.Equal(t, 2, swaps)
}

func TestTheLoopTakesWhatTheHookHasPushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // nobody else could wake a loop that waits
		s := iter.NewStream[int]()
		looks := 0
		s.OnLook(func() {
			assert.Equal(t, max(0, 1-looks), s.Len()) // with the lock held this would hang
			assert.NoError(t, s.Err())
			switch looks++; looks {
			case 1:
				s.Push(2, 3)
			case 2:
				s.Push(4)
			case 3:
				s.End(errGone)
			}
		})
		s.Push(1)
		var got []int
		for i := range s.All() {
			got = append(got, i, looks)
		}
		assert.Equal(t, []int{1, 1, 2, 1, 3, 1, 4, 2}, got, "it looks when it has taken all")
		assert.Equal(t, 3, looks, "it does not look beyond the end")
	})
}

func TestAPanicOfTheHookIsTheLoops(t *testing.T) {
	s := iter.NewStream[int]()
	s.OnLook(func() { panic("the hook is broken") })
	s.Push(1)
	assert.Panics(t, func() { take(1, s.All()) }, "on its goroutine")
	assert.Zero(t, s.Loops())
}

func TestOnlyAllAndAllErrCallTheHook(t *testing.T) {
	for name, c := range map[string]struct {
		loop  func(*iter.Stream[int])
		looks int
	}{
		"All": {func(s *iter.Stream[int]) { take(2, s.All()) }, 2},
		"AllErr": {func(s *iter.Stream[int]) {
			for _, err := range s.AllErr() {
				assert.NoError(t, err)
			}
		}, 2},
		"Batches": {func(s *iter.Stream[int]) { take(2, iter.Batches(s, 2, time.Second)) }, 0},
		"Merge":   {func(s *iter.Stream[int]) { take(2, iter.Merge(s)) }, 0},
	} {
		s := iter.NewStream[int]()
		looks := 0
		s.OnLook(func() { looks++ })
		s.Push(1)
		s.End(nil)
		c.loop(s)
		assert.Zero(t, s.Len(), name)
		assert.Equal(t, c.looks, looks, name)
	}
}

func TestALoopWaitsWhenTheHookHasDoneNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := iter.NewStream[int]()
		looks := 0
		s.OnLook(func() { looks++ })
		begin := time.Now()
		go trickle(s, 3)
		assert.Equal(t, []int{0, 1, 2}, slices.Collect(s.All()))
		assert.Equal(t, 4*time.Second, time.Since(begin))
		assert.Equal(t, 2*4, looks, "before it waits, and after")
	})
}

func TestTheHookMayEndTheLoop(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*iter.Stream[int], error)
		want []int
	}{"End": {(*iter.Stream[int]).End, []int{1}}, "Stop": {(*iter.Stream[int]).Stop, nil}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // which reports a loop that waits
				s := iter.NewStream[int]()
				s.OnLook(func() { c.end(s, errGone) })
				s.Push(1)
				assert.Equal(t, c.want, slices.Collect(s.All()))
				assert.Equal(t, errGone, s.Err())
			})
		})
	}
}

func TestAllErr(t *testing.T) {
	s := iter.NewStream[int]()
	s.Push(7, 8)
	s.End(errGone)
	var got []any
	for i, err := range s.AllErr() {
		got = append(got, i, err)
		if i == 7 {
			break // not the end: no error yet
		}
	}
	for i, err := range s.AllErr() {
		got = append(got, i, err)
	}
	assert.Equal(t, []any{7, nil, 8, nil, 0, errGone}, got)
	for i, err := range ended[int]().AllErr() {
		t.Error("an end without a reason is no item", i, err)
	}
}

func TestLoopsWithinLoopsAndPulls(t *testing.T) {
	s := ended(1, 2, 3, 4)
	next, stop := stditer.Pull(s.All())
	first, _ := next()
	for i := range s.All() {
		assert.Equal(t, 2, i)
		for j := range s.All() {
			assert.Equal(t, 3, j)
			break
		}
		break
	}
	last, ok := next()
	assert.Equal(t, []any{1, 4, true}, []any{first, last, ok})
	stop()
	assert.Zero(t, s.Loops())
}

func TestTakenItemsAreNotPinned(t *testing.T) {
	loops := map[string]func(*iter.Stream[*[64]byte]){
		"All": func(s *iter.Stream[*[64]byte]) { take(8, s.All()) },
		"Batches": func(s *iter.Stream[*[64]byte]) {
			for range iter.Batches(s, 8, 0) {
				break
			}
		},
		"Merge": func(s *iter.Stream[*[64]byte]) { take(8, iter.Merge(s)) },
		"Drain": func(s *iter.Stream[*[64]byte]) { take(4, s.All()); s.Stop(nil); s.Drain() },
	}
	for name, loop := range loops {
		s := iter.NewStream[*[64]byte]()
		var refs []weak.Pointer[[64]byte]
		for range 8 {
			item := new([64]byte)
			refs = append(refs, weak.Make(item))
			s.Push(item)
		}
		loop(s)
		runtime.GC()
		for _, ref := range refs {
			assert.Nil(t, ref.Value(), name)
		}
		runtime.KeepAlive(s)
	}
}

// tally counts how often each of many items was seen.
type tally []atomic.Int32

func (c tally) see(items ...int) {
	for _, i := range items {
		c[i].Add(1)
	}
}

func (c tally) requireOnce(t *testing.T) {
	t.Helper()
	for i := range c {
		require.EqualValues(t, 1, c[i].Load(), "item %d", i)
	}
}

// consumers are the ways to range over a stream, each a loop that gives up once in a while and starts again.
var consumers = []func(s *iter.Stream[int], seen tally, round int){
	func(s *iter.Stream[int], seen tally, round int) {
		for i := range s.All() {
			if seen.see(i); i%17 == round%17 {
				break
			}
		}
	},
	func(s *iter.Stream[int], seen tally, round int) {
		for batch := range iter.Batches(s, 1+round%9, time.Duration(round%2)*time.Microsecond) {
			if seen.see(batch...); batch[0]%17 == round%17 {
				break
			}
		}
	},
	func(s *iter.Stream[int], seen tally, round int) {
		for i := range iter.Merge(s, s) {
			if seen.see(i); i%17 == round%17 {
				break
			}
		}
	},
}

// Whatever producers and loops do, each item is seen once: by a loop, or by Drain, or by the producer, to whom Push
// said that it was dropped.
func TestEachItemIsSeenOnce(t *testing.T) {
	const producers, each = 3, 400
	tests := map[string]struct {
		loops int
		stop  bool
	}{
		"one loop": {1, false}, "one loop, stopped": {1, true}, "many loops": {6, false}, "many loops, stopped": {6, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for round := range 20 {
				s := iter.NewStream[int]()
				seen := make(tally, producers*each)
				var over atomic.Bool
				var pushing, ranging, stopping sync.WaitGroup
				for p := range producers {
					pushing.Go(func() {
						for i := 0; i < each; {
							burst := make([]int, min(each-i, 1+i%5))
							for j := range burst {
								burst[j] = p*each + i + j
							}
							if !s.Push(burst...) {
								seen.see(burst...)
							}
							i += len(burst)
						}
					})
				}
				for l := range tt.loops {
					ranging.Go(func() {
						for n := 0; !over.Load() || s.Len() > 0; n++ {
							consumers[(l+round)%len(consumers)](s, seen, n)
						}
					})
				}
				if tt.stop {
					stopping.Go(func() {
						for s.Len() < 20+round*10 && !over.Load() {
							runtime.Gosched()
						}
						s.Stop(errGone)
						seen.see(s.Drain()...)
					})
				}
				pushing.Wait()
				over.Store(true)
				s.End(nil)
				ranging.Wait()
				stopping.Wait()
				seen.requireOnce(t)
				require.Zero(t, s.Loops())
			}
		})
	}
}
