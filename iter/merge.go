package iter

// Merge ranges over several streams in one loop, one item of each in turn, and waits when all are empty. It starts no
// goroutine. It ends when all streams have ended; nil streams are left out. After break the streams go on: they can be
// ranged over again, merged or singly.
func Merge[T any](streams ...*Stream[T]) Seq[T] {
	return func(yield func(T) bool) {
		m := merger[T]{call: make(waiter, 1)}
		defer m.leave()
		for _, s := range streams {
			if s != nil {
				m.add(s)
			}
		}
		for {
			switch m.round(yield) {
			case over:
				return
			case empty:
				m.wait()
			}
		}
	}
}

// merger is the loops of one Merge, which share a waiter.
type merger[T any] struct {
	loops []*loop[T]
	call  waiter
}

func (m *merger[T]) add(s *Stream[T]) {
	l := &loop[T]{stream: s, link: &link{waiter: m.call}}
	l.enter()
	m.loops = append(m.loops, l)
}

// round gives yield one item of each stream that has any. It says empty when none had, and over when all streams are,
// or the body.
func (m *merger[T]) round(yield func(T) bool) status {
	result := over
	for _, l := range m.loops {
		item, found := l.next()
		result = min(result, found)
		if found == ready && !yield(item) {
			return over
		}
	}
	return result
}

// wait returns when a stream may have something new. The streams that did not call are told to call somebody else while
// the loop is busy.
func (m *merger[T]) wait() {
	news, queued := false, false
	for _, l := range m.loops {
		found := l.look(true)
		news = news || found == ready
		queued = queued || found == empty
	}
	if queued && !news {
		<-m.call
	}
	for _, l := range m.loops {
		l.unqueue()
	}
}

func (m *merger[T]) leave() {
	for _, l := range m.loops {
		l.leave()
	}
}

// next claims one item without waiting.
func (l *loop[T]) next() (item T, found status) {
	for {
		if item, ok := l.chunk.one(); ok {
			return item, ready
		}
		if found = l.look(false); found != ready {
			return item, found
		}
	}
}
