package amqp

import "sync/atomic"

// Stats is what a connection has done so far, and what it holds now.
type Stats struct {
	Published uint64 // messages handed to the network's buffer
	Delivered uint64 // messages received for consumers
	Returned  uint64 // messages that came back as unroutable
	Channels  int    // open now
	Waiting   int    // calls and publishes that wait for the broker now
	Blocked   bool   // the broker takes no messages now
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
	defer c.mu.Unlock()
	s.Channels = c.open
	return s
}
