package amqp

import (
	"fmt"
	"sync"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// PublishError says which message failed and how. Unwrap gives Err, in which
// errors.Is finds ErrNacked, ErrReturned or ErrUnconfirmed.
type PublishError struct {
	Exchange, RoutingKey string
	Sequence             uint64  // of the message on its channel, from 1
	Return               *Return // what the broker said, with ErrReturned
	Err                  error
}

// Error names the message's exchange and routing key, and what became of it.
func (e *PublishError) Error() string {
	reason := ""
	if e.Return != nil {
		reason = fmt.Sprintf(": %d %s", uint16(e.Return.ReplyCode), e.Return.ReplyText)
	}
	return fmt.Sprintf("message %d to exchange %q with routing key %q: %v%s", e.Sequence, e.Exchange, e.RoutingKey, e.Err, reason)
}

// Unwrap gives Err.
func (e *PublishError) Unwrap() error { return e.Err }

// confirms are the messages of a channel that the broker has yet to confirm,
// by the number that both sides count from confirm.select on.
type confirms struct {
	mu       sync.Mutex
	win      window[unconfirmed]
	returns  map[uint64]*Return // came back; the confirm is still to come
	barriers []barrier          // by rising number
	cause    error              // why no more confirms will come
	relieved *Publisher
	traced   func(ConfirmInfo) // nil: nobody wants to know

	last *route // guarded by the writer's lock
}

// unconfirmed is one message. The zero value stands for one whose outcome is
// known. It is small, as 100,000 of them should stay in the processor's cache.
type unconfirmed struct {
	*route // nil: the outcome is known
	waiter *waiter
	pub    *Publisher
	parcel *parcel // of an outbox
}

// route is where a message went. Those in a row that went the same way share it.
type route struct{ exchange, routingKey string }

// routed is the route of a message that is about to be sent. The caller holds the
// writer's lock.
func (ch *Channel) routed(exchange, routingKey string) *route {
	r := ch.confirms.last
	if r == nil || r.exchange != exchange || r.routingKey != routingKey {
		r = ch.conn.routes.Next()
		ch.conn.routes.Pin(len(exchange) + len(routingKey))
		*r = route{exchange, routingKey}
		ch.confirms.last = r
	}
	return r
}

func isOpenMessage(m unconfirmed) bool { return m.route != nil }

// waiter is who waits for one outcome. It is reused, so that waiting allocates
// nothing.
type waiter struct {
	outcome chan error // capacity 1
	next    *waiter    // who waits for the same message
}

// tell gives the outcome to w and all that follow.
func (w *waiter) tell(err error) {
	for w != nil {
		next := w.next
		w.next = nil
		w.outcome <- err
		w = next
	}
}

// waiterPool keeps the waiters of a connection. There is none for all of them,
// since a channel that was made in one bubble of testing/synctest must not get
// into another.
type waiterPool struct{ idle sync.Pool }

func (p *waiterPool) get() *waiter {
	if w, ok := p.idle.Get().(*waiter); ok {
		return w
	}
	return &waiter{outcome: make(chan error, 1)}
}

func (p *waiterPool) put(w *waiter) { p.idle.Put(w) }

// barrier is who waits for all messages up to a number.
type barrier struct {
	upTo uint64
	done chan struct{}
}

// add enters a message that is about to be sent, and returns its number. The
// caller holds the writer's lock, so that numbers follow the order on the wire.
func (c *confirms) add(m *unconfirmed) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &c.win
	if w.next == 0 {
		w.base, w.next = 1, 1
	}
	w.reserve(1, isOpenMessage)
	n := w.next
	*w.at(n) = *m
	w.next++
	w.open++
	if m.pub != nil {
		m.pub.enter()
	}
	return n
}

// upcoming is the number that the next message will have. The caller holds the
// writer's lock.
func (c *confirms) upcoming() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(c.win.next, 1)
}

