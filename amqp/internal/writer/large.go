package writer

import (
	"bytes"
	"context"
	"slices"
	"time"
)

// large is a slice of the caller's that is written from where it is.
type large struct {
	at   int // behind so many bytes of the buffer
	body []byte
	from uint64 // the ticket's number: its address would cost an allocation
}

// Ticket is the promise that a caller's bytes are not looked at any more.
type Ticket struct {
	w       *Writer
	n       uint64
	written <-chan struct{}
}

// Gathers tells whether Large may be used.
func (w *Writer) Gathers() bool { return w.conn != nil }

// Large has body written behind what is in buf. It is called inside the
// critical section, and the caller must Wait on the ticket before its bytes
// are anybody else's.
func (w *Writer) Large(t *Ticket, buf, body []byte) {
	if w.written == nil {
		w.written = make(chan struct{})
	}
	if t.w == nil {
		w.tickets++
		t.w, t.n = w, w.tickets
	}
	t.written = w.written
	w.large = append(w.large, large{len(buf), body, t.n})
}

// Wait waits until the bytes of the ticket are written, the writer has failed
// or ctx has ended. In the last case what is not written yet is copied, so that
// the message still goes out whole.
func (t *Ticket) Wait(ctx context.Context) {
	select {
	case <-t.written:
	case <-ctx.Done():
		t.w.reclaim(t)
	}
}

// reclaim copies what is not written, so that its owner may go.
func (w *Writer) reclaim(t *Ticket) {
	w.mu.Lock()
	if w.written == t.written { // not begun
		for i := range w.large {
			if w.large[i].from == t.n {
				w.large[i].body = bytes.Clone(w.large[i].body)
				w.copied += len(w.large[i].body)
			}
		}
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	// The flusher is writing it, and is woken by a deadline in the past.
	_ = w.conn.SetWriteDeadline(time.Unix(1, 0))
	<-t.written
}

// gather writes buf with the large bodies between its bytes. When somebody
// wants its bytes back meanwhile, what is left is copied and returned.
func (w *Writer) gather(buf []byte, all []large) (rest []byte, err error) {
	parts := w.parts[:0]
	at := 0
	for _, l := range all {
		parts = append(parts, buf[at:l.at], l.body)
		at = l.at
	}
	parts = append(parts, buf[at:])
	w.parts, w.left = parts, parts
	if _, err = w.left.WriteTo(w.conn); err != nil && w.interrupted(err) {
		rest, err = slices.Concat(w.left...), nil
	}
	clear(parts)
	return rest, err
}

// keepLarge is how many slices the lists of them are kept for.
const keepLarge = 64

// reuse keeps the lists that a gathered write was made from. It is called inside
// the critical section.
func (w *Writer) reuse(all []large) {
	clear(all)
	w.spareLarge, w.left = all[:0], nil
	if len(all) > keepLarge {
		w.spareLarge, w.parts = nil, nil
	}
}
