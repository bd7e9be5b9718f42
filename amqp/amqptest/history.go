package amqptest

// historyBytes bounds the bodies that a history holds on to.
const historyBytes = 16 << 20

// A history remembers the messages that were published last.
type history struct {
	limit int
	bytes int
	ring  []*message
	first int
	n     int
}

// record remembers a message; the oldest ones are forgotten when there are too many, or they are too large together.
func (b *Broker) record(m *message) {
	h := &b.history
	if h.limit <= 0 {
		return
	}
	if h.ring == nil {
		h.ring = make([]*message, h.limit)
	}
	for h.n > 0 && (h.n == h.limit || h.bytes+len(m.body) > historyBytes) {
		h.bytes -= len(h.ring[h.first].body)
		h.ring[h.first] = nil
		h.first = (h.first + 1) % h.limit
		h.n--
	}
	h.ring[(h.first+h.n)%h.limit] = m
	h.bytes += len(m.body)
	h.n++
}

// Published copies the messages that clients have published, the oldest first, routed or not. Only the last ones
// are remembered: see WithHistory.
func (b *Broker) Published() []Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := &b.history
	list := make([]Message, 0, h.n)
	for i := range h.n {
		list = append(list, *h.ring[(h.first+i)%h.limit].export())
	}
	return list
}
