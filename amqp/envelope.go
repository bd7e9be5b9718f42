package amqp

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// Envelope is what travels around a received body, and settles the delivery.
// Unless its consumer is no-ack, every delivery is settled once: the broker
// sends no more than the prefetch of them otherwise, and gives them to others
// when the channel ends.
type Envelope struct {
	ConsumerTag  string
	DeliveryTag  uint64 // counts the channel's deliveries from 1
	Exchange     string // what the message was published to
	RoutingKey   string
	Redelivered  bool        // it was delivered before, and not settled
	direct       bool        // a direct reply: it is settled by itself, and its tag may be another delivery's
	size         uint32      // of the body; see delivery
	MessageCount int         // messages left in the queue; Channel.Get alone
	Properties   *Properties // never nil; deliveries with equal properties may share one and its Headers, so copy both before writing

	channel *Channel
}

// delivery is a message received. Of its body it holds the address, and the size
// where the envelope has room for it: with a slice header it would take a sixth
// more of the memory that the collector goes through, most of which is deliveries.
type delivery struct {
	Envelope
	data *byte
}

func (d *delivery) setBody(b []byte) {
	d.data, d.size = unsafe.SliceData(b), uint32(len(b)) // #nosec G103,G115 -- bodies above 4 GiB are refused
}

// body is what setBody was given, with no capacity beyond it.
func (d *delivery) body() []byte {
	if d.size == 0 {
		return []byte{}
	}
	return unsafe.Slice(d.data, d.size) // #nosec G103 -- as it was given
}

// unsettleable is why there is nothing to settle.
func (e *Envelope) unsettleable() error {
	switch {
	case e.channel == nil:
		return errNoDelivery
	case e.direct:
		return errDirectReply
	}
	return nil
}

var errDirectReply = fmt.Errorf("amqp: direct replies are not settled: %w", ErrAlreadySettled)

var errNoDelivery = errors.New("amqp: the envelope was not received from a broker")

// Context ends, with its cause, when this delivery can no longer be settled,
// because the channel has ended: the broker then gives the message to somebody
// else, and the work on it is in vain. The caller's cancellation does not end it.
func (e *Envelope) Context() context.Context {
	if e.channel == nil {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(errNoDelivery)
		return ctx
	}
	return e.channel.aliveContext()
}

// Ack says that the message was taken care of (basic.ack). It does not wait: the
// acknowledgement is sent soon, together with those of its neighbours, and the
// end of the channel's scope makes sure that the broker has it. A second
// settlement is ErrAlreadySettled; on a channel that has ended it is the cause
// of that, and the broker will deliver the message again.
// https://www.rabbitmq.com/docs/confirms#acknowledgement-modes
func (e *Envelope) Ack() error {
	if err := e.unsettleable(); err != nil {
		return err
	}
	return e.channel.ack(e.DeliveryTag)
}

// AckUpTo acknowledges this message and all that were delivered on its channel
// before it and are not settled, by whichever consumer (basic.ack with
// multiple set). Otherwise it is as Ack.
func (e *Envelope) AckUpTo() error {
	if err := e.unsettleable(); err != nil {
		return err
	}
	return e.channel.Ack(e.DeliveryTag, true)
}

// Nack refuses the message (basic.nack): with requeue the broker delivers it
// again, and without it is dead-lettered or dropped. On quorum queues of
// RabbitMQ 4.3 and later a nack does not count as a failed attempt; Reject does.
// It is sent at once, and not waited for. Errors are those of Ack.
// https://www.rabbitmq.com/docs/nack
func (e *Envelope) Nack(requeue bool) error {
	if err := e.unsettleable(); err != nil {
		return err
	}
	return e.channel.Nack(e.DeliveryTag, false, requeue)
}

// Reject refuses the message as Nack does (basic.reject), and counts as a failed
// attempt against a quorum queue's delivery limit.
func (e *Envelope) Reject(requeue bool) error {
	if err := e.unsettleable(); err != nil {
		return err
	}
	return e.channel.Reject(e.DeliveryTag, requeue)
}

