package amqp

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/leveret-mq/leveret/scope"
)

// PublisherOptions says how a publisher goes about confirms.
type PublisherOptions struct {
	// MaxInFlight is how many unconfirmed messages there may be before
	// Publish waits. 0: 1024.
	MaxInFlight int
	// Mandatory has every message be routed, or its Receipt say ErrReturned;
	// a confirm alone does not mean that a queue has it.
	Mandatory bool
	// OnFailure is called for each message that was refused, returned, or left
	// unconfirmed, one call at a time, on a goroutine of the publisher's. An
	// error of its fails the scope, and nil goes on. A call that takes so long
	// that 65536 failures wait behind it fails the scope as well. It may publish on
	// the publisher, also when body has returned: with a ctx from outside, as the
	// publisher's own may have ended. Nil: the first failure fails the scope.
	OnFailure func(*PublishError) error
}

const defaultMaxInFlight = 1024

// Publisher sends messages without waiting for each one's confirm, and is the
// scope of what does so. It is valid inside the callback that WithPublisher
// gives it to.
type Publisher struct {
	*scope.Scope
	ch     *Channel
	opts   PublisherOptions
	duties *scope.Scope  // around the publisher's scope: runs OnFailure
	room   chan struct{} // capacity 1: a baton for those who wait for a confirm

	left    atomic.Bool // the scope has ended: OnFailure alone may publish
	telling atomic.Bool // OnFailure is being called
	over    atomic.Bool // what is published now has nobody to be told

	sent uint64        // guarded by confirms.mu and by the writer's lock: either is enough to read it
	free atomic.Uint64 // settled, as of the end of a frame of confirms

	// Guarded by confirms.mu.
	settled uint64
	waiting int
	failed  failures
	queue   []*PublishError // for OnFailure
	calling chan struct{}   // nil: OnFailure has heard of all; closed when it has
	gaveUp  bool            // what had no outcome by then is unknown
}

// failures remembers which messages failed, for the receipts: all others were
// confirmed. It keeps the latest of them.
type failures struct {
	byNumber  map[uint64]*PublishError
	order     []uint64
	forgotten uint64 // up to here a failure may have been dropped
	first     *PublishError
}

const maxFailures = 1 << 16

var errFailuresBehind = fmt.Errorf("amqp: publisher: %d failures wait for OnFailure, and there are more", maxFailures)

func (f *failures) add(e *PublishError) {
	if f.byNumber == nil {
		f.byNumber, f.first = make(map[uint64]*PublishError), e
	}
	f.byNumber[e.Sequence] = e
	f.order = append(f.order, e.Sequence)
	if len(f.order) > maxFailures {
		f.forgotten = max(f.forgotten, f.order[0])
		delete(f.byNumber, f.order[0])
		f.order = f.order[1:]
	}
}

func (f *failures) of(n uint64) error {
	if e, ok := f.byNumber[n]; ok {
		return e
	}
	if n <= f.forgotten {
		return fmt.Errorf("%w: more than %d messages have failed since", ErrUnconfirmed, maxFailures)
	}
	return nil
}

// Receipt stands for one published message. It is a small value; the zero
// Receipt stands for none.
type Receipt struct {
	p *Publisher
	n uint64
}

// WithPublisher gives body a publisher, and returns when body and everything in
// its scope has ended and every message has its outcome. It puts the channel into
// confirm mode.
//
// It returns what body, a task or OnFailure failed with, and without OnFailure
// the first message's *PublishError. When its scope has failed, or ctx or the
// channel's scope has ended, it waits for outcomes no longer than
// Config.CloseTimeout; its error says how many messages are ErrUnconfirmed then.
// https://www.rabbitmq.com/docs/publishers#data-safety
func (ch *Channel) WithPublisher(ctx context.Context, opts PublisherOptions, body func(*Publisher) error) (err error) {
	if opts.MaxInFlight < 0 {
		return fmt.Errorf("amqp: publisher: MaxInFlight %d is negative", opts.MaxInFlight)
	}
	if opts.MaxInFlight == 0 {
		opts.MaxInFlight = defaultMaxInFlight
	}
	if err := ch.confirmOnce(ctx); err != nil {
		return err
	}
	p := &Publisher{ch: ch, opts: opts, room: make(chan struct{}, 1)}
	duties := scope.Open(context.WithoutCancel(ctx), nil)
	p.duties = duties.Scope()
	duties.OnEnd(func() { p.Cancel(context.Cause(p.duties.Context())) })
	told, _ := duties.Run(func() error {
		handle := scope.Open(ctx, ch.Scope)
		p.Scope = handle.Scope()
		ch.conn.watch(handle, p.name, nil, nil)
		ch.inner.Add(1)
		defer ch.inner.Add(-1)
		failed := true
		defer func() { err = joinCause(err, p.finish(ctx, failed)) }()
		err, _ = handle.Run(func() error { return body(p) })
		failed = err != nil
		return nil
	})
	return joinCause(err, told)
}

