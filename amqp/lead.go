package amqp

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// lead says who reads the socket. That is the reader; but while a lot comes, each read
// brings little, and one loop takes it all and settles each before it takes the next,
// the reader leaves it to that loop: who waits for messages reads them itself. To wake
// it from another goroutine costs as much as ten or twenty small messages do.
//
//	reader ──offer──▶ nobody ──the loop waits──▶ loop
//	  ▲ ▲               │ ▲                       │
//	  │ └─its nap ends──┘ └──it has its messages──┤
//	  │                                           │ there is something else to do
//	  └─────it wakes────  owed  ◀─────────────────┘
//
// Whoever waits for an answer, a confirm, or messages elsewhere claims it for the
// reader. Other news, as heartbeats and connection.blocked, are read by the loop while
// it waits, and by the reader when its nap is over.
type lead struct {
	state  atomic.Int32
	wanted atomic.Bool   // by the reader, which sleeps until the loop leaves
	rouse  chan struct{} // capacity 1: wakes it
	alarm  *time.Timer   // ends its nap
	loops  atomic.Int32  // ranges that would read
	others atomic.Int32  // ranges that have to be read for
	fed    *Consumer     // was given messages last
	last   time.Time     // when reading could have been offered
	skip   int           // chances to offer it that are to be passed by
	vain   int           // what skip was set to last, since others settle; 0: they don't
	err    error         // what the loop met; the reader's to tell

	mu       sync.Mutex
	by       *Consumer // whose loop is in a read
	cut      bool      // which was interrupted
	deadline time.Time // of all reads
}

const (
	ledByReader int32 = iota
	ledByNobody       // the next loop that waits may
	ledByLoop
	ledOwed // to the reader, which has to be awake
)

const (
	// The reader naps for as long as acknowledgements and other news may lie about;
	// each time for longer, as long as the loop comes back.
	shortNap = time.Millisecond
	longNap  = 8 * time.Millisecond
	// denseGap is how far apart reads are at most where sharing them pays.
	denseGap = 200 * time.Microsecond
)

// offerGap is denseGap. Tests set it larger, so as not to depend on the machine's speed.
var offerGap atomic.Int64

func init() { offerGap.Store(int64(denseGap)) }

// mayOffer returns the consumer whose loop could read, or nil. It has to be at work:
// one that waits already would not hear of it. A flood is better read by one goroutine
// while another handles it.
func (c *Conn) mayOffer() *Consumer {
	l := &c.lead
	if l.loops.Load() != 1 || !c.in.more.able() || l.others.Load() > 0 || l.fed == nil {
		return nil
	}
	if l.skip > 0 {
		l.skip--
		return nil
	}
	now := time.Now()
	dense := now.Sub(l.last) < time.Duration(offerGap.Load())
	l.last = now
	if dense && !c.in.brimful && !c.in.large() && c.waiting.Load() == 0 && !c.closing.Load() &&
		l.fed.loops.Load() == 1 && l.fed.stream.Len() > 0 && l.fed.inHand() <= 1 {
		return l.fed
	}
	return nil
}

// inHand is how many messages were taken and are not settled, about. The loop has one
// while it is at work. Where others have some, the broker should hear at once when they
// settle them, and send more meanwhile.
func (c *Consumer) inHand() int { return c.ch.ledger.unsettled() - c.stream.Len() }

// offer leaves reading to the loop of a consumer, until it has to be the reader that
// does. It reports false if that is only since nobody has for the time of a nap: then
// there is nothing in the buffer. While reading is on offer, what a reader writes is
// the loop's.
func (c *Conn) offer(to *Consumer) (owed bool, err error) {
	l := &c.lead
	l.state.Store(ledByNobody)
	c.unlessAlone()
	if to.stream.Len() == 0 {
		c.claim() // the loop may have looked before, and wait
	}
	for nap := shortNap; ; nap = min(2*nap, longNap) {
		reads := c.in.reads.Load()
		expired := l.sleep(nap)
		if expired && l.state.CompareAndSwap(ledByNobody, ledByReader) {
			l.fed = nil // no offer before it has had more
			break
		}
		if expired && time.Duration(c.in.reads.Load()-reads) < nap/denseGap {
			l.awaitLeave()
		}
		if owed = l.state.CompareAndSwap(ledOwed, ledByReader); owed {
			break
		}
	}
	if l.err == errUnfinished { //nolint:errorlint // the very same
		panic(errUnfinished) // what the loop was at can't be ended
	}
	c.out.Flush() // what the loop has acknowledged
	return owed, l.err
}

// awaitLeave waits until the loop has what it waits for, and leaves reading to the
// reader.
func (l *lead) awaitLeave() {
	l.wanted.Store(true)
	defer l.wanted.Store(false)
	if l.state.Load() == ledByLoop {
		<-l.rouse
	}
}

