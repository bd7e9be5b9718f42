package amqp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// OutboxOptions says how much an Outbox holds.
type OutboxOptions struct {
	// Capacity is how many messages may be waiting for their confirm, or for a
	// connection, before Publish waits. 0: 1024.
	Capacity int
	// Mandatory has every message be routed, or its Publish return ErrReturned.
	Mandatory bool
}

// Outbox publishes reliably for code that lives outside of connections, an HTTP
// handler, say. Its Run is the body of a Supervise, and its Publish returns when
// the broker has confirmed the message, on whichever connection. What a lost
// connection left unconfirmed is published again, in order, on the next: each
// message arrives at least once, and may arrive twice, with the same message id
// if it has one.
type Outbox struct {
	opts  OutboxOptions
	slots chan struct{} // one for each message held
	ready chan struct{} // capacity 1: there is something to send

	mu      sync.Mutex
	running bool
	// The messages that have no outcome, in order.
	first, last *parcel
	unsent      *parcel // the first that was not sent on this connection
	used        bool    // something was sent on this channel
	forsaken    bool    // what was sent on this channel had a caller who has gone
	lastSuspect *parcel // up to here, one ended the last channel by an exception; nil: none did
}

// parcel is a message in an Outbox.
type parcel struct {
	outbox               *Outbox
	exchange, routingKey string
	msg                  Message
	outcome              chan error // capacity 1
	sent                 bool       // on some connection
	suspected            bool       // a channel ended with nothing else on its way
	prev, next           *parcel
	out                  bool // no longer held
}

// NewOutbox makes an outbox. Its Run has to be running for messages to leave it.
func NewOutbox(opts OutboxOptions) *Outbox {
	if opts.Capacity <= 0 {
		opts.Capacity = 1024
	}
	return &Outbox{opts: opts, slots: make(chan struct{}, opts.Capacity), ready: make(chan struct{}, 1)}
}

// Publish returns nil when the broker has confirmed the message. It waits for
// that, for a connection, and for room, until ctx ends: then the error wraps
// ErrUnconfirmed when the message was sent and may still arrive, and says that it
// was not sent otherwise. A message that the broker refuses is ErrNacked, one that
// no queue takes ErrReturned, both in a *PublishError. What can't be published at
// all, because its exchange does not exist, say, is the broker's *Error. An
// immediate message is refused here: RabbitMQ would close the connection, which is
// everybody's.
func (o *Outbox) Publish(ctx context.Context, exchange, routingKey string, msg Message) error {
	fail := func(err error) error {
		return fmt.Errorf("amqp: outbox: publish to exchange %q with routing key %q: %w", exchange, routingKey, err)
	}
	if msg.Immediate {
		return fail(errImmediate)
	}
	if err := checkRoute(exchange, routingKey); err != nil {
		return fail(err)
	}
	if _, err := msg.Properties.wire().Size(); err != nil {
		return fail(err)
	}
	if ctx.Err() != nil {
		return fail(fmt.Errorf("not sent: %w", context.Cause(ctx)))
	}
	select { // room comes first: the one below picks either, when ctx has ended
	case o.slots <- struct{}{}:
	default:
		select {
		case o.slots <- struct{}{}:
		case <-ctx.Done():
			return fail(fmt.Errorf("not sent: the outbox is full: %w", context.Cause(ctx)))
		}
	}
	msg.Mandatory = msg.Mandatory || o.opts.Mandatory
	msg.Body = bytes.Clone(msg.Body)
	msg.Properties.Headers = cloneTable(msg.Properties.Headers)
	p := &parcel{outbox: o, exchange: exchange, routingKey: routingKey, msg: msg, outcome: make(chan error, 1)}
	o.put(p)
	select {
	case err := <-p.outcome:
		if err != nil {
			return fail(err)
		}
		return nil
	case <-ctx.Done():
		return o.giveUp(ctx, p, fail)
	}
}

var errImmediate = errors.New("not sent: RabbitMQ has no immediate messages and closes the connection at one: leave Message.Immediate out")

// giveUp takes p out for a caller who waits no longer.
func (o *Outbox) giveUp(ctx context.Context, p *parcel, fail func(error) error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case err := <-p.outcome:
		if err == nil {
			return nil
		}
		return fail(err)
	default:
	}
	o.remove(p)
	if p.sent {
		o.forsaken = true
		return fail(fmt.Errorf("%w: %w", ErrUnconfirmed, context.Cause(ctx)))
	}
	return fail(fmt.Errorf("not sent: %w", context.Cause(ctx)))
}

