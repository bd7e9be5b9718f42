package amqptest

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// memBuffer is how many bytes one direction of an in-memory connection holds before a write waits,
// in the place of a socket's buffers: two peers that both write don't wait for each other.
const memBuffer = 256 << 10

// memPipe makes the two ends of an in-memory connection.
func memPipe(client, server memAddr) (*memConn, *memConn) {
	up, down := newMemStream(), newMemStream()
	return &memConn{in: down, out: up, local: client, remote: server},
		&memConn{in: up, out: down, local: server, remote: client}
}

// A memConn is one end of a buffered, full-duplex connection in memory. It waits on condition variables
// and timers alone, so that testing/synctest sees when it is idle.
type memConn struct {
	in, out       *memStream
	local, remote memAddr
}

type memAddr string

func (memAddr) Network() string  { return "memory" }
func (a memAddr) String() string { return string(a) }

func (c *memConn) LocalAddr() net.Addr  { return c.local }
func (c *memConn) RemoteAddr() net.Addr { return c.remote }

func (c *memConn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	return n, c.opError("read", err)
}

func (c *memConn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	return n, c.opError("write", err)
}

// opError dresses an error as package net does; io.EOF goes bare there, too.
func (c *memConn) opError(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &net.OpError{Op: op, Net: "memory", Source: c.local, Addr: c.remote, Err: err}
}

// Close ends both directions: the peer reads what was written before and then io.EOF, and its writes fail.
func (c *memConn) Close() error {
	c.in.closeReader()
	c.out.closeWriter(io.EOF)
	return nil
}

// reset ends both directions at once: what was not read yet is lost, and the peer sees ECONNRESET.
func (c *memConn) reset() {
	c.in.closeReader()
	c.out.closeWriter(errReset)
}

func (c *memConn) SetDeadline(t time.Time) error {
	c.in.readBy.set(t)
	c.out.writeBy.set(t)
	return nil
}

func (c *memConn) SetReadDeadline(t time.Time) error  { c.in.readBy.set(t); return nil }
func (c *memConn) SetWriteDeadline(t time.Time) error { c.out.writeBy.set(t); return nil }

// A memStream is one direction. readBy and writeBy are the deadlines of its two ends.
type memStream struct {
	mu       sync.Mutex
	changed  *sync.Cond
	buf      []byte // unread bytes are buf[start:]
	start    int
	readErr  error // what the reader gets when buf is empty; set when the writer is gone
	readGone bool  // the reader closed its end
	readBy   deadline
	writeBy  deadline
}

func newMemStream() *memStream {
	s := &memStream{}
	s.changed = sync.NewCond(&s.mu)
	s.readBy.changed, s.writeBy.changed = s.changed, s.changed
	return s
}

func (s *memStream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.readGone:
			return 0, net.ErrClosed
		case s.readBy.passed:
			return 0, os.ErrDeadlineExceeded
		case len(s.buf) > s.start:
			n := copy(p, s.buf[s.start:])
			s.start += n
			if s.start == len(s.buf) {
				s.buf, s.start = s.buf[:0], 0
			}
			s.changed.Broadcast()
			return n, nil
		case s.readErr != nil:
			return 0, s.readErr
		case len(p) == 0:
			return 0, nil
		}
		s.changed.Wait()
	}
}

func (s *memStream) write(p []byte) (written int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.readErr != nil:
			return written, net.ErrClosed
		case s.readGone:
			return written, errBrokenPipe
		case s.writeBy.passed:
			return written, os.ErrDeadlineExceeded
		}
		if room := memBuffer - (len(s.buf) - s.start); room > 0 {
			n := min(room, len(p))
			s.append(p[:n])
			p, written = p[n:], written+n
			s.changed.Broadcast()
		}
		if len(p) == 0 {
			return written, nil
		}
		s.changed.Wait()
	}
}

func (s *memStream) append(p []byte) {
	if s.start > 0 && len(s.buf)+len(p) > cap(s.buf) {
		s.buf, s.start = s.buf[:copy(s.buf, s.buf[s.start:])], 0
	}
	s.buf = append(s.buf, p...)
}

func (s *memStream) closeWriter(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readErr != nil {
		return
	}
	s.readErr = err
	if !errors.Is(err, io.EOF) {
		s.buf, s.start = nil, 0
	}
	s.writeBy.stop()
	s.changed.Broadcast()
}

func (s *memStream) closeReader() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readGone = true
	s.buf, s.start = nil, 0
	s.readBy.stop()
	s.changed.Broadcast()
}
