package writer

import (
	"errors"
	"net"
	"os"
	"runtime"
	"time"
)

// keep is the size up to which an emptied buffer is kept for the next filling:
// what a socket takes at once. A larger one was a burst and is given back.
const keep = 512 << 10

// Run is the flusher. It returns nil after Close, once everything is written,
// and the error after Fail or a failed write.
func (w *Writer) Run() error {
	for {
		select {
		case <-w.kick:
		case <-w.done:
			return w.err
		}
		if done, err := w.flush(); done {
			return err
		}
	}
}

// flush writes until nothing is left, or somebody else has the writer's role.
func (w *Writer) flush() (done bool, err error) {
	for w.settle(); ; w.settle() {
		switch {
		case w.err != nil:
			w.mu.Unlock()
			return true, w.err
		case w.writing: // the one who writes sees that kicked is set, and kicks again
			w.mu.Unlock()
			return false, nil
		}
		w.kicked = false
		switch {
		case len(w.rest) > 0:
			out := w.rest
			w.rest = nil
			w.take()
			err = w.writeAll(out)
			w.mu.Lock()
			w.putBack(out)
			if err == nil {
				w.mu.Unlock()
			}
		default:
			if w.collect != nil {
				w.buf = w.collect(w.buf)
			}
			if len(w.buf) == 0 {
				w.urgent = false
				done = w.closing
				if done {
					w.fail(ErrClosed)
				}
				w.mu.Unlock()
				return done, nil
			}
			if err = w.swapAndWrite(); err == nil {
				w.mu.Unlock()
			}
		}
		if err != nil {
			w.fail(err)
			w.mu.Unlock()
			return true, err
		}
	}
}

const (
	// enough is what one write should have, if there are people to add it: of
	// small messages larger ones gain nothing, as they leave the fastest cache. Who
	// has added so much writes it.
	enough = 32 << 10
	// Large messages cost those who write them more than those who add them. Of
	// those a write should have many, and plenty at most: with 16 to 64 KiB
	// publishing takes a fifth less CPU.
	plenty = 256 << 10
	many   = 32
	// flood is what is there, when a look finds it, only if somebody adds as
	// fast as it can.
	flood = 8 << 10
	// looks is how often the flusher looks whether more is being added, each
	// time after twice as long.
	looks = 12
	// However long others keep the processors, the flusher settles no longer
	// than this: for a trickle, and for a flood, most of which it need not write.
	trickleTime = 50 * time.Microsecond
	floodTime   = 500 * time.Microsecond
)

// goal is how much is worth a write now, if what comes is like the last message. Of
// those of more than half of plenty, the next one would make the buffer grow beyond
// what is kept. The lock is held.
func (w *Writer) goal() int {
	if w.urgent || w.last > plenty/2 {
		return enough
	}
	return min(max(many*w.last, enough), plenty)
}

// settle enters the critical section when nobody adds any more for the moment, or
// enough is there. Those who are ready to append do so first: otherwise the
// flusher overtakes the very callers it should wait for, and 64 of them need ten
// times the system calls; and on a processor of its own it takes from a busy
// publisher what little there is, again and again, and the lock along with it,
// which halves what that one can do.
func (w *Writer) settle() {
	began := time.Now()
	before, fulls := 0, w.fulls.Load()
	for look := range looks {
		for range 1 << look >> 1 {
			runtime.Gosched()
			if time.Since(began) > floodTime {
				w.mu.Lock()
				return
			}
		}
		if w.fulls.Load() != fulls && w.nap() {
			return
		}
		if !w.mu.TryLock() {
			continue // somebody is adding
		}
		n := len(w.buf)
		idle := look > 0 && n == before
		trickle := n > before && n < flood && time.Since(began) > trickleTime
		if idle || trickle || n >= w.goal() || len(w.large) > 0 {
			return
		}
		before = n
		w.mu.Unlock()
	}
	w.mu.Lock()
}

// take takes the writer's role and leaves the critical section.
func (w *Writer) take() {
	w.writing = true
	w.progress.Add(1)
	w.mu.Unlock()
}

// putBack is take's end, inside the critical section again.
func (w *Writer) putBack(buf []byte) {
	w.writing = false
	w.progress.Add(1)
	if cap(buf) <= keep {
		w.spare = buf[:0]
	} else {
		w.spare = nil
	}
	w.passBaton()
}

// swapAndWrite writes the filled buffer outside the lock while the other one
// is being filled.
func (w *Writer) swapAndWrite() (err error) {
	out, large, written := w.buf, w.large, w.written
	w.buf, w.large, w.written = w.spare, w.spareLarge, nil
	w.spare, w.spareLarge, w.copied, w.urgent = nil, nil, 0, false
	w.passBaton()
	w.take()
	var rest []byte
	if len(large) == 0 {
		err = w.writeAll(out)
	} else {
		rest, err = w.gather(out, large)
	}
	w.mu.Lock()
	w.putBack(out)
	w.rest = rest
	w.reuse(large)
	if written != nil {
		close(written)
	}
	return err
}

// writeAll writes out. A deadline in the past is how a ticket wakes the flusher
// from a write; one that comes too late, when the write it was for is over, is
// taken back here.
func (w *Writer) writeAll(out []byte) error {
	for {
		n, err := w.dst.Write(out)
		out = out[n:]
		if err == nil || !w.interrupted(err) {
			return err
		}
	}
}

func (w *Writer) interrupted(err error) bool {
	d, ok := w.dst.(deadliner)
	return ok && w.conn != nil && errors.Is(err, os.ErrDeadlineExceeded) && d.SetWriteDeadline(time.Time{}) == nil
}

// gathering is dst when writes to it can be gathered and interrupted, which a
// TLS connection's can't.
func gathering(dst any) net.Conn {
	switch c := dst.(type) {
	case *net.TCPConn:
		return c
	case *net.UnixConn:
		return c
	}
	return nil
}
