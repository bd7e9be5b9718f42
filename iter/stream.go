package iter

import (
	"slices"
	"sync"
)

// A Stream carries items from a producer that must never wait to `for range` loops that may. The producer appends to
// one buffer; a loop that has nothing left swaps it for the other, so that the two meet once a burst and not once an
// item. What bounds the buffer is the producer's business, see [Stream.Len] and [Stream.OnSwap].
//
// The zero value is ready for use. A Stream must not be copied. All methods are safe for concurrent use.
type Stream[T any] struct {
	mu    sync.Mutex
	in    []T         // pushed, and not yet taken over by any loop; after Stop, all that nobody took
	cur   *chunk[T]   // what the loops are claiming from
	spare *chunk[T]   // nil, or a chunk that no loop can still be reading
	both  [2]chunk[T] // the chunks of a stream that one loop at a time ranges over
	loops int         // that range over the stream now
	idle  queue       // the loops that wait
	state state
	err   error
	look  func() // nil, or called before a loop looks for more
	swap  func() // nil, or called after a loop has taken over the buffer
}

// state is how far a stream's end has come.
type state uint8

const (
	live    state = iota
	ended         // nothing more is pushed
	stopped       // and nothing more is given out
)

// NewStream makes a stream.
func NewStream[T any]() *Stream[T] { return new(Stream[T]) }

// OnSwap has hook called, on the loop's goroutine and without a lock, each time a loop has taken over what was
// buffered: when a producer with a bound may go on. It must be set before the stream is used.
func (s *Stream[T]) OnSwap(hook func()) { s.swap = hook }

// OnLook has hook called each time a loop of All or AllErr looks for more, which it may have to wait for: a producer can
// use the loop's goroutine to produce it. What the hook has pushed the loop takes at once. It is called without a lock, by
// several loops at the same time, and also when something is there or the stream has ended; while it runs, nothing wakes
// its loop, so a hook that waits has to look after that. It must be set before the stream is used.
func (s *Stream[T]) OnLook(hook func()) { s.look = hook }

// Push appends items, in one step, and wakes as many waiting loops as there are items. It never blocks, and does not
// keep the slice. After End or Stop it drops the items and returns false.
func (s *Stream[T]) Push(items ...T) bool {
	s.mu.Lock()
	if s.state != live {
		s.mu.Unlock()
		return false
	}
	s.in = append(s.in, items...)
	if s.idle.first != nil {
		s.idle.wake(len(items))
	}
	s.mu.Unlock()
	return true
}

// End says that no more will come: the loops end when they have taken what is buffered. Err returns err from now on.
// After End or Stop it does nothing.
func (s *Stream[T]) End(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish(ended, err)
}

// Stop ends the loops now: once it has returned, none takes another item, and what nobody took is left for Drain.
// Err returns err, unless End came first; Stop after End still stops at once.
func (s *Stream[T]) Stop(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur != nil && s.state != stopped {
		rest := s.cur.seal()
		s.in = slices.Concat(rest, s.in)
		clear(rest)
	}
	s.finish(stopped, err)
}

func (s *Stream[T]) finish(to state, err error) {
	if s.state == live {
		s.err = err
	}
	s.state = max(s.state, to)
	s.idle.wakeAll()
}

// Drain returns, after Stop, the items that no loop took, in order. Each is returned once. Before Stop there are none.
func (s *Stream[T]) Drain() []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != stopped {
		return nil
	}
	rest := s.in
	s.in = nil
	return rest
}

// Err says why the stream has ended, in the words of End or Stop. It is nil while the stream is live.
func (s *Stream[T]) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Len is how many items no loop has taken yet.
func (s *Stream[T]) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left()
}

// All ranges over the stream's items and waits for them. It ends with the stream, see End and Stop. Several loops share
// the items: each item is given to one of them. After break, ranging again continues with the next item.
func (s *Stream[T]) All() Seq[T] {
	return func(yield func(T) bool) {
		l := loop[T]{stream: s}
		l.enter()
		defer l.leave()
		for l.await(s.look) {
			for item, ok := l.chunk.one(); ok; item, ok = l.chunk.one() {
				if !yield(item) {
					return
				}
			}
		}
	}
}

// AllErr is All with the reason for the end: each item comes with a nil error, and after the last one comes Err, if it
// is not nil, with no item.
func (s *Stream[T]) AllErr() Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for item := range s.All() {
			if !yield(item, nil) {
				return
			}
		}
		if err := s.Err(); err != nil {
			var none T
			yield(none, err)
		}
	}
}

// left is Len with the lock held.
func (s *Stream[T]) left() int {
	n := len(s.in)
	if s.cur != nil {
		n += s.cur.left()
	}
	return n
}
