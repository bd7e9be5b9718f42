// Package writer is the write side of one socket. Any number of goroutines
// append whole messages to a buffer, each in one critical section; one
// goroutine swaps that buffer for an empty one and writes it out, so that
// everything which came meanwhile costs one system call.
//
//	writer.go   the two buffers and the critical section
//	room.go     the bound on what is buffered, and waiting for room
//	flush.go    the flusher: kick, settle, swap, write
//	nap.go      the flusher while others write
//	large.go    bodies that are written from the caller's memory
//	inline*.go  callers who write without the flusher: the lone one, and who fills the buffer
//
// The package knows io.Writer and no AMQP.
package writer

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ErrClosed is what Begin returns after Close.
var ErrClosed = errors.New("writer closed")

// Options of a Writer.
type Options struct {
	// Limit is how many bytes may be waiting, beyond those being written,
	// before BeginRoom waits. With less than plenty, those who wait for room would
	// wait for the flusher's naps.
	Limit int
	// Collect, when set, is called with the lock held before a buffer is
	// written, to append what was put off until then.
	Collect func(dst []byte) []byte
}

// Writer collects and writes. Its lock is the outermost of the connection's
// locks, and is never held during a system call.
type Writer struct {
	dst     io.Writer
	conn    net.Conn // dst when it takes gathered writes, else nil
	inline  inline
	limit   int
	collect func([]byte) []byte
	kick    chan struct{} // capacity 1: the flusher has something to do
	room    chan struct{} // capacity 1: a baton for those who wait for room
	done    chan struct{} // closed with err
	alarm   *time.Timer   // ends a nap
	// fulls counts the buffers that were written by who had filled them.
	fulls atomic.Uint32
	// progress is odd while a write is under way, and moves on with each.
	progress atomic.Uint32

	mu      sync.Mutex
	buf     []byte        // being filled
	large   []large       // what goes between the bytes of buf, in order
	written chan struct{} // closed when buf and large are out; made on demand
	spare   []byte        // the other buffer, while nobody writes it
	rest    []byte        // of spare: what an inline write left over, goes first
	tickets uint64        // so many were given out
	copied  int           // bytes of large that are copies, and count as buf's do
	writing bool          // somebody has taken the writer's role
	// What gathered writes are made from, empty in between: the other large,
	// and the slices, all of them and those that are not written yet.
	spareLarge  []large
	parts, left net.Buffers
	last        int // size of the last message
	kicked      bool
	urgent      bool // somebody waits for what buf brings
	napping     bool // the flusher is in nap
	waiting     int  // for room
	closing     bool
	err         error
}

// New makes a Writer to dst. Run must be called for anything but inline writes
// to leave it.
func New(dst io.Writer, opts Options) *Writer {
	w := &Writer{
		dst: dst, limit: opts.Limit, collect: opts.Collect,
		kick: make(chan struct{}, 1), room: make(chan struct{}, 1), done: make(chan struct{}),
	}
	w.conn = gathering(dst)
	w.inline.init(dst)
	return w
}

// Begin enters the critical section, whatever is buffered: for control traffic,
// which must not wait for room. The caller appends to what it gets and hands it
// to Commit, or calls Abort. On error it is not inside.
func (w *Writer) Begin() ([]byte, error) {
	w.mu.Lock()
	if err := w.refusal(); err != nil {
		w.mu.Unlock()
		return nil, err
	}
	return w.buf, nil
}

// refusal is why nothing can be appended any more.
func (w *Writer) refusal() error {
	if w.err == nil && w.closing {
		return ErrClosed
	}
	return w.err
}

// Commit leaves the critical section with buf to be written.
func (w *Writer) Commit(buf []byte) {
	w.urgent = true
	if w.napping {
		w.wake()
	}
	w.CommitLater(buf)
}

// CommitLater is Commit for what nobody waits for, or who does calls Hurry before:
// while buffers are filled, and written by who fills them, it may lie there for
// the time of a nap.
func (w *Writer) CommitLater(buf []byte) {
	w.last = len(buf) - len(w.buf)
	if len(buf) >= w.goal() && w.mayInline() {
		w.commitFull(buf)
		return
	}
	w.buf = buf
	if !w.kicked {
		w.wake()
	}
	w.passBaton()
	w.mu.Unlock()
}

// Hurry is for a caller who is about to wait for what CommitLater was given. It
// writes that itself where it can, and never waits for the socket.
func (w *Writer) Hurry() {
	w.mu.Lock()
	switch {
	case len(w.buf) == 0 || w.urgent || w.err != nil:
		w.mu.Unlock()
	case w.mayInline():
		w.commitFull(w.buf)
	default:
		w.Commit(w.buf)
	}
}

// wake has the flusher look at what there is. The lock is held.
func (w *Writer) wake() {
	w.kicked = true
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// Abort leaves the critical section with nothing appended.
func (w *Writer) Abort() {
	w.passBaton()
	w.mu.Unlock()
}

// Fail ends the writer: what is buffered is dropped, and every later call
// returns err. The first error wins.
func (w *Writer) Fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail(err)
}

func (w *Writer) fail(err error) {
	if w.err != nil {
		return
	}
	w.err = err
	w.buf, w.large, w.copied = nil, nil, 0
	if w.written != nil {
		close(w.written)
		w.written = nil
	}
	close(w.done)
}

// Close has Run write what is buffered and return nil. Nothing can be appended
// any more.
func (w *Writer) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closing = true
	w.wake()
}

// Progress is odd while a write to the socket is under way, and another number
// for each: who sees the same odd number twice knows that it is stuck, and who
// sees the same even number knows that nothing was written.
func (w *Writer) Progress() uint32 { return w.progress.Load() }

// Trim gives the buffers back when they are empty, for a connection that idles.
func (w *Writer) Trim() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.buf) == 0 && len(w.large) == 0 {
		w.buf = nil
	}
	if !w.writing && len(w.rest) == 0 {
		w.spare = nil
	}
}

// deadliner is what a socket has and an arbitrary io.Writer has not.
type deadliner interface{ SetWriteDeadline(time.Time) error }
