package amqp

import (
	"slices"
	"sync/atomic"
)

// Stats is what a connection has done so far, and what it holds now.
type Stats struct {
	Published uint64 // messages handed to the network's buffer
	Delivered uint64 // messages received for consumers
	Returned  uint64 // messages that came back as unroutable
	Channels  int    // open now
	Consumers int    // started, on all channels
	// Unconfirmed are the messages on channels with confirms that have no
	// outcome yet, and Unsettled the deliveries that nobody has settled.
	Unconfirmed, Unsettled int

	Waiting int  // calls and publishes that wait for the broker now
	Blocked bool // the broker takes no messages now
}

// counters are those that the reader keeps.
type counters struct {
	delivered, returned atomic.Uint64
}

// Stats counts. It is cheap enough to be asked every second.
func (c *Conn) Stats() Stats {
	s := Stats{
		Delivered: c.stats.delivered.Load(), Returned: c.stats.returned.Load(),
		Waiting: int(c.waiting.Load()), Blocked: c.isBlocked(),
	}
	if _, err := c.out.Begin(); err == nil {
		s.Published = c.published
		c.out.Abort()
	}
	c.mu.Lock()
	s.Channels = c.open
	channels := slices.Clone(c.channels)
	c.mu.Unlock()
	for _, ch := range channels {
		if ch != nil {
			ch.count(&s)
		}
	}
	return s
}

// count adds what the channel holds.
func (ch *Channel) count(s *Stats) {
	ch.mu.Lock()
	s.Consumers += len(ch.consumers)
	ch.mu.Unlock()
	s.Unconfirmed += ch.confirms.unconfirmed()
	s.Unsettled += ch.ledger.unsettled()
}
