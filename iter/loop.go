package iter

// A loop is one `for range` over a stream, from its first item to its last. Claims are made only in between, which is
// what allows a lone loop to reuse the memory that it has done with.
type loop[T any] struct {
	stream *Stream[T]
	chunk  *chunk[T] // what the loop claims from
	link   *link     // nil until the loop waits, unless it shares another loop's waiter
	large  bool      // there may be memory to give up
}

// status is what a loop finds when its chunk is exhausted.
type status uint8

const (
	ready status = iota // there is another chunk to claim from, unless other loops are faster
	empty               // there may be some later
	over                // there never will be
)

func (l *loop[T]) enter() {
	s := l.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loops++
	if s.cur == nil {
		s.cur, s.spare = &s.both[0], &s.both[1]
	}
	l.chunk = s.cur
}

func (l *loop[T]) leave() {
	s := l.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	l.quit()
	l.trim()
	s.loops--
}

// await waits until there is something to claim. Before it looks for that it calls hook, if it is not nil. It reports
// false when the loop is over.
func (l *loop[T]) await(hook func()) bool {
	for {
		if hook != nil {
			l.tidy()
			hook()
		}
		switch l.look(true) {
		case ready:
			return true
		case over:
			return false
		case empty:
			<-l.link.waiter
		}
	}
}

// look finds the loop a chunk to claim from. When there is none yet and the loop is going to wait for it, look gives up
// memory that a burst has left behind, and queues the loop to be woken.
func (l *loop[T]) look(wait bool) status {
	s := l.stream
	s.mu.Lock()
	found, swapped := l.peek(), false
	switch {
	case found == ready && s.cur.left() == 0:
		l.takeOver()
		swapped = true
	case found == empty && wait:
		l.trim()
		l.queue()
	}
	l.chunk = s.cur
	s.mu.Unlock()
	if swapped && s.swap != nil {
		s.swap()
	}
	return found
}

// peek says what look would find. The lock is held.
func (l *loop[T]) peek() status {
	s := l.stream
	switch {
	case s.state == stopped:
		return over
	case s.left() > 0:
		return ready
	case s.state == ended:
		return over
	default:
		return empty
	}
}

// takeOver makes what was pushed the chunk to claim from. The lock is held. When other loops are about, they may still
// be reading what they claimed in the old chunk, and its memory is left to the garbage collector.
func (l *loop[T]) takeOver() {
	s := l.stream
	done, next := s.cur, s.spare
	if next == nil {
		next = new(chunk[T])
	}
	next.refill(s.in)
	l.large = cap(s.in) > keep || cap(done.items) > keep
	s.cur, s.spare, s.in = next, nil, nil
	if s.loops == 1 {
		s.in = done.empty()
		s.spare = done
	}
}

// tidy is trim before a hook that may take long.
func (l *loop[T]) tidy() {
	if l.large {
		l.stream.mu.Lock()
		defer l.stream.mu.Unlock()
		l.trim()
		l.large = false
	}
}

// trim gives up memory that a burst has left behind, when there is nothing to do. The lock is held.
func (l *loop[T]) trim() {
	s := l.stream
	if s.loops > 1 || s.left() > 0 {
		return
	}
	if cap(s.cur.items) > keep {
		s.cur.refill(nil)
	}
	if cap(s.in) > keep {
		s.in = nil
	}
}

// queue has a later push wake the loop. The lock is held.
func (l *loop[T]) queue() {
	if l.link == nil {
		l.link = &link{waiter: make(waiter, 1)}
	}
	if !l.link.queued {
		l.stream.idle.push(l.link)
	}
}

// unqueue is for a loop that goes on for another reason than this stream's items.
func (l *loop[T]) unqueue() {
	l.stream.mu.Lock()
	defer l.stream.mu.Unlock()
	l.quit()
}

// quit leaves the queue. A loop that had left it already was woken for items that it may not take: it passes the call
// on. The lock is held.
func (l *loop[T]) quit() {
	s := l.stream
	if l.link != nil && l.link.queued {
		s.idle.remove(l.link)
	}
	if s.idle.first != nil && s.left() > 0 {
		s.idle.wake(1)
	}
}