// confirmOnce is Confirm unless the channel is in confirm mode.
func (ch *Channel) confirmOnce(ctx context.Context) error {
	_, err := ch.conn.begin()
	if err != nil {
		return err
	}
	on := ch.confirming
	ch.conn.out.Abort()
	if on {
		return nil
	}
	return ch.Confirm(ctx)
}

// Publish sends a message, and returns when it is on its way: the receipt stands
// for its outcome. It waits while MaxInFlight messages are unconfirmed, and for
// what Channel.Publish waits for. When it returns an error, the message was not
// sent.
func (p *Publisher) Publish(ctx context.Context, exchange, routingKey string, msg Message) (Receipt, error) {
	msg.Mandatory = msg.Mandatory || p.opts.Mandatory
	s := sending{unconfirmed{pub: p}, exchange, routingKey}
	var n uint64
	err := errPublisherEnded
	if !p.over.Load() && (!p.left.Load() || p.telling.Load()) {
		n, err = p.ch.publish(ctx, &s, &msg)
	}
	if err != nil {
		return Receipt{}, fmt.Errorf("amqp: publish to exchange %q with routing key %q: %w", exchange, routingKey, err)
	}
	return Receipt{p, n}, nil
}

var errPublisherEnded = errors.New("the publisher's scope has ended")

// Wait is a barrier: it returns when everything published so far on the channel
// has its outcome, or the cause of ctx when that ends first. Without OnFailure it
// returns the first failure there was, a *PublishError.
func (p *Publisher) Wait(ctx context.Context) error {
	p.ch.conn.await(+1)
	defer p.ch.conn.await(-1)
	p.ch.conn.out.Hurry()
	select {
	case <-p.ch.confirms.barrier():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	c := &p.ch.confirms
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.opts.OnFailure == nil && p.failed.first != nil {
		return p.failed.first
	}
	return nil
}

// Wait returns nil when the broker has the message, and a *PublishError in which
// errors.Is finds ErrNacked, ErrReturned or ErrUnconfirmed when not. When ctx
// ends first, it returns the cause of that, and the outcome is still to come.
func (r Receipt) Wait(ctx context.Context) error {
	if r.p == nil {
		return errors.New("amqp: the receipt stands for no message")
	}
	pool := &r.p.ch.conn.waiters
	w := pool.get()
	defer pool.put(w)
	c := &r.p.ch.confirms
	if !c.attach(r.p, r.n, w) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return r.p.failed.of(r.n)
	}
	r.p.ch.conn.await(+1)
	defer r.p.ch.conn.await(-1)
	r.p.ch.conn.out.Hurry()
	select {
	case err := <-w.outcome:
		return err
	case <-ctx.Done():
	}
	if c.detach(r.n, w) {
		return context.Cause(ctx)
	}
	return <-w.outcome
}

// full tells whether a message has to wait for a confirm, and counts it as
// waiting then. The caller holds the writer's lock.
func (p *Publisher) full() bool {
	if p.sent-p.free.Load() < uint64(p.opts.MaxInFlight) { // #nosec G115 -- it is positive
		return false // without the lock, which the reader has for as long as it goes through a frame of confirms
	}
	c := &p.ch.confirms
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.inFlight() < p.opts.MaxInFlight {
		return false
	}
	p.waiting++
	return true
}

// waited ends what full began.
func (p *Publisher) waited() {
	c := &p.ch.confirms
	c.mu.Lock()
	defer c.mu.Unlock()
	p.waiting--
	p.passBaton()
}

// inFlight is how many messages have no outcome. The caller holds confirms.mu.
func (p *Publisher) inFlight() int { return int(p.sent - p.settled) } // #nosec G115 -- MaxInFlight at most

// enter counts a message that is on its way. The caller holds confirms.mu and
// the writer's lock.
func (p *Publisher) enter() {
	p.sent++
	p.passBaton()
}

// relieve says that the messages settled so far make room. The caller holds
// confirms.mu.
func (p *Publisher) relieve() {
	p.free.Store(p.settled)
	p.passBaton()
}

// passBaton lets the next of those who wait for a confirm look. One baton is
// enough: whoever took it passes it on.
func (p *Publisher) passBaton() {
	if p.waiting > 0 && p.inFlight() < p.opts.MaxInFlight {
		select {
		case p.room <- struct{}{}:
		default:
		}
	}
}

