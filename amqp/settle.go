package amqp

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// ledger knows which deliveries of a channel are not settled, and which
// acknowledgements are not sent.
//
// Acknowledgements are put off until the writer flushes, or another method of
// the channel is sent. By then those below the first unsettled tag are one
// basic.ack with multiple set, and the others are one each. A negative one is
// sent at once. RabbitMQ wants the tag of a multiple ack to be one that it
// waits for, so it is the highest acknowledged tag, never just a bound.
type ledger struct {
	dirty atomic.Bool // acks are waiting to be sent

	mu    sync.Mutex
	win   window[settlement]
	upTo  uint64   // acknowledged like everything below, and not sent; 0: none
	count int      // how many upTo stands for
	loose []uint64 // acknowledged out of order, and not sent
	// recalls are those basic.recover whose answer is still to come.
	recalls int
	inTx    bool
	begun   uint64   // transactions so far
	tx      []uint64 // settled since the transaction began
	// refusal is why nothing can be settled: the channel has ended, or is
	// between two transactions.
	refusal error
}

type settlement uint8

const (
	unsettled settlement = iota
	ackWaits             // acknowledged, not sent
	settled
)

func isUnsettled(s settlement) bool { return s == unsettled }

// add enters the delivery tags first to last. The broker counts those of no-ack
// deliveries as well, and waits for none of them.
func (l *ledger) add(first, last uint64, noAck bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &l.win
	if first != w.next {
		if w.base < w.next {
			w.retire(isUnsettled)
		}
		w.base, w.next = first, first
	}
	if noAck && w.base == w.next {
		w.base, w.next = last+1, last+1
		return
	}
	w.reserve(last+1-w.next, isUnsettled)
	if noAck {
		for tag := first; tag <= last; tag++ {
			*w.at(tag) = settled
		}
	} else {
		w.open += int(last + 1 - first)
	}
	w.next = last + 1
}

// ack takes an acknowledgement. It reports whether the writer has to be told
// that there is one.
func (l *ledger) ack(tag uint64) (tell bool, err error) {
	l.mu.Lock()
	w := &l.win
	switch {
	case tag == w.base && tag < w.next && *w.at(tag) == unsettled && len(w.old) == 0 && l.refusal == nil && l.recalls == 0:
		// The common case: in order.
		w.open--
		l.upTo = tag
		l.count++
		w.base++
		l.advance()
	case !l.isOpen(tag):
		err = l.whyNot(tag)
		l.mu.Unlock()
		return false, err
	default:
		l.close(tag, ackWaits)
		l.loose = append(l.loose, tag)
	}
	if l.inTx {
		l.tx = append(l.tx, tag)
	}
	tell = !l.dirty.Load()
	if tell {
		l.dirty.Store(true)
	}
	l.mu.Unlock()
	return tell, nil
}

// ackUpTo takes an acknowledgement of tag and all before it; 0: of all.
func (l *ledger) ackUpTo(tag uint64) (tell bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	tag, n, err := l.closeUpTo(tag)
	if n == 0 || err != nil {
		return false, err
	}
	l.upTo = tag
	l.count += n + 1 // sent with multiple set, also when it stands for one
	l.advance()
	return !l.dirty.Swap(true), nil
}

// take settles tag, or all up to it, by what the caller sends itself, inside the
// writer's critical section. It appends the acknowledgements that wait, in the
// same step: one that left later would be of a tag that a multiple refusal has
// covered, or cover the tag itself. It returns the tag to send; 0: there is
// nothing to settle.
func (l *ledger) take(dst []byte, channel uint16, tag uint64, multiple bool) (_ []byte, last uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	dst = l.append(dst, channel)
	if multiple {
		tag, n, err := l.closeUpTo(tag)
		if n == 0 {
			tag = 0
		}
		l.advance()
		return dst, tag, err
	}
	if !l.isOpen(tag) {
		return dst, 0, l.whyNot(tag)
	}
	l.close(tag, settled)
	if l.inTx {
		l.tx = append(l.tx, tag)
	}
	l.advance()
	return dst, tag, nil
}

// closeUpTo settles every unsettled tag up to and including tag, and counts
// them.
func (l *ledger) closeUpTo(tag uint64) (last uint64, n int, err error) {
	w := &l.win
	if l.refusal != nil || l.recalls > 0 || tag != 0 && !l.isOpen(tag) {
		return 0, 0, l.whyNot(tag)
	}
	one := func(t uint64) {
		l.close(t, settled)
		if l.inTx {
			l.tx = append(l.tx, t)
		}
		last = max(last, t)
		n++
	}
	for t := range w.old {
		if tag == 0 || t <= tag {
			one(t)
		}
	}
	for t := w.base; t < w.next && (tag == 0 || t <= tag); t++ {
		if *w.at(t) == unsettled {
			one(t)
		}
	}
	return last, n, nil
}

