package amqptest

import "time"

// An entry is a message's place in one queue.
type entry struct {
	msg         *message
	position    uint64        // the order of arrival, kept by a requeue
	expires     time.Duration // on the broker's clock; zero: never
	attempts    int           // deliveries that failed, for x-delivery-limit
	acquired    int           // deliveries that came back
	priority    uint8
	redelivered bool
}

// A ready is a ring of the entries that wait, ordered by position.
type ready struct {
	ring []entry // its length is a power of two
	head int
	n    int
}

func (r *ready) at(i int) *entry { return &r.ring[(r.head+i)&(len(r.ring)-1)] }

func (r *ready) grow() {
	if r.n < len(r.ring) {
		return
	}
	bigger := make([]entry, max(8, 2*len(r.ring)))
	for i := range r.n {
		bigger[i] = *r.at(i)
	}
	r.ring, r.head = bigger, 0
}

func (r *ready) pushBack(e entry) {
	r.grow()
	r.n++
	*r.at(r.n - 1) = e
}

func (r *ready) popFront() entry {
	first := r.at(0)
	e := *first
	*first = entry{}
	r.head = (r.head + 1) & (len(r.ring) - 1)
	r.n--
	return e
}

// insert puts an entry back where its position says. What is requeued is nearly always older than what waits,
// so the place is searched from the front and the entries before it are moved.
func (r *ready) insert(e entry) {
	r.grow()
	low, high := 0, r.n
	for low < high {
		middle := (low + high) / 2
		if r.at(middle).position < e.position {
			low = middle + 1
		} else {
			high = middle
		}
	}
	r.n++
	if low <= r.n/2 {
		r.head = (r.head - 1) & (len(r.ring) - 1)
		for i := range low {
			*r.at(i) = *r.at(i + 1)
		}
	} else {
		for i := r.n - 1; i > low; i-- {
			*r.at(i) = *r.at(i - 1)
		}
	}
	*r.at(low) = e
}

func (r *ready) clear() { *r = ready{} }
