package iter_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/leveret-mq/leveret/iter"
)

// message has the size of what a message client hands over.
type message struct {
	_        []byte
	envelope *int
}

// BenchmarkStream is the hand-over of one item from a producer, which pushes bursts, to loops that do nothing with it.
func BenchmarkStream(b *testing.B) {
	for _, loops := range []int{1, 4} {
		for _, burst := range []int{1, 32} {
			b.Run(fmt.Sprintf("loops=%d/burst=%d", loops, burst), func(b *testing.B) {
				handOver(b, loops, burst)
			})
		}
	}
}

// BenchmarkChannel is the same by a buffered channel, one item at a time.
func BenchmarkChannel(b *testing.B) {
	for _, loops := range []int{1, 4} {
		b.Run(fmt.Sprintf("loops=%d", loops), func(b *testing.B) {
			items := make(chan message, 512)
			b.ReportAllocs()
			var wg sync.WaitGroup
			for range loops {
				wg.Go(func() {
					for range items { // nothing is done with it
					}
				})
			}
			m := message{envelope: new(int)}
			for range b.N {
				items <- m
			}
			close(items)
			wg.Wait()
		})
	}
}

func handOver(b *testing.B, loops, burst int) {
	const bound = 512 // pushed between two swaps, as a prefetch would have it
	s := iter.NewStream[message]()
	room := make(chan struct{}, 1)
	s.OnSwap(func() {
		select {
		case room <- struct{}{}:
		default:
		}
	})
	items := make([]message, burst)
	for i := range items {
		items[i] = message{envelope: new(int)}
	}
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range loops {
		wg.Go(func() {
			for range s.All() {
			}
		})
	}
	for n := 0; n < b.N; n += burst {
		if n%bound == 0 && n > 0 {
			<-room
		}
		s.Push(items...)
	}
	s.End(nil)
	wg.Wait()
}

// BenchmarkClaim is the loop's side alone: what a range costs per item that is there.
func BenchmarkClaim(b *testing.B) {
	s := iter.NewStream[message]()
	items := make([]message, 512)
	b.ReportAllocs()
	n := 0
	s.Push(items...)
	for range s.All() {
		if n++; n == b.N {
			break
		}
		if n%len(items) == 0 {
			s.Push(items...)
		}
	}
}
