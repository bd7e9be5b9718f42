//go:build unix

package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// nullConsumer is a consumer at the null broker.
type nullConsumer struct {
	ch      *nullChannel
	tag     string
	limited bool // by its credit
	credit  int  // guarded by nullConn.mu
}

// delivery is an encoded message of a belt, whose tag is filled in.
type delivery struct {
	to         *nullConsumer
	start, end int // in the belt's bytes
	tagAt      int
}

// belt holds deliveries to all consumers in turn, to be sent over and over.
type belt struct {
	version    int
	bytes      []byte
	deliveries []delivery
	limited    bool // some consumer has a credit
}

// beltSize is how much is written at once: more gains nothing.
const beltSize = 256 << 10

// load encodes a belt. The caller holds mu.
func (c *nullConn) load() *belt {
	b := &belt{version: c.version}
	body := make([]byte, c.body)
	for i := 0; len(c.consumers) > 0 && (len(b.bytes) < beltSize || i%len(c.consumers) != 0); i++ {
		n := c.consumers[i%len(c.consumers)]
		d := delivery{to: n, start: len(b.bytes)}
		b.bytes, d.tagAt = appendDelivery(b.bytes, n.ch.id, n.tag, "bench", rawProperties(c.props, i), body)
		d.end = len(b.bytes)
		b.deliveries = append(b.deliveries, d)
		b.limited = b.limited || n.limited
	}
	return b
}

// add enters a consumer.
func (c *nullConn) add(n *nullConsumer) {
	c.mu.Lock()
	c.consumers = append(c.consumers, n)
	c.version++
	c.mu.Unlock()
	c.touch()
}

// drop removes consumers: nothing is sent to them once this has returned and
// what was being written is out.
func (c *nullConn) drop(which func(*nullConsumer) bool) {
	c.mu.Lock()
	c.consumers = slices.DeleteFunc(c.consumers, which)
	c.version++
	c.mu.Unlock()
	c.touch()
}

// touch wakes the deliverer.
func (c *nullConn) touch() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// deliver is the deliverer's goroutine.
func (c *nullConn) deliver() {
	left := max(c.count, 0)
	if c.count == 0 {
		left = math.MaxInt
	}
	var b *belt
	var parts []byte
	for {
		c.writing.Lock()
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			c.writing.Unlock()
			return
		}
		if b == nil || b.version != c.version {
			b = c.load()
		}
		var out []byte
		switch n := min(left, len(b.deliveries)); {
		case n == 0:
		case b.limited:
			parts, n = c.affordable(b, parts[:0], n)
			out = parts
			left -= n
		default:
			for _, d := range b.deliveries[:n] {
				d.stamp(b.bytes)
			}
			out = b.bytes[:b.deliveries[n-1].end]
			left -= n
		}
		c.mu.Unlock()
		_, _ = c.nc.Write(out) // a failure is met by the reader
		c.writing.Unlock()
		c.flush()
		if len(out) == 0 {
			<-c.changed
		}
	}
}

// affordable copies those of the first n deliveries to dst whose consumers have
// credit. The caller holds mu.
func (c *nullConn) affordable(b *belt, dst []byte, n int) ([]byte, int) {
	sent := 0
	for _, d := range b.deliveries[:n] {
		if d.to.limited {
			if d.to.credit == 0 {
				continue
			}
			d.to.credit--
		}
		d.stamp(b.bytes)
		dst = append(dst, b.bytes[d.start:d.end]...)
		sent++
	}
	return dst, sent
}

// stamp gives the delivery the channel's next tag.
func (d delivery) stamp(bytes []byte) {
	d.to.ch.tag++
	binary.BigEndian.PutUint64(bytes[d.tagAt:], d.to.ch.tag)
}

// nullLedger is which deliveries of a channel are settled: all up to base, and
// some above.
type nullLedger struct {
	base  uint64
	above map[uint64]bool
}

// settle returns how many deliveries that settles.
func (l *nullLedger) settle(tag uint64, multiple bool) (int, error) {
	if tag <= l.base || l.above[tag] {
		return 0, fmt.Errorf("delivery tag %d is settled twice", tag)
	}
	if !multiple && tag > l.base+1 {
		if l.above == nil {
			l.above = make(map[uint64]bool)
		}
		l.above[tag] = true
		return 1, nil
	}
	n := int(tag - l.base)
	for t := range l.above {
		if t < tag {
			delete(l.above, t)
			n--
		}
	}
	l.base = tag
	for l.above[l.base+1] {
		l.base++
		delete(l.above, l.base)
	}
	return n, nil
}

// settled gives a consumer credit; the deliverer hears of it when the read has
// been dealt with. Where the null broker heeds acks, a channel has one consumer.
func (c *nullConn) settled(ch *nullChannel, f *frame) error {
	if len(f.payload) < 13 {
		return fmt.Errorf("an ack with %d bytes", len(f.payload))
	}
	multiple := f.method() != basicReject && f.payload[12]&1 != 0
	n, err := ch.ledger.settle(binary.BigEndian.Uint64(f.payload[4:]), multiple)
	if err != nil {
		return err
	}
	if ch.consumer != nil && ch.consumer.limited {
		c.mu.Lock()
		ch.consumer.credit += n
		c.mu.Unlock()
		c.credited = true
	}
	return nil
}
