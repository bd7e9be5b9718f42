package iter

// Loops is how many loops range over the stream now.
func (s *Stream[T]) Loops() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loops
}

// Held is the capacity of all the memory that the stream holds on to, in items.
func (s *Stream[T]) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := cap(s.in)
	for i := range s.both {
		held += cap(s.both[i].items)
	}
	if c := s.cur; c != nil && c != &s.both[0] && c != &s.both[1] {
		held += cap(c.items)
	}
	return held
}

// Waiting is how many loops wait.
func (s *Stream[T]) Waiting() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := s.idle.first; l != nil; l = l.next {
		n++
	}
	return n
}

const Keep = keep
