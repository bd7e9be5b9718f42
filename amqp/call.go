package amqp

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// line is one of the connection's numbered lines: a channel, or number 0, which
// is the connection itself. Many methods may be waiting for their answers on it
// at once, and each answer goes to the oldest that it fits.
type line struct {
	conn   *Conn
	id     uint16
	ledger *ledger // of a channel; nil: the connection

	// shut tells that nothing may be sent any more. Guarded by the writer's
	// lock, so that no frame follows the line's last one.
	shut bool
	// unproven tells that settlements were sent which no answer of the
	// broker's has followed yet. Guarded by the writer's lock.
	unproven bool

	// mu comes after the writer's lock and conn.mu, and before those of the
	// ledger, the confirms and the streams.
	mu    sync.Mutex
	calls []*pendingCall
	cause error // why the line ended; nil while it lives
	// told is set when the exception that ended the line was given to the
	// call that it answers.
	told bool
}

// pendingCall is a method that waits for its answer.
type pendingCall struct {
	method  wire.MethodID
	answers [2]wire.MethodID
	done    chan struct{} // closed with reply or err
	reply   wire.Method
	content *delivery // of basic.get-ok
	noAck   bool      // of basic.get
	err     error
	// late is called by the reader with an answer whose caller has gone.
	late      func(reply wire.Method, content *delivery)
	abandoned bool
	// counts tells that conn.waiting counts who waits for this one, and calls
	// before it. The reader takes that off with the answer: until the caller
	// runs, it would go on reading what there is no room for.
	counts bool
	// farewell marks a step of a scope's end, which passes no error on: an
	// exception that answers it was told to nobody.
	farewell bool
}

func newCall(m wire.Method, answers ...wire.MethodID) *pendingCall {
	p := &pendingCall{method: m.ID(), done: make(chan struct{})}
	copy(p.answers[:], answers)
	return p
}

// call sends m and waits for one of the answers, for the end of ctx, or for
// that of the line.
func (l *line) call(ctx context.Context, m wire.Method, answers ...wire.MethodID) (wire.Method, error) {
	p := newCall(m, answers...)
	if err := l.start(ctx, outgoing{method: m, call: p}); err != nil {
		return nil, err
	}
	if err := l.wait(ctx, p); err != nil {
		return nil, err
	}
	return p.reply, nil
}

// roundTrip is call for answers that hold nothing.
func (l *line) roundTrip(ctx context.Context, m wire.Method, answer wire.MethodID) error {
	_, err := l.call(ctx, m, answer)
	return err
}

// farewell is roundTrip for a step of a scope's end, which is made whether or not
// the line still lives. It reports whether the answer came.
func (l *line) farewell(ctx context.Context, m wire.Method, answer wire.MethodID, last bool) bool {
	p := newCall(m, answer)
	p.farewell = true
	return l.start(ctx, outgoing{method: m, call: p, last: last}) == nil && l.wait(ctx, p) == nil
}

// send sends a method that has no answer.
func (l *line) send(ctx context.Context, m wire.Method) error {
	return l.start(ctx, outgoing{method: m})
}

// outgoing is a method, with its call unless it has no answer.
type outgoing struct {
	method wire.Method
	call   *pendingCall
	last   bool // nothing may be sent on the line after it
	// before is called before the acknowledgements that go ahead of it are collected,
	// and sent when it is certain to be sent, both with the writer's lock held. What is
	// acknowledged in between leaves behind it.
	before, sent func()
}

func (o *outgoing) waits() bool { return o.call != nil && !o.call.abandoned }