// Len is how many messages have no outcome yet.
func (o *Outbox) Len() int { return len(o.slots) }

func (o *Outbox) put(p *parcel) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p.prev = o.last; p.prev == nil {
		o.first = p
	} else {
		p.prev.next = p
	}
	o.last = p
	if o.unsent == nil {
		o.unsent = p
	}
	o.wake()
}

func (o *Outbox) wake() {
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// remove takes p out of the list, with mu held.
func (o *Outbox) remove(p *parcel) {
	if p.out {
		return
	}
	p.out = true
	if o.unsent == p {
		o.unsent = p.next
	}
	if p.prev == nil {
		o.first = p.next
	} else {
		p.prev.next = p.next
	}
	if p.next == nil {
		o.last = p.prev
	} else {
		p.next.prev = p.prev
	}
	if o.lastSuspect == p {
		o.lastSuspect = p.prev
	}
	o.wake()
	<-o.slots
}

// settle takes the outcome of p. A message whose outcome is unknown stays, to be
// sent again.
func (o *Outbox) settle(p *parcel, err error) {
	if errors.Is(err, ErrUnconfirmed) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !p.out {
		o.remove(p) // before the caller runs, who may look at Len
		p.outcome <- err
	}
}

// Run sends what is published, on a channel of conn's with confirms, until the
// connection ends, and returns why it did: it is the body for Supervise, or a task
// of its scope. One Run at a time serves an outbox; a second one is an error.
func (o *Outbox) Run(conn *Conn) error {
	o.mu.Lock()
	if o.running {
		o.mu.Unlock()
		return errors.New("amqp: outbox: it is running on another connection")
	}
	o.running = true
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.running = false
	}()
	ctx := conn.Context()
	for {
		err := o.session(ctx, conn)
		if !o.canGoOn(ctx, err) {
			return err
		}
	}
}

// canGoOn tells whether a channel ended by a message that the broker could not
// take, such as one to a missing exchange. It does not say which, so what was on
// the way is sent again one by one; when it was one, that is the one. One whose
// caller has gone is not sent again, and may have been it.
func (o *Outbox) canGoOn(ctx context.Context, err error) bool {
	var said *Error
	if !errors.As(err, &said) || said.Connection || ctx.Err() != nil {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.first != nil && o.first.next == o.unsent && o.first != o.unsent && !o.forsaken {
		culprit := o.first
		if said.method() == wire.BasicPublishID || culprit.suspected {
			o.remove(culprit)
			culprit.outcome <- said
			return true
		}
		culprit.suspected = true // the exception may have been about something else
	}
	if o.lastSuspect = o.last; o.unsent != nil {
		o.lastSuspect = o.unsent.prev
	}
	return o.used // else by something that would only happen again
}

// session sends on one channel until that ends.
func (o *Outbox) session(ctx context.Context, conn *Conn) error {
	return conn.WithChannel(ctx, func(ch *Channel) error {
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		o.mu.Lock()
		o.unsent, o.used, o.forsaken = o.first, false, false
		o.mu.Unlock()
		for {
			p, err := o.next(ch.Context())
			if err != nil {
				return err
			}
			if _, err := ch.publish(ch.Context(), &sending{unconfirmed{parcel: p}, p.exchange, p.routingKey}, &p.msg); err != nil {
				if errors.Is(err, ErrConnectionClosed) || errors.Is(err, ErrChannelClosed) {
					// The scope hears of that a moment later.
					<-ch.Context().Done()
				}
				if ch.Context().Err() != nil {
					return context.Cause(ch.Context())
				}
				o.settle(p, err) // it can't be encoded for this broker, unless its caller has gone
			}
		}
	})
}

// next waits for a message to be sent. While there are suspects, the one before
// must have its outcome.
func (o *Outbox) next(ctx context.Context) (*parcel, error) {
	for {
		o.mu.Lock()
		if p := o.unsent; p != nil && (o.lastSuspect == nil || p == o.first) {
			o.mu.Unlock()
			return p, nil
		}
		o.mu.Unlock()
		select {
		case <-o.ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

var errForsaken = errors.New("its caller has gone")

// leave tells that p goes out now, with the writer's lock held: it may have waited
// long for that. It reports false when its caller has gone by then.
func (p *parcel) leave() bool {
	o := p.outbox
	o.mu.Lock()
	defer o.mu.Unlock()
	if p.out {
		return false
	}
	o.unsent, o.used, p.sent = p.next, true, true
	return true
}