// find is the message n while its outcome is not known. A message of the older
// part is put back by set.
func (c *confirms) find(n uint64) (m unconfirmed, ok bool) {
	w := &c.win
	if n >= w.base && n < w.next {
		m = *w.at(n)
	} else {
		m = w.old[n]
	}
	return m, m.route != nil
}

func (c *confirms) set(n uint64, m unconfirmed) {
	if n >= c.win.base {
		*c.win.at(n) = m
	} else {
		c.win.old[n] = m
	}
}

// confirm takes the broker's ack or nack of tag, or of all up to it.
func (c *confirms) confirm(tag uint64, multiple, ack bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &c.win
	if tag >= max(w.next, 1) {
		return protocolError("the broker confirmed message %d, and %d were published on the channel", tag, max(w.next, 1)-1)
	}
	if !multiple {
		m, ok := c.find(tag)
		if !ok {
			return protocolError("the broker confirmed message %d twice", tag)
		}
		c.resolve(tag, &m, ack)
	} else if c.resolveUpTo(tag, ack) == 0 {
		return protocolError("the broker confirmed the messages up to %d twice", tag)
	}
	for w.base < w.next && w.at(w.base).route == nil {
		w.base++
	}
	c.relieve(nil)
	c.openBarriers()
	return nil
}

// relieve notes that p may publish more, and tells it once for a whole frame of
// confirms; nil ends the frame.
func (c *confirms) relieve(p *Publisher) {
	if c.relieved != nil && c.relieved != p {
		c.relieved.relieve()
	}
	c.relieved = p
}

// resolveUpTo resolves all messages up to tag, 0 being all there are, and counts
// them.
func (c *confirms) resolveUpTo(tag uint64, ack bool) (count int) {
	w := &c.win
	for n, m := range w.old {
		if n <= tag || tag == 0 {
			c.resolve(n, &m, ack)
			count++
		}
	}
	for n := w.base; n < w.next && (n <= tag || tag == 0); n++ {
		if m := w.at(n); m.route != nil {
			c.resolve(n, m, ack)
			count++
		}
	}
	return count
}

// resolve tells the outcome of message n to whoever waits.
func (c *confirms) resolve(n uint64, m *unconfirmed, ack bool) {
	var err error
	switch {
	case len(c.returns) > 0 && c.returns[n] != nil:
		err = c.failed(n, m, ErrReturned)
	case !ack:
		err = c.failed(n, m, ErrNacked)
	}
	c.settle(n, m, err)
}

// failed is the failure of message n, with what the broker said when it came back.
// The caller holds mu.
func (c *confirms) failed(n uint64, m *unconfirmed, err error) *PublishError {
	e := m.failed(n, err)
	e.Return = c.returns[n]
	return e
}

// failed is the same without that.
func (m *unconfirmed) failed(n uint64, err error) *PublishError {
	return &PublishError{Exchange: m.exchange, RoutingKey: m.routingKey, Sequence: n, Err: err}
}

// settle tells err to whoever waits for message n, last of all: by then the publisher's
// scope and the trace have it. entry may be where it is kept.
func (c *confirms) settle(n uint64, entry *unconfirmed, err error) {
	m := *entry
	if n < c.win.base {
		delete(c.win.old, n)
	} else {
		*c.win.at(n) = unconfirmed{}
		c.win.open--
	}
	if len(c.returns) > 0 {
		delete(c.returns, n)
	}
	if c.traced != nil {
		c.traced(ConfirmInfo{m.exchange, m.routingKey, n, err})
	}
	if m.pub != nil {
		m.pub.settle(err)
		c.relieve(m.pub)
	}
	if m.parcel != nil {
		m.parcel.outbox.settle(m.parcel, err)
	}
	m.waiter.tell(err)
}

// returned notes that message n came back; its confirm follows.
func (c *confirms) returned(n uint64, ret *Return) (known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.find(n)
	if ok {
		if c.returns == nil {
			c.returns = make(map[uint64]*Return)
		}
		c.returns[n] = ret
	}
	return ok
}

