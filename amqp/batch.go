package amqp

import (
	"errors"
	"iter"
	"time"

	xiter "github.com/leveret-mq/leveret/iter"
)

// Batch is several messages that are handled together. What is not settled one
// by one is settled by the batch's Ack or Nack.
type Batch struct {
	items []*delivery
}

// Batches ranges over what is delivered, up to size messages at a time, or those
// that came within wait of the first. A batch is never larger than the
// consumer's prefetch, since the broker sends no more until some are settled. The
// range ends as that of Messages does.
func (c *Consumer) Batches(size int, wait time.Duration) iter.Seq[*Batch] {
	size = max(size, 1)
	if c.limit > 0 {
		size = min(size, c.limit)
	}
	return func(yield func(*Batch) bool) {
		c.stopIfCancelled()
		defer c.ch.conn.enterOther()()
		for items := range xiter.Batches(&c.stream, size, wait) {
			if b := c.batchOf(items); b.Len() > 0 && !yield(b) {
				return
			}
			c.stopIfCancelled()
		}
		c.drained()
	}
}

// batchOf leaves out what basic.recover took back meanwhile.
func (c *Consumer) batchOf(items []*delivery) *Batch {
	b := &Batch{items: make([]*delivery, 0, len(items))}
	for _, d := range items {
		if !c.isVoid(d) {
			b.items = append(b.items, d)
		}
	}
	return b
}

// Len is how many messages the batch has, at least one.
func (b *Batch) Len() int { return len(b.items) }

// All ranges over the messages in the order of their delivery.
func (b *Batch) All() iter.Seq2[[]byte, *Envelope] {
	return func(yield func([]byte, *Envelope) bool) {
		for _, d := range b.items {
			if !yield(d.body(), &d.Envelope) {
				return
			}
		}
	}
}

// Ack acknowledges the messages of the batch that are not settled yet, in one
// basic.ack if nothing else on the channel is between them. It is
// ErrAlreadySettled when there are none.
func (b *Batch) Ack() error { return b.ack() }

func (b *Batch) ack() (err error) {
	var wake *Envelope // the writer hears of all together, or it would send the first alone
	defer func() {     // also when a hook panics
		if wake != nil {
			err = joinCause(err, wake.channel.acked(wake.DeliveryTag, true, nil))
		}
	}()
	return b.settle(func(e *Envelope) error {
		if err := e.unsettleable(); err != nil {
			return err
		}
		tell, err := e.channel.ledger.ack(e.DeliveryTag)
		if tell {
			wake = e
		}
		if err == nil {
			e.channel.conn.cfg.Trace.settled(e.channel, SettleInfo{e.DeliveryTag, methodAck, false, false})
		}
		return e.channel.acked(e.DeliveryTag, false, err)
	})
}

// Nack refuses the messages of the batch that are not settled yet, see
// Envelope.Nack. It is ErrAlreadySettled when there are none.
func (b *Batch) Nack(requeue bool) error {
	return b.settle(func(e *Envelope) error { return e.Nack(requeue) })
}

func (b *Batch) settle(one func(*Envelope) error) error {
	var already error
	n := 0
	for _, d := range b.items {
		switch err := one(&d.Envelope); {
		case err == nil:
			n++
		case errors.Is(err, ErrAlreadySettled):
			already = err
		default:
			return err
		}
	}
	if n == 0 {
		return already
	}
	return nil
}
