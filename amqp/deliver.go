package amqp

import (
	"errors"
	"fmt"
	"math"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// onDeliver starts a delivery.
func (ch *Channel) onDeliver(payload []byte) error {
	var in wire.Deliver
	if err := wire.ParseDeliver(payload, &in); err != nil {
		return protocolError("channel %d: %v", ch.id, err)
	}
	c := ch.consumer
	if seen := ch.roster.Load(); c == nil || seen != ch.seen || string(in.ConsumerTag) != c.tag {
		if c = ch.findConsumer(string(in.ConsumerTag)); c == nil {
			return protocolError("the broker sent a delivery on channel %d for consumer %q, which does not exist", ch.id, in.ConsumerTag)
		}
		ch.consumer, ch.seen = c, seen
	}
	if !c.direct {
		if err := ch.enterTag(in.DeliveryTag, c.noAck); err != nil {
			return err
		}
	}
	m := &ch.content
	d := ch.conn.deliveries.Next()
	d.channel = ch
	d.ConsumerTag = c.tag
	d.DeliveryTag = in.DeliveryTag
	d.Redelivered = in.Redelivered
	d.direct = c.direct
	d.Exchange = m.text(in.Exchange, &m.exchange)
	d.RoutingKey = m.text(in.RoutingKey, &m.routingKey)
	if m.takeWhole(d) {
		c.receive(d)
		return nil
	}
	m.head, m.delivery, m.consumer = *d, &m.head, c
	ch.conn.deliveries.Undo()
	return nil
}

func (ch *Channel) findConsumer(tag string) *Consumer {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for _, c := range ch.consumers {
		if c.tag == tag {
			return c
		}
	}
	return nil
}

// enterTag notes a delivery tag, in runs.
func (ch *Channel) enterTag(tag uint64, noAck bool) error {
	if tag <= ch.lastTag || tag == math.MaxUint64 {
		return protocolError("the broker sent delivery tag %d after %d on channel %d", tag, ch.lastTag, ch.id)
	}
	ch.lastTag = tag
	r := &ch.run
	if r.first != 0 && tag == r.last+1 && noAck == r.noAck {
		r.last = tag
		return nil
	}
	if r.first != 0 {
		ch.enterTags()
	}
	ch.conn.tagged = append(ch.conn.tagged, ch)
	*r = tagRun{tag, tag, noAck}
	return nil
}

// enterTags gives the ledger the tags noted so far, before anybody can settle
// them.
func (ch *Channel) enterTags() {
	if r := &ch.run; r.first != 0 {
		ch.ledger.add(r.first, r.last, r.noAck)
		*r = tagRun{}
	}
}

// receive takes a whole delivery. The reader calls it.
func (c *Consumer) receive(d *delivery) {
	if len(c.batch) == 0 {
		c.ch.conn.touched = append(c.ch.conn.touched, c)
	}
	c.batch = append(c.batch, d)
	c.batchBytes += int64(d.size) + envelopeSize
}

// handOver gives the ranges what one read brought. It reports whether the reader
// has to hold back.
func (c *Consumer) handOver() (full bool, err error) {
	var behind int64
	if c.limit == 0 {
		behind = c.buffered.Add(c.batchBytes) - c.batchBytes
	}
	// One loop that keeps up with a flood of small ones is better left to run beside
	// the reader. From 512 bytes on it is a tenth faster where they still are in the cache.
	if in := &c.ch.conn.in; behind > 0 || in.brimful && c.batchBytes >= int64(len(c.batch))*(largeFrame+envelopeSize) {
		c.ch.conn.giveWay = true
	}
	c.batchBytes = 0
	c.ch.conn.stats.delivered.Add(uint64(len(c.batch))) // before anybody gets to see them
	if t := c.ch.conn.cfg.Trace; t != nil && t.Delivered != nil {
		for _, d := range c.batch {
			t.delivered(c.ch, d)
		}
	}
	taken := c.stream.Push(c.batch...)
	if !taken && c.givesBack() {
		taken = c.keep()
		for _, d := range c.batch {
			if !taken && !c.ch.postGiveBack(d) {
				c.keepMore(d)
			}
		}
	}
	clear(c.batch)
	if c.batch = c.batch[:0]; cap(c.batch) > sparse {
		c.batch = nil
	}
	if taken && behind > c.ch.conn.unreadBound {
		return false, fmt.Errorf("%w: %q has %d bytes waiting, and calls on the connection wait for answers behind more of them; "+
			"give the consumer a Prefetch and acknowledge, or call on another connection", ErrSlowConsumer, c.tag, behind)
	}
	if c.limit > 0 {
		// What was settled by a multiple ack before anybody took it, or was
		// taken back by basic.recover, is still in the stream.
		if n := c.stream.Len(); n > c.limit+math.MaxUint16 {
			return false, protocolError("the broker sent consumer %q %d messages ahead, beyond its prefetch of %d", c.tag, n, c.limit)
		}
	}
	return taken && c.full(), nil
}

// keep puts the batch aside for the end of the consumer. It reports false when
// that has come.
func (c *Consumer) keep() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return false
	}
	c.kept = append(c.kept, c.batch...)
	return true
}

