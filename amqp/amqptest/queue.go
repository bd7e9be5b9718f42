package amqptest

import (
	"slices"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// A queue holds messages for consumers. Everything in it is guarded by the broker's lock.
type queue struct {
	vhost      *vhost
	name       string
	durable    bool
	autoDelete bool
	owner      *conn // the connection that an exclusive queue belongs to
	arguments  wire.Table
	settings   queueSettings

	levels   []ready // by priority; one when the queue has no priorities
	length   int     // messages ready in all levels
	bytes    int     // their bodies
	expiring int     // how many of them have an expiry
	unacked  int
	next     uint64 // the next position

	consumers consumerGroups
	active    *consumer // the one that is served when the queue has a single active consumer
	exclusive *consumer // the one that holds the queue with basic.consume's exclusive bit
	bindings  map[*binding]struct{}

	expiry      alarmClock    // fires at expiresNext
	expiresNext time.Duration // when a message in front expires
	lease       alarmClock    // fires when an x-expires queue was unused for long enough
	deleted     bool
	mark        uint64 // the routing that reached it last, against duplicates
}

// queueSettings are a queue's arguments, understood. Negative numbers mean that there is no limit.
type queueSettings struct {
	quorum           bool
	ttl              time.Duration
	expires          time.Duration
	maxLength        int
	maxBytes         int
	overflow         string
	deadExchange     *string
	deadKey          *string
	maxPriority      int
	singleActive     bool
	deliveryLimit    int
	consumerTimeout  time.Duration
	consumerLimitSet bool
}

func newQueue(v *vhost, name string, settings queueSettings) *queue {
	q := &queue{vhost: v, name: name, settings: settings, bindings: map[*binding]struct{}{}}
	q.levels = make([]ready, max(0, settings.maxPriority)+1)
	if settings.quorum {
		q.levels = make([]ready, returned+1)
	}
	q.expiry.init(v.broker, q.dropExpired)
	q.lease.init(v.broker, func() { v.deleteQueue(q) })
	return q
}

// returned is the level of a quorum queue for messages that came back.
const returned = 1

// level is where an entry of this priority waits: what is above the highest priority counts as the highest.
func (q *queue) level(priority uint8) *ready {
	return &q.levels[min(int(priority), len(q.levels)-1)]
}

// front is the level that is served next; nil when the queue is empty.
func (q *queue) front() *ready {
	if q.length == 0 {
		return nil
	}
	for i := len(q.levels) - 1; i >= 0; i-- {
		if q.levels[i].n > 0 {
			return &q.levels[i]
		}
	}
	return nil
}

// publish puts a message at the end of the queue and serves the consumers. It returns false
// when the queue is full and its overflow mode refuses.
func (q *queue) publish(m *message) bool {
	if q.overflows(m) {
		return false
	}
	q.next++
	e := entry{msg: m, position: q.next, expires: q.expiryOf(m)}
	if q.settings.maxPriority > 0 && m.has(flagPriority) {
		e.priority = m.properties().Priority
	}
	if q.length == 0 && q.consumers.n > 0 {
		// Straight to a consumer: this way even a time-to-live of zero is long enough.
		if c := q.nextConsumer(); c != nil {
			c.deliver(e)
			return true
		}
	}
	q.level(e.priority).pushBack(e)
	q.count(&e, 1)
	q.serve()
	q.dropOverflow()
	q.dropExpired()
	return true
}

// count keeps the sums when an entry comes (by is 1) or goes (by is -1).
func (q *queue) count(e *entry, by int) {
	q.length += by
	q.bytes += by * len(e.msg.body)
	if e.expires != 0 {
		q.expiring += by
	}
}

func (q *queue) pop() entry {
	e := q.front().popFront()
	q.count(&e, -1)
	return e
}

// serve hands out what is ready to the consumers that can take it.
func (q *queue) serve() {
	for q.length > 0 && q.consumers.n > 0 {
		if q.expiring > 0 {
			q.dropExpired()
			if q.length == 0 {
				return
			}
		}
		c := q.nextConsumer()
		if c == nil {
			return
		}
		c.deliver(q.pop())
	}
}

// requeue takes back entries that were delivered, each to its old position, and says that they were delivered before.
// A full queue drops from the front before it serves anybody, as RabbitMQ does.
func (q *queue) requeue(entries []entry, failed bool) {
	if q.deleted {
		return
	}
	if q.settings.quorum {
		q.requeueQuorum(entries, failed)
	} else {
		for _, e := range slices.Backward(entries) {
			e.redelivered = true
			q.level(e.priority).insert(e)
			q.count(&e, 1)
		}
	}
	q.dropOverflow()
	q.dropExpired()
	q.serve()
}

// requeueQuorum takes back entries as quorum queues do: with a delivery limit they are delivered before all others, in the
// order in which they came back, until they have failed too often; without one they go to the end of the queue.
func (q *queue) requeueQuorum(entries []entry, failed bool) {
	limit := q.settings.deliveryLimit
	for _, e := range entries {
		e.redelivered = true
		e.acquired++
		if failed {
			e.attempts++
		}
		if limit >= 0 && e.attempts > limit {
			q.deadLetter(e, "delivery_limit")
			continue
		}
		if limit >= 0 {
			e.priority = returned
		}
		q.next++
		e.position = q.next
		q.level(e.priority).pushBack(e)
		q.count(&e, 1)
	}
}

// purge throws away what is ready and returns how much that was.
func (q *queue) purge() int {
	n := q.length
	for i := range q.levels {
		q.levels[i].clear()
	}
	q.length, q.bytes, q.expiring = 0, 0, 0
	q.expiry.stop()
	return n
}

// used postpones the end of an x-expires queue.
func (q *queue) used() {
	switch {
	case q.settings.expires < 0:
	case q.consumers.n > 0:
		q.lease.stop()
	default:
		q.lease.set(q.settings.expires)
	}
}
