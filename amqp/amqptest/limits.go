package amqptest

// The overflow modes of a queue with x-max-length or x-max-length-bytes.
const (
	dropHead         = "drop-head"
	rejectPublish    = "reject-publish"
	rejectPublishDLX = "reject-publish-dlx"
)

// overflows tells whether the queue refuses one more message, and dead-letters it when the mode says so.
// Like RabbitMQ it asks before it looks for a consumer.
func (q *queue) overflows(m *message) bool {
	s := &q.settings
	if s.overflow != rejectPublish && s.overflow != rejectPublishDLX {
		return false
	}
	full := s.maxLength >= 0 && q.length+1 > s.maxLength || s.maxBytes >= 0 && q.bytes+len(m.body) > s.maxBytes
	if full && s.overflow == rejectPublishDLX {
		q.deadLetter(entry{msg: m}, "maxlen")
	}
	return full
}

// dropOverflow drops messages from the front until the queue keeps its limits. As in RabbitMQ the front of a
// priority queue is its highest priority.
func (q *queue) dropOverflow() {
	s := &q.settings
	if s.overflow != dropHead {
		return
	}
	for q.length > 0 && (s.maxLength >= 0 && q.length > s.maxLength || s.maxBytes >= 0 && q.bytes > s.maxBytes) {
		q.deadLetter(q.pop(), "maxlen")
	}
}