// Ack acknowledges a delivery by its tag (basic.ack), with multiple all up to it;
// 0 with multiple is all there are. Like Envelope.Ack, it does not wait, and sends
// nothing for what is settled already, which is ErrAlreadySettled, or was never
// delivered, which is PreconditionFailed.
func (ch *Channel) Ack(deliveryTag uint64, multiple bool) error {
	if !multiple {
		return ch.ack(deliveryTag)
	}
	tell, err := ch.ledger.ackUpTo(deliveryTag)
	if err == nil && ch.conn.cfg.Trace != nil {
		return ch.ackedTraced(SettleInfo{deliveryTag, methodAck, true, false}, tell)
	}
	return ch.acked(deliveryTag, tell, err)
}

// ack is the hot path of settling: it takes one lock, unless the writer has to
// be told that there is something to flush.
func (ch *Channel) ack(tag uint64) error {
	tell, err := ch.ledger.ack(tag)
	if err == nil && ch.conn.cfg.Trace != nil {
		return ch.ackedTraced(SettleInfo{tag, methodAck, false, false}, tell)
	}
	if err != nil || tell {
		return ch.acked(tag, tell, err)
	}
	return nil
}

// ackedTraced tells the trace of an acknowledgement before the broker can hear of
// it. If the hook panics, the writer is told all the same: later ones take it to be.
func (ch *Channel) ackedTraced(info SettleInfo, tell bool) (err error) {
	defer func() { err = ch.acked(info.DeliveryTag, tell, nil) }()
	ch.conn.cfg.Trace.settled(ch, info)
	return nil
}

func (ch *Channel) acked(tag uint64, tell bool, err error) error {
	if err != nil {
		return fmt.Errorf("amqp: ack of delivery %d: %w", tag, err)
	}
	if !tell {
		return nil
	}
	c := ch.conn
	buf, err := c.out.Begin()
	if err != nil {
		return fmt.Errorf("amqp: ack of delivery %d: %w", tag, c.whyDead())
	}
	if ch.shut {
		c.out.Abort()
		return fmt.Errorf("amqp: ack of delivery %d: %w", tag, ch.end())
	}
	c.dirty = append(c.dirty, ch)
	if c.lead.state.Load() == ledByNobody {
		c.out.Abort() // sent by whoever reads next, the loop before it waits
		return nil
	}
	c.out.Commit(buf)
	return nil
}

// Nack refuses a delivery by its tag (basic.nack), with multiple all up to it; 0
// with multiple is all there are. For requeue and errors see Envelope.Nack.
func (ch *Channel) Nack(deliveryTag uint64, multiple, requeue bool) error {
	return ch.refuse(SettleInfo{deliveryTag, methodNack, multiple, requeue}, func(buf []byte, tag uint64) []byte {
		return wire.AppendNack(buf, ch.id, tag, multiple, requeue)
	})
}

// Reject refuses a delivery by its tag (basic.reject), see Envelope.Reject.
func (ch *Channel) Reject(deliveryTag uint64, requeue bool) error {
	return ch.refuse(SettleInfo{deliveryTag, methodReject, false, requeue}, func(buf []byte, tag uint64) []byte {
		return wire.AppendReject(buf, ch.id, tag, requeue)
	})
}

// refuse settles by a method that is sent at once, behind the acknowledgements
// before it.
func (ch *Channel) refuse(how SettleInfo, encode func([]byte, uint64) []byte) error {
	c, tag := ch.conn, how.DeliveryTag
	buf, err := c.begin()
	if err != nil {
		return fmt.Errorf("amqp: refuse delivery %d: %w", tag, err)
	}
	if ch.shut {
		c.out.Abort()
		return fmt.Errorf("amqp: refuse delivery %d: %w", tag, ch.end())
	}
	buf, last, err := ch.settle(buf, tag, how.Multiple)
	if last != 0 {
		buf = encode(buf, last)
	}
	c.out.Commit(buf)
	if err != nil {
		return fmt.Errorf("amqp: refuse delivery %d: %w", tag, err)
	}
	c.cfg.Trace.settled(ch, how)
	return nil
}

// The methods that settle, as SettleInfo names them.
const (
	methodAck    = "basic.ack"
	methodNack   = "basic.nack"
	methodReject = "basic.reject"
)

// settle takes tag, or all up to it, from the ledger, for the caller to append
// its settlement. last is the tag to send, if not 0.
func (ch *Channel) settle(buf []byte, tag uint64, multiple bool) (_ []byte, last uint64, err error) {
	before := len(buf)
	buf, last, err = ch.ledger.take(buf, ch.id, tag, multiple)
	if last != 0 || len(buf) > before {
		ch.unproven = true
	}
	return buf, last, err
}