// sleep is the reader's nap. It reports false when the reader was woken before.
func (l *lead) sleep(nap time.Duration) (expired bool) {
	if l.alarm == nil {
		l.alarm = time.NewTimer(nap)
	} else {
		l.alarm.Reset(nap)
	}
	select {
	case <-l.alarm.C:
		return true
	case <-l.rouse:
		l.alarm.Stop()
		return false
	}
}

func (l *lead) wake() {
	select {
	case l.rouse <- struct{}{}:
	default:
	}
}

// claim has the reader read, if nobody does.
func (c *Conn) claim() {
	l := &c.lead
	if l.state.Load() == ledByNobody && l.state.CompareAndSwap(ledByNobody, ledOwed) {
		l.wake()
	}
}

// enterLoop counts a range that reads while it waits, and returns how to take that
// back.
func (c *Consumer) enterLoop() (leave func()) {
	conn := c.ch.conn
	conn.lead.loops.Add(1)
	c.loops.Add(1)
	conn.unlessAlone()
	return func() {
		c.loops.Add(-1)
		conn.lead.loops.Add(-1)
	}
}

// enterOther counts a range that has to be read for.
func (c *Conn) enterOther() (leave func()) {
	c.lead.others.Add(1)
	c.unlessAlone()
	return func() { c.lead.others.Add(-1) }
}

// unlessAlone claims what the loop may have to itself, if it is not alone any more.
func (c *Conn) unlessAlone() {
	l := &c.lead
	if l.wanted.Load() || l.loops.Load() > 1 || l.others.Load() > 0 || c.waiting.Load() > 0 || c.closing.Load() {
		c.claim()
	}
}

// readFor reads for a loop that has taken all it knows of, until it need not wait, if
// nobody else reads.
func (c *Conn) readFor(cons *Consumer) {
	l := &c.lead
	if l.state.Load() != ledByNobody || cons.hasNews() || !l.state.CompareAndSwap(ledByNobody, ledByLoop) {
		return
	}
	next := ledOwed
	defer func() { // also when a hook panics
		l.state.Store(next)
		if next == ledOwed {
			l.wake()
		} else {
			c.unlessAlone()
		}
	}()
	l.err = errUnfinished
	c.out.Flush()
	next, l.err = c.readUntil(cons)
}

// errUnfinished is met when a hook has panicked while a loop read, or ended its
// goroutine. That may have been in the middle of anything, with locks held, so that it
// is a crash as it would have been in the reader.
var errUnfinished = errors.New("amqp: a hook of Trace has panicked, or called runtime.Goexit, while a loop over messages read")

// readUntil reads until the consumer has messages, or has ended, or there is
// something that only the reader can do.
func (c *Conn) readUntil(cons *Consumer) (next int32, err error) {
	l := &c.lead
	if cons.inHand() > 0 {
		l.vain = min(2*l.vain+16, 1<<12)
		l.skip = l.vain
		return ledOwed, nil
	}
	l.vain = 0
	for !cons.hasNews() {
		if err := c.readOnce(cons); err != nil {
			return ledOwed, err
		}
		if err := errors.Join(c.takeFrames(), c.handOver()); err != nil {
			return ledOwed, err
		}
		if c.full != nil || c.in.brimful || c.in.large() {
			return ledOwed, nil
		}
	}
	return ledByNobody, nil
}

// hasNews tells whether a loop of the consumer need not wait. One that the broker has
// ended gets no more, and its loop is over with what came before.
func (c *Consumer) hasNews() bool {
	return c.stream.Len() > 0 || c.ended.Load() || c.cancelled.Load() != nil
}

// readOnce reads for a loop. It reads nothing, without an error, when the consumer
// has ended.
func (c *Conn) readOnce(cons *Consumer) error {
	l := &c.lead
	l.mu.Lock()
	if cons.ended.Load() {
		l.mu.Unlock()
		return nil
	}
	l.by = cons
	l.mu.Unlock()
	err := c.fill()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.by = nil
	if l.cut {
		l.cut = false
		_ = c.raw.SetReadDeadline(l.deadline)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
	}
	return err
}

// interrupt ends the read of a consumer's loop, since the consumer has ended.
func (c *Conn) interrupt(cons *Consumer) {
	l := &c.lead
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == cons && !l.cut {
		l.cut = c.raw.SetReadDeadline(time.Unix(1, 0)) == nil
	}
}

// boundReads sets the deadline of all reads from now on.
func (c *Conn) boundReads(deadline time.Time) error {
	l := &c.lead
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadline = deadline
	if l.cut {
		return nil // the loop sets it when it is out of its read
	}
	return c.raw.SetReadDeadline(deadline)
}