// settle takes the outcome of a message. The caller holds confirms.mu, and calls
// relieve at the end.
func (p *Publisher) settle(err error) {
	p.settled++
	if err != nil {
		p.fail(err.(*PublishError)) //nolint:errorlint,forcetypeassert // it was made by failed
	}
}

// fail takes a message's failure. The caller holds confirms.mu.
func (p *Publisher) fail(failure *PublishError) {
	p.failed.add(failure)
	if p.opts.OnFailure == nil {
		if p.failed.first == failure {
			p.Cancel(failure)
		}
		return
	}
	if len(p.queue) >= maxFailures {
		p.duties.Cancel(errFailuresBehind) // p's own scope may have ended well
		return
	}
	p.queue = append(p.queue, failure)
	if p.calling == nil {
		p.calling = make(chan struct{})
		p.duties.Go(p.tell)
	}
}

// tell calls OnFailure until nothing is left to be told. Its failure, or
// runtime.Goexit, ends duties, and calling stays: nobody tells the rest.
func (p *Publisher) tell(context.Context) error {
	c := &p.ch.confirms
	for {
		c.mu.Lock()
		if len(p.queue) == 0 {
			close(p.calling)
			p.calling = nil
			c.mu.Unlock()
			return nil
		}
		failure := p.queue[0]
		p.queue = p.queue[1:]
		c.mu.Unlock()
		p.telling.Store(true)
		err := p.opts.OnFailure(failure)
		p.telling.Store(false)
		if err != nil {
			return err
		}
	}
}

// finish waits for the outcomes at the scope's end, those of what OnFailure
// publishes meanwhile among them.
func (p *Publisher) finish(ctx context.Context, failed bool) error {
	p.left.Store(true)
	cause := errPublisherFailed
	if !failed {
		if cause = p.awaitAll(ctx); cause == nil {
			return p.firstFailure()
		}
	}
	p.over.Store(true)
	p.ch.conn.await(+1)
	defer p.ch.conn.await(-1)
	p.ch.conn.out.Hurry()
	if !p.awaitLast(p.ch.confirms.barrier()) {
		return p.giveUp(cause)
	}
	return p.firstFailure()
}

// awaitAll returns nil when the publisher is over, since nothing is left to wait
// for, or why not to wait any more.
func (p *Publisher) awaitAll(ctx context.Context) (cause error) {
	outer := p.ch.Context()
	for cause == nil {
		next, brought := p.unfinished()
		if next == nil {
			return nil
		}
		p.ch.conn.await(brought)
		p.ch.conn.out.Hurry()
		select {
		case <-next:
		case <-p.duties.Context().Done():
			cause = errPublisherFailed
		case <-ctx.Done():
			cause = context.Cause(ctx)
		case <-outer.Done():
			cause = context.Cause(outer)
		}
		p.ch.conn.await(-brought)
	}
	return cause
}

// unfinished is what has to be waited for, and looked again after that: brought by the
// reader, which is 1 then, or by OnFailure, which must not keep the reader from holding
// back. It ends the publisher when there is nothing.
func (p *Publisher) unfinished() (next <-chan struct{}, brought int32) {
	c := &p.ch.confirms
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.inFlight() > 0 {
		return c.barrierHere(), 1
	}
	if p.calling != nil {
		return p.calling, 0
	}
	p.over.Store(true)
	return nil, 0
}

// awaitLast waits for the outcomes as for a step of the goodbye. A broker that says
// nothing meanwhile, or reads nothing because of an alarm, is not waited for again.
func (p *Publisher) awaitLast(done <-chan struct{}) bool {
	c := p.ch.conn
	if c.lapsed() {
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
	before := c.said()
	limit := time.NewTimer(c.cfg.CloseTimeout)
	defer limit.Stop()
	select {
	case <-done:
		return true
	case <-limit.C:
	}
	if c.said() == before || c.isBlocked() {
		c.noteLapse()
	}
	return false
}

var errPublisherFailed = errors.New("the publisher's scope has failed")

func (p *Publisher) firstFailure() error {
	c := &p.ch.confirms
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.opts.OnFailure != nil || p.failed.first == nil {
		return nil
	}
	return p.failed.first
}

// giveUp settles what the broker has not confirmed in time as unknown.
func (p *Publisher) giveUp(cause error) error {
	n := p.ch.confirms.abandon(p, fmt.Errorf("%w: %w", ErrUnconfirmed, cause))
	if n == 0 {
		return p.firstFailure()
	}
	return fmt.Errorf("amqp: publisher: %d messages: %w", n, ErrUnconfirmed)
}