func (l *ledger) isOpen(tag uint64) bool {
	w := &l.win
	if l.refusal != nil || l.recalls > 0 {
		return false
	}
	if tag >= w.base && tag < w.next {
		return *w.at(tag) == unsettled
	}
	_, ok := w.old[tag]
	return ok
}

func (l *ledger) close(tag uint64, how settlement) {
	w := &l.win
	if tag < w.base {
		delete(w.old, tag)
		return
	}
	*w.at(tag) = how
	w.open--
}

// advance moves the window past what is settled. Acknowledgements that waited
// for a gap to close join upTo.
func (l *ledger) advance() {
	w := &l.win
	for w.base < w.next {
		s := w.at(w.base)
		switch *s {
		case unsettled:
			return
		case ackWaits:
			if len(w.old) > 0 { // upTo would cover what is unsettled there
				return
			}
			l.upTo = max(l.upTo, w.base)
			l.count++
		}
		*s = unsettled
		w.base++
	}
}

// flush appends the acknowledgements that wait.
func (l *ledger) flush(dst []byte, channel uint16) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.append(dst, channel)
}

func (l *ledger) append(dst []byte, channel uint16) []byte {
	l.dirty.Store(false)
	if l.upTo != 0 {
		dst = wire.AppendAck(dst, channel, l.upTo, l.count > 1 || len(l.loose) > 0 && slices.Min(l.loose) < l.upTo)
	}
	for _, tag := range l.loose {
		if tag <= l.upTo {
			continue
		}
		dst = wire.AppendAck(dst, channel, tag, false)
		if tag >= l.win.base {
			*l.win.at(tag) = settled
		}
	}
	l.upTo, l.count = 0, 0
	if l.loose = l.loose[:0]; cap(l.loose) > sparse {
		l.loose = nil
	}
	l.advance()
	return dst
}

// recall has nothing settled any more, since basic.recover is about to be sent:
// whatever is delivered before its answer, void, is the broker's again.
func (l *ledger) recall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recalls++
}

// void forgets everything: the broker has taken its deliveries back.
func (l *ledger) void() (last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.win.ring)
	clear(l.win.old)
	l.win.base, l.win.open = l.win.next, 0
	l.upTo, l.count, l.loose = 0, 0, nil
	l.recalls = max(l.recalls-1, 0)
	return max(l.win.next, 1) - 1
}

// unsettled counts the deliveries that are not settled.
func (l *ledger) unsettled() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.win.open + len(l.win.old)
}

// begin starts a transaction.
func (l *ledger) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inTx, l.tx = true, nil
	l.begun++
	if errors.Is(l.refusal, errOutsideTx) {
		l.refusal = nil
	}
}

// pause has nothing settled until the next transaction begins.
func (l *ledger) pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refusal == nil {
		l.refusal = errOutsideTx
	}
}

// transaction is the number of the one that began last.
func (l *ledger) transaction() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.begun
}

// committedLate ends a transaction, unless another has begun since.
func (l *ledger) committedLate(number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if number == l.begun {
		l.conclude(true)
	}
}

// end ends it, and takes its settlements back when it was rolled back.
func (l *ledger) end(committed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conclude(committed)
}

func (l *ledger) conclude(committed bool) {
	if !committed {
		for _, tag := range l.tx {
			l.reopen(tag)
		}
	}
	l.inTx, l.tx = false, nil
	if l.refusal == nil {
		l.refusal = errOutsideTx
	}
}

// fail ends the ledger: every later settlement returns cause.
func (l *ledger) fail(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusal = cause
}

func (l *ledger) reopen(tag uint64) {
	w := &l.win
	if tag >= w.base {
		*w.at(tag) = unsettled
		w.open++
		return
	}
	if w.old == nil {
		w.old = make(map[uint64]settlement)
	}
	w.old[tag] = unsettled
}

// whyNot explains a tag that can't be settled.
func (l *ledger) whyNot(tag uint64) error {
	if l.refusal != nil {
		return l.refusal
	}
	if tag == 0 || tag >= l.win.next {
		return fmt.Errorf("%w: delivery tag %d was never delivered on this channel", PreconditionFailed, tag)
	}
	return ErrAlreadySettled
}