// fail ends the confirms: what is open stays unknown. It reports whether
// anybody was told.
func (c *confirms) fail(cause error) (told bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return false
	}
	c.cause = cause
	unknown := fmt.Errorf("%w: %w", ErrUnconfirmed, cause)
	end := func(n uint64, m unconfirmed) {
		told = told || m.waiter != nil || m.pub != nil
		c.settle(n, &m, c.failed(n, &m, unknown))
	}
	for n, m := range c.win.old {
		end(n, m)
	}
	for n := c.win.base; n < c.win.next; n++ {
		if m := *c.win.at(n); m.route != nil {
			end(n, m)
		}
	}
	c.win.base = c.win.next
	c.relieve(nil)
	c.openBarriers()
	return told
}

// abandon settles the messages of p as unknown. Their confirms may still come, so
// they stay open with nobody to tell.
func (c *confirms) abandon(p *Publisher, unknown error) (count int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.gaveUp = true
	end := func(n uint64, m unconfirmed) {
		if m.route != nil && m.pub == p {
			failure, waiter := c.failed(n, &m, unknown), m.waiter
			m.pub, m.waiter = nil, nil
			c.set(n, m)
			p.settle(failure)
			c.relieve(p)
			waiter.tell(failure)
			count++
		}
	}
	for n, m := range c.win.old {
		end(n, m)
	}
	for n := c.win.base; n < c.win.next; n++ {
		end(n, *c.win.at(n))
	}
	c.relieve(nil)
	return count
}

// unconfirmed counts the messages whose outcome is not known.
func (c *confirms) unconfirmed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.win.open + len(c.win.old)
}

func (c *confirms) openBarriers() {
	for len(c.barriers) > 0 && c.resolvedUpTo(c.barriers[0].upTo) {
		close(c.barriers[0].done)
		c.barriers = c.barriers[1:]
	}
}

func (c *confirms) resolvedUpTo(n uint64) bool {
	if n >= c.win.base {
		return false
	}
	for old := range c.win.old {
		if old <= n {
			return false
		}
	}
	return true
}

// barrier is closed when every message so far has its outcome.
func (c *confirms) barrier() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.barrierHere()
}

// barrierHere is barrier for a caller who holds mu.
func (c *confirms) barrierHere() <-chan struct{} {
	done := make(chan struct{})
	last := max(c.win.next, 1) - 1
	if last == 0 || c.resolvedUpTo(last) {
		close(done)
	} else {
		c.barriers = append(c.barriers, barrier{last, done})
	}
	return done
}

// attach has w told the outcome of message n, of p. It reports false when that is
// known already, or not waited for any more.
func (c *confirms) attach(p *Publisher, n uint64, w *waiter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.find(n)
	if !ok || p.gaveUp {
		return false
	}
	w.next, m.waiter = m.waiter, w
	c.set(n, m)
	return true
}

// detach takes w back before the outcome. It reports false when w was told
// meanwhile.
func (c *confirms) detach(n uint64, w *waiter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.find(n)
	if !ok {
		return false
	}
	for at := &m.waiter; *at != nil; at = &(*at).next {
		if *at == w {
			*at, w.next = w.next, nil
			c.set(n, m)
			return true
		}
	}
	return false
}

// onConfirm handles basic.ack and basic.nack, which in this direction confirm
// what was published.
func (ch *Channel) onConfirm(id wire.MethodID, payload []byte) (err error) {
	var tag uint64
	var multiple bool
	if id == wire.BasicAckID {
		tag, multiple, err = wire.ParseAck(payload)
	} else {
		tag, multiple, _, err = wire.ParseNack(payload)
	}
	if err != nil {
		return protocolError("%v", err)
	}
	return ch.confirms.confirm(tag, multiple, id == wire.BasicAckID)
}
