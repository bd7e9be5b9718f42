package amqp

import (
	"context"
	"errors"
	"fmt"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
	"github.com/leveret-mq/leveret/amqp/internal/writer"
)

// Publish sends a message (basic.publish) to an exchange, "" being the default
// one, which routes to the queue that the routing key names.
//
// It returns when the message is on its way, which may be before an error that
// it causes: a missing exchange ends the channel with NotFound. After Confirm it
// returns when the broker has confirmed the message, and a failure is a
// *PublishError: ErrNacked, ErrReturned (of a mandatory message), or
// ErrUnconfirmed when the channel or the connection ended before that, or ctx
// did.
//
// It waits while the broker has an alarm (connection.blocked) or has stopped the
// channel, and while more is buffered than the network takes. When ctx ends
// before the message is on its way, nothing is sent.
// https://www.rabbitmq.com/docs/publishers
func (ch *Channel) Publish(ctx context.Context, exchange, routingKey string, msg Message) error {
	s := sending{exchange: exchange, routingKey: routingKey}
	n, err := ch.publish(ctx, &s, &msg)
	if err != nil {
		return fmt.Errorf("amqp: publish to exchange %q with routing key %q: %w", exchange, routingKey, err)
	}
	if n == 0 {
		return nil
	}
	if err := ch.awaitOutcome(ctx, n, &s.unconfirmed); err != nil {
		return fmt.Errorf("amqp: publish: %w", err)
	}
	return nil
}

// awaitOutcome waits for the confirm of message n, whose waiter is registered.
func (ch *Channel) awaitOutcome(ctx context.Context, n uint64, m *unconfirmed) (err error) {
	w := m.waiter
	ch.conn.await(+1)
	select {
	case err = <-w.outcome:
	case <-ctx.Done():
		if ch.confirms.detach(n, w) {
			err = m.failed(n, fmt.Errorf("%w: %w", ErrUnconfirmed, context.Cause(ctx)))
		} else {
			err = <-w.outcome
		}
	}
	ch.conn.await(-1)
	ch.conn.waiters.put(w)
	return err
}

// sequenceHeader travels with mandatory messages on channels with confirms: a
// message that comes back is recognised by it, and it is taken out again. The
// broker's ack of another message may come between a return and its own ack, so
// order tells nothing.
const sequenceHeader = "x-leveret-sequence"

// gate is why a message has to wait.
type gate struct {
	open <-chan struct{}
	pub  *Publisher // which has to hear that the wait is over
}

// sending is a message on its way. The Message itself is apart from it, as it
// would have to be on the heap otherwise.
type sending struct {
	unconfirmed          // as it is entered on a channel with confirms
	exchange, routingKey string
}