// keepMore keeps what the reader can't give back, since the channel is between two
// transactions: the end of the consumer can, if it still waits for cancel-ok. A
// broker that sends beyond the prefetch has it back with the channel.
func (c *Consumer) keepMore(d *delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	most := c.limit
	if most == 0 {
		most = math.MaxUint16 // as much as a prefetch can be
	}
	if len(c.kept) < most {
		d.setBody(nil) // to be given back, it needs its tag alone
		c.kept = append(c.kept, d)
	}
}

// leave says that the broker has been asked to send no more. It reports whether
// that was known.
func (c *Consumer) leave() (known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, c.leaving = c.leaving, true
	return known
}

// envelopeSize is what a delivery takes beside its body, about.
const envelopeSize = 128

// full tells whether a consumer that bytes bound has too many.
func (c *Consumer) full() bool {
	return c.limit == 0 && c.buffered.Load() > byteBound && !c.unwanted.Load()
}

// swapped hears from the stream that a range took over what was buffered.
func (c *Consumer) swapped() {
	if c.limit == 0 && c.buffered.Swap(0) > byteBound {
		c.ch.conn.wake()
	}
}

// onCancel handles the broker's end of a consumer.
// https://www.rabbitmq.com/docs/consumer-cancel
func (ch *Channel) onCancel(m *wire.BasicCancel) error {
	c := ch.findConsumer(m.ConsumerTag)
	if c == nil {
		return nil // it crossed our own cancel
	}
	if err := ch.conn.handOver(); err != nil {
		return err
	}
	ch.settleCancel(c, m.NoWait)
	why := fmt.Errorf("%w: consumer %q", ErrConsumerCancelled, c.tag)
	c.cancelled.Store(&why)
	c.stream.End(why)
	if c.stream.Len() == 0 {
		c.drained()
	}
	return nil
}

// settleCancel has the broker forget a consumer that it has ended. RabbitMQ 4.3 keeps
// one that has timed out, with its tag, until it hears of it, no-wait or not; older
// brokers take a cancel-ok for a violation, and pass a cancel of what is gone by.
func (ch *Channel) settleCancel(c *Consumer, noWait bool) {
	var m wire.Method = &wire.BasicCancelOk{ConsumerTag: c.tag}
	if noWait && !ch.conn.acceptsCancelOk {
		m = &wire.BasicCancel{ConsumerTag: c.tag, NoWait: true}
	}
	if buf, err := ch.conn.out.Begin(); err == nil {
		if !ch.shut {
			buf, _ = wire.AppendMethod(ch.flushAcks(buf), ch.id, m)
		}
		ch.conn.out.Commit(buf)
	}
}

// postCancel cancels a consumer that nobody has any more, without waiting. It
// stays enlisted until the broker has nothing more to send for it.
func (c *Consumer) postCancel() {
	c.unwanted.Store(true)
	c.stop(errConsumerScopeEnded)
	c.leave()
	ch := c.ch
	p := newCall(&wire.BasicCancel{}, wire.BasicCancelOkID)
	p.abandoned = true
	p.late = func(wire.Method, *delivery) { ch.discharge(c) }
	ch.post(outgoing{method: &wire.BasicCancel{ConsumerTag: c.tag}, call: p})
	if c.givesBack() {
		for _, d := range c.stream.Drain() {
			ch.postGiveBack(d)
		}
	}
}

// post is start for the reader, which never waits and to which the end of the
// channel is no news.
func (ch *Channel) post(o outgoing) {
	buf, err := ch.conn.out.Begin()
	if err != nil {
		return
	}
	if !ch.shut && ch.enqueue([]outgoing{o}) {
		buf, _ = wire.AppendMethod(ch.flushAcks(buf), ch.id, o.method)
	}
	ch.conn.out.Commit(buf)
}

// postGiveBack is giveBack for the reader. It reports false between two
// transactions: to begin one is to wait.
func (ch *Channel) postGiveBack(d *delivery) bool {
	buf, err := ch.conn.out.Begin()
	if err != nil {
		return true
	}
	if !ch.shut {
		var tag uint64
		if buf, tag, err = ch.settle(buf, d.DeliveryTag, false); err == nil {
			buf = wire.AppendNack(buf, ch.id, tag, false, true)
			ch.conn.cfg.Trace.settled(ch, SettleInfo{d.DeliveryTag, methodNack, false, true})
		}
	}
	ch.conn.out.Commit(buf)
	return !errors.Is(err, errOutsideTx)
}
