package chaos

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/leveret-mq/leveret/amqp"
)

// fate is what Publish said of a message.
type fate int

const (
	pending   fate = iota
	confirmed      // nil
	unknown        // ErrUnconfirmed: it may arrive
	unsent         // it must not arrive
	refused        // ErrNacked or ErrReturned
)

// message is the history of one message.
type message struct {
	begun, ended time.Time // of Publish
	fate         fate
	handled      []handling
}

// handling is one time that a consumer had a message and was done with it.
type handling struct {
	at          time.Time
	life        *life
	redelivered bool
}

// life is one connection's.
type life struct {
	role           string
	number         int
	opened, closed time.Time
	lost           error // nil: it ended in good order, or has not ended
}

// book keeps the account of a run.
type book struct {
	mu         sync.Mutex
	messages   []message
	lives      []*life
	crashes    []time.Time // of the broker
	deleted    []time.Time // the queue, with all that was in it
	count      [refused + 1]int
	consumed   int // handled at least once
	owed       int // confirmed and not handled
	failed     int // handlers that returned an error
	unexpected []error
	watch      watch
	recoveries []recovery
}

// watch waits for the first signs of life since a broker is back from what began
// earlier.
type watch struct {
	began, back        time.Time
	confirmed, handled time.Time
}

// recovery is how long it took, after a broker was back, until a message was
// confirmed and one was handled, and until a bystander had got one through.
type recovery struct {
	after                         string
	confirmed, handled, bystander time.Duration
}

// begin numbers a message that is about to be published.
func (b *book) begin() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages = append(b.messages, message{begun: time.Now()})
	return len(b.messages) - 1
}

// end notes what Publish said of message n.
func (b *book) end(n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := &b.messages[n]
	m.ended, m.fate = time.Now(), b.fateOf(n, err)
	b.count[m.fate]++
	if m.fate != confirmed {
		return
	}
	if len(m.handled) == 0 {
		b.owed++
	}
	if b.watch.confirmed.IsZero() && m.begun.After(b.watch.back) {
		b.watch.confirmed = m.ended
	}
}

func (b *book) fateOf(n int, err error) fate {
	switch {
	case err == nil:
		return confirmed
	case errors.Is(err, amqp.ErrNacked), errors.Is(err, amqp.ErrReturned):
		return refused
	case !errors.Is(err, context.DeadlineExceeded):
		b.unexpected = append(b.unexpected, fmt.Errorf("message %d: %w", n, err))
		return unknown
	case errors.Is(err, amqp.ErrUnconfirmed):
		return unknown
	}
	return unsent
}

// handle notes that a consumer is done with message n.
func (b *book) handle(n int, l *life, redelivered bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n < 0 || n >= len(b.messages) {
		b.unexpected = append(b.unexpected, fmt.Errorf("message %d was delivered, and never sent", n))
		return
	}
	m, now := &b.messages[n], time.Now()
	if len(m.handled) == 0 {
		b.consumed++
		if m.fate == confirmed {
			b.owed--
		}
	}
	m.handled = append(m.handled, handling{now, l, redelivered})
	if b.watch.handled.IsZero() && (l.opened.After(b.watch.began) || m.begun.After(b.watch.back)) {
		b.watch.handled = now
	}
}

// wasHandled tells whether message n may be acknowledged.
func (b *book) wasHandled(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return n >= 0 && n < len(b.messages) && len(b.messages[n].handled) > 0
}

func (b *book) handlerFailed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed++
}

func (b *book) open(role string) *life {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := &life{role: role, number: len(b.lives) + 1, opened: time.Now()}
	b.lives = append(b.lives, l)
	return l
}

// close notes how a connection's body ended.
func (b *book) close(l *life, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.closed = time.Now()
	if errors.Is(err, amqp.ErrConnectionClosed) || errors.Is(err, amqp.ErrChannelClosed) {
		l.lost = err
	}
}

// now enters an event of the broker's.
func (b *book) now(events *[]time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*events = append(*events, time.Now())
}

func (b *book) confirmedSoFar() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count[confirmed]
}

// settled tells whether everything that was confirmed has been handled. What went
// with a queue that was deleted never will be.
func (b *book) settled() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.deleted) == 0 {
		return b.owed == 0
	}
	return b.lost() == 0
}

// lost counts the confirmed messages that no consumer has handled, except those
// that may have been in a queue when it was deleted. The lock is held.
func (b *book) lost() (count int) {
	var last time.Time
	if len(b.deleted) > 0 {
		last = b.deleted[len(b.deleted)-1]
	}
	for i := range b.messages {
		if m := &b.messages[i]; m.fate == confirmed && len(m.handled) == 0 && m.begun.After(last) {
			count++
		}
	}
	return count
}

// back notes that the broker is back from what began then.
func (b *book) back(began time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watch = watch{began: began, back: time.Now()}
}

// flowing tells whether a message that was published since the broker is back has
// been confirmed, and one has been handled: such a message, or an older one by a
// consumer that connected since the trouble began.
func (b *book) flowing() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.watch.confirmed.IsZero() && !b.watch.handled.IsZero()
}

// recovered notes how long it took until messages flowed, and a bystander had got
// one through.
func (b *book) recovered(after string, bystander time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.watch
	b.recoveries = append(b.recoveries, recovery{after, w.confirmed.Sub(w.back), w.handled.Sub(w.back), bystander})
}

func (b *book) refusedSoFar() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count[refused]
}

func (b *book) cutsSoFar() (count int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.lives {
		if l.lost != nil {
			count++
		}
	}
	return count
}