// publish appends a message in one critical section, so that its frames are in
// a row. On a channel with confirms it is entered, and its number returned.
func (ch *Channel) publish(ctx context.Context, s *sending, msg *Message) (n uint64, err error) {
	if len(s.exchange) > maxShortString || len(s.routingKey) > maxShortString {
		return 0, checkRoute(s.exchange, s.routingKey)
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	for {
		buf, ok := ch.conn.out.TryBeginRoom()
		if !ok {
			if buf, err = ch.conn.awaitRoom(ctx); err != nil {
				return 0, err
			}
		}
		switch {
		case ch.shut:
			ch.conn.out.Abort()
			return 0, ch.end()
		case ch.conn.blocked != nil || ch.stopped != nil || s.pub != nil && s.pub.full():
			g := ch.gate(s.pub)
			ch.conn.out.Abort()
			if err := ch.pass(ctx, g); err != nil {
				return 0, err
			}
		case ch.tx == betweenTx:
			ch.conn.out.Abort()
			return 0, errOutsideTx
		case s.parcel != nil && !s.parcel.leave():
			ch.conn.out.Abort()
			return 0, errForsaken
		default:
			return ch.appendMessage(ctx, buf, s, msg)
		}
	}
}

// appendMessage leaves the critical section.
func (ch *Channel) appendMessage(ctx context.Context, buf []byte, s *sending, msg *Message) (n uint64, err error) {
	c := ch.conn
	alone := len(buf) == 0
	buf = ch.flushAcks(buf)
	if ch.stamp.fits(s, msg) {
		buf = ch.stamp.print(buf, msg.Body)
		n = ch.enter(s, msg)
	} else {
		before := buf
		if buf, err = ch.appendHead(before, s, msg); err != nil {
			c.out.Commit(before)
			return 0, err
		}
		n = ch.enter(s, msg)
		if len(msg.Body) >= largeBody && c.out.Gathers() {
			ch.appendLarge(ctx, buf, s, msg, n)
			return n, nil
		}
		buf = wire.AppendBody(buf, ch.id, msg.Body, c.tuning.FrameMax)
	}
	if t := c.cfg.Trace; t != nil {
		t.published(ch, buf, s, msg, n)
	}
	switch {
	case s.waiter == nil && s.parcel == nil:
		c.out.CommitLater(buf)
	case alone && s.waiter != nil && c.waiting.Load() == 0:
		c.out.CommitAlone(buf)
	default:
		c.out.Commit(buf)
	}
	return n, nil
}

// appendHead appends what comes before the body, and keeps it as the stamp.
func (ch *Channel) appendHead(before []byte, s *sending, msg *Message) (buf []byte, err error) {
	buf = wire.AppendPublish(before, ch.id, s.exchange, s.routingKey, msg.Mandatory, msg.Immediate)
	headerAt := len(buf)
	size := uint64(len(msg.Body))
	if ch.confirming && msg.Mandatory {
		buf, err = wire.AppendContentHeaderWith(buf, ch.id, size, msg.Properties.wire(), sequenceHeader, int64(ch.confirms.upcoming()))
	} else {
		buf, err = wire.AppendContentHeader(buf, ch.id, size, msg.Properties.wire())
	}
	max := ch.conn.tuning.FrameMax
	if err == nil && max != 0 && len(buf)-headerAt > int(max) {
		err = fmt.Errorf("the properties take %d bytes, and the broker allows %d in a frame", len(buf)-headerAt, max)
	}
	if err == nil {
		ch.stamp.cut(s, msg, buf[len(before):], headerAt-len(before), max)
	}
	return buf, err
}

// enter counts a message that is certain to be sent, and enters it where there
// are confirms.
func (ch *Channel) enter(s *sending, msg *Message) (n uint64) {
	c := ch.conn
	if ch.confirming {
		s.route = ch.routed(s.exchange, s.routingKey)
		if s.pub == nil && s.parcel == nil {
			s.waiter = c.waiters.get()
		}
		n = ch.confirms.add(&s.unconfirmed)
	}
	c.published++
	return n
}

// largeBody is the size from which a body is written from where it is: below,
// copying it costs less than what waiting for the writer does.
const largeBody = 256 << 10

// appendLarge has the body written from the caller's memory, which is the
// caller's again when this returns, or a hook's panic goes on.
func (ch *Channel) appendLarge(ctx context.Context, buf []byte, s *sending, msg *Message, n uint64) {
	c, body := ch.conn, msg.Body
	var ticket writer.Ticket
	part := len(body)
	if max := c.tuning.FrameMax; max != 0 {
		part = int(max) - wire.FrameOverhead
	}
	for len(body) > 0 {
		size := min(part, len(body))
		buf = wire.AppendFrameHeader(buf, wire.FrameBody, ch.id, uint32(size))
		c.out.Large(&ticket, buf, body[:size])
		buf = append(buf, wire.FrameEnd)
		body = body[size:]
	}
	defer func() {
		c.await(+1)
		defer c.await(-1)
		ticket.Wait(ctx)
	}()
	if t := c.cfg.Trace; t != nil {
		t.published(ch, buf, s, msg, n)
	}
	c.out.Commit(buf)
}

// gate returns what a message has to wait for, which publish has found that it
// must, with the writer's lock held.
func (ch *Channel) gate(p *Publisher) gate {
	switch {
	case ch.conn.blocked != nil:
		return gate{open: ch.conn.blocked.over}
	case ch.stopped != nil:
		return gate{open: ch.stopped.over}
	}
	return gate{p.room, p}
}

// pass waits at a gate.
func (ch *Channel) pass(ctx context.Context, g gate) error {
	ch.conn.await(+1)
	defer ch.conn.await(-1)
	if g.pub != nil {
		ch.conn.out.Hurry()
		defer g.pub.waited()
	}
	alive := ch.aliveContext()
	select {
	case <-g.open:
		return nil
	case <-alive.Done():
		return context.Cause(alive)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// checkRoute refuses what the protocol can't carry. The properties are checked
// where they are encoded.
func checkRoute(exchange, routingKey string) error {
	return errors.Join(checkName("exchange", exchange), checkName("routing key", routingKey))
}

// Confirm has the broker confirm what is published on the channel from here on
// (confirm.select): Publish waits for it. Calling it again does nothing. A channel
// that has begun a transaction can't confirm: PreconditionFailed, which ends it.
// https://www.rabbitmq.com/docs/confirms#publisher-confirms
func (ch *Channel) Confirm(ctx context.Context) error {
	m := &wire.ConfirmSelect{}
	p := newCall(m, wire.ConfirmSelectOkID)
	// The broker counts from the message that follows the method, so the
	// client does as well.
	err := ch.start(ctx, outgoing{method: m, call: p, sent: func() { ch.confirming = true }})
	if err == nil {
		err = ch.wait(ctx, p)
	}
	if err != nil {
		return fmt.Errorf("amqp: confirm mode: %w", err)
	}
	return nil
}