// start sends methods, back to back. None is sent when one can't be encoded.
// When the last one waits for its answer, wait must follow.
func (l *line) start(ctx context.Context, all ...outgoing) (err error) {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c := l.conn
	last := &all[len(all)-1]
	var buf []byte
	if last.call != nil {
		buf, err = c.begin()
	} else {
		buf, err = c.beginRoom(ctx)
	}
	if err != nil {
		return err
	}
	if l.shut {
		c.out.Abort()
		return l.end()
	}
	alone := len(buf) == 0
	for _, o := range all {
		if o.before != nil {
			o.before()
		}
	}
	buf = l.flushAcks(buf)
	before := buf
	for _, o := range all {
		if buf, err = c.append(buf, l.id, o.method); err != nil {
			c.out.Commit(before)
			return err
		}
	}
	if last.waits() {
		last.call.counts = true
	}
	if !l.enqueue(all) {
		c.out.Commit(before)
		return l.end()
	}
	l.shut = last.last
	for _, o := range all {
		if o.sent != nil {
			o.sent()
		}
	}
	if !last.waits() {
		c.out.Commit(buf)
		return nil
	}
	l.unproven = false
	if c.await(+1) == 1 && alone {
		c.out.CommitAlone(buf)
	} else {
		c.out.Commit(buf)
	}
	return nil
}

// flushAcks appends what the ledger has put off: acknowledgements reach the
// broker before any later method of the channel.
func (l *line) flushAcks(buf []byte) []byte {
	if l.ledger != nil && !l.shut && l.ledger.dirty.Load() {
		buf = l.ledger.flush(buf, l.id)
		l.unproven = true
	}
	return buf
}

func (l *line) enqueue(all []outgoing) (alive bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		return false
	}
	for _, o := range all {
		if o.call != nil {
			l.calls = append(l.calls, o.call)
		}
	}
	return true
}

// wait waits for calls that were started together, in their order, and returns
// the first error.
func (l *line) wait(ctx context.Context, calls ...*pendingCall) error {
	for i, p := range calls {
		select {
		case <-p.done:
		case <-ctx.Done():
			if l.abandon(calls[i:]) {
				return context.Cause(ctx)
			}
		}
		if p.err != nil {
			return p.err
		}
	}
	return nil
}

// over notes that nobody waits for p any more. mu is held.
func (l *line) over(p *pendingCall) {
	if p.counts {
		p.counts = false
		l.conn.await(-1)
	}
}

// abandon leaves the answers of calls to nobody. It reports false when the
// first has its answer already.
func (l *line) abandon(calls []*pendingCall) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-calls[0].done:
		return false
	default:
	}
	for _, p := range calls {
		p.abandoned = true
		l.over(p)
	}
	return true
}

// answer gives a reply to the oldest call that it fits. The reader calls it.
func (l *line) answer(reply wire.Method, content *delivery) error {
	id := reply.ID()
	l.mu.Lock()
	i := slices.IndexFunc(l.calls, func(p *pendingCall) bool {
		return p.answers[0] == id || p.answers[1] == id && id != 0
	})
	if i < 0 {
		l.mu.Unlock()
		return protocolError("the broker sent %v on channel %d, which answers nothing", id, l.id)
	}
	p := l.calls[i]
	l.calls = slices.Delete(l.calls, i, i+1)
	p.reply, p.content = reply, content
	l.over(p) // before the caller runs, who may look at Stats
	close(p.done)
	abandoned := p.abandoned
	l.mu.Unlock()
	if p.late != nil && abandoned {
		p.late(reply, content)
	}
	return nil
}

// fail ends the line: every call on it returns cause. at is the method that the
// broker's exception names, zero if there is none; the oldest call of that
// method is the one which the exception answers.
func (l *line) fail(cause error, at wire.MethodID) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		return false
	}
	l.cause = cause
	if l.ledger != nil { // before anybody hears of it: who has settles nothing any more
		l.ledger.fail(cause)
	}
	for _, p := range l.calls {
		if at != 0 && p.method == at && !p.abandoned && !p.farewell {
			l.told = true
		}
		p.err = cause
		l.over(p)
		close(p.done)
	}
	l.calls = nil
	return true
}

// ended tells whether the line has ended.
func (l *line) ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause != nil
}

// end is why the line has ended, for a call that comes too late.
func (l *line) end() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		return l.cause
	}
	if l.id == 0 {
		return ErrConnectionClosed
	}
	return fmt.Errorf("%w: its scope has ended", ErrChannelClosed)
}
