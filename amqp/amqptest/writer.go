package amqptest

import (
	"cmp"
	"slices"
)

// keepBuffer is the largest buffer that a connection holds on to between writes.
const keepBuffer = 1 << 20

// write sends what has been appended for the client, until the connection ends.
func (c *conn) write() {
	b := c.broker
	b.mu.Lock()
	for {
		for !c.dead && (b.stalled || len(c.out)+len(c.late) == 0 && !c.finishing) {
			c.wakeup.Wait()
		}
		if c.dead || len(c.out)+len(c.late) == 0 {
			break
		}
		batch, late, hooks := c.out, c.late, b.hooks
		c.out, c.spare, c.late = c.spare[:0], nil, nil
		c.inflight = len(batch)
		b.mu.Unlock()

		err := c.transmit(hooks, late, batch)
		c.writes.Add(1)

		b.lock()
		c.inflight = 0
		if cap(batch) <= keepBuffer {
			c.spare = batch[:0]
		}
		if err != nil {
			c.drop()
		}
		c.relieved()
		b.unlock()
		b.mu.Lock()
	}
	dead := c.dead
	b.mu.Unlock()
	if !dead {
		_ = c.nc.Close()
	}
}

// transmit writes what hooks have put off, and then a batch of frames, through the hooks if there are any.
func (c *conn) transmit(hooks []*hook, late, batch []byte) error {
	if len(late) > 0 {
		if _, err := c.nc.Write(late); err != nil {
			return err
		}
	}
	if len(hooks) == 0 {
		_, err := c.nc.Write(batch)
		return err
	}
	return c.filtered(hooks, batch)
}

// relieved goes on with what had to wait until the client took something: deliveries, and reading.
func (c *conn) relieved() {
	b := c.broker
	b.gate.Broadcast()
	if !c.crowded || c.closing {
		return
	}
	c.crowded = false
	for _, ch := range c.sortedChannels() {
		for _, consumer := range ch.sortedConsumers() {
			consumer.queue.serve()
		}
	}
}

func (c *conn) sortedChannels() []*channel {
	list := make([]*channel, 0, len(c.channels))
	for _, ch := range c.channels {
		list = append(list, ch)
	}
	slices.SortFunc(list, func(a, b *channel) int { return cmp.Compare(a.id, b.id) })
	return list
}
