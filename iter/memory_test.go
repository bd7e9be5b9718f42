package iter_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"

	"github.com/leveret-mq/leveret/iter"
)

func TestAnIdleStreamPinsNoBurst(t *testing.T) {
	const burst = 50 * iter.Keep
	t.Run("its loop waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := iter.NewStream[int]()
			go func() {
				for range s.All() {
				}
			}()
			for range 3 {
				s.Push(make([]int, burst)...)
				synctest.Wait()
			}
			assert.Equal(t, 1, s.Waiting())
			assert.LessOrEqual(t, s.Held(), 2*iter.Keep)
			s.End(nil)
		})
	})
	t.Run("its loop produces", func(t *testing.T) {
		s := iter.NewStream[int]()
		looks := 0
		s.OnLook(func() {
			if looks++; looks < 3 {
				s.Push(make([]int, burst)...)
				return
			}
			assert.LessOrEqual(t, s.Held(), 2*iter.Keep, "while the hook may wait for long")
			s.End(nil)
		})
		take(3*burst, s.All())
		assert.Equal(t, 3, looks)
	})
	t.Run("its loop has left", func(t *testing.T) {
		s := iter.NewStream[int]()
		s.Push(make([]int, burst)...)
		take(burst, s.All())
		assert.LessOrEqual(t, s.Held(), 2*iter.Keep)
	})
}

func TestAStreamGivesMemoryBackWhenTheTrafficFalls(t *testing.T) {
	const burst = 50 * iter.Keep
	s := iter.NewStream[int]()
	s.Push(make([]int, burst)...)
	n := 0
	for range s.All() { // a loop that never waits, nor leaves
		if s.Len() > 0 {
			continue
		}
		if n++; n == 6 {
			break
		}
		s.Push(make([]int, 10)...)
		if n == 5 {
			assert.LessOrEqual(t, s.Held(), 2*iter.Keep)
		}
	}
}
