package iter

// A waiter is a loop's place in the queues of those that wait for items. It has one channel for all the streams that
// the loop waits for, and one link for each.
type waiter chan struct{}

// wake is never refused: a token that is there already wakes the loop just as well.
func (w waiter) wake() {
	select {
	case w <- struct{}{}:
	default:
	}
}

// A link is a waiter's place in the queue of one stream. The stream's lock guards it.
type link struct {
	waiter     waiter
	queued     bool
	prev, next *link
}

// A queue is first in, first out, and can be left from anywhere.
type queue struct{ first, last *link }

func (q *queue) push(l *link) {
	l.queued, l.prev, l.next = true, q.last, nil
	if q.last == nil {
		q.first = l
	} else {
		q.last.next = l
	}
	q.last = l
}

func (q *queue) remove(l *link) {
	if !l.queued {
		return
	}
	if l.prev == nil {
		q.first = l.next
	} else {
		l.prev.next = l.next
	}
	if l.next == nil {
		q.last = l.prev
	} else {
		l.next.prev = l.prev
	}
	l.queued, l.prev, l.next = false, nil, nil
}

// wake wakes up to n waiters, those that have waited longest.
func (q *queue) wake(n int) {
	for ; n > 0 && q.first != nil; n-- {
		l := q.first
		q.remove(l)
		l.waiter.wake()
	}
}

// wakeAll wakes every waiter.
func (q *queue) wakeAll() {
	for q.first != nil {
		q.wake(1)
	}
}
