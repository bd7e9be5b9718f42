package amqptest

import (
	"net"
	"os"
	"sync"
	"time"
)

// ConnFaults says what is wrong with a connection that Faulty makes. The zero value is a healthy one.
type ConnFaults struct {
	ReadChunk     int   // the most bytes that one Read returns: 1 splits at every byte; zero: no limit
	WriteChunk    int   // the most bytes that reach the connection below in one Write; zero: no limit
	CutAfterRead  int64 // the connection is reset once this many bytes were read; zero: never
	CutAfterWrite int64 // once this many bytes were written, maybe in the middle of a Write, the peer sees the end, and Write ECONNRESET; zero: never
}

// A FaultyConn is a net.Conn with faults: use it in a client's Dial, around a connection of the broker's Dial or any other.
type FaultyConn struct {
	net.Conn
	faults ConnFaults

	mu      sync.Mutex
	changed *sync.Cond
	stalled bool
	closed  bool
	writeBy deadline
	read    int64
	written int64
}

// Faulty puts faults around a connection.
func Faulty(nc net.Conn, faults ConnFaults) *FaultyConn {
	c := &FaultyConn{Conn: nc, faults: faults}
	c.changed = sync.NewCond(&c.mu)
	c.writeBy.changed = c.changed
	return c
}

// StallWrites makes Write wait, as when the peer has stopped reading, until ResumeWrites, Close or the write deadline.
func (c *FaultyConn) StallWrites() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stalled = true
}

// ResumeWrites ends StallWrites.
func (c *FaultyConn) ResumeWrites() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stalled = false
	c.changed.Broadcast()
}

// Cut resets the connection: both peers see an error, and what was not read yet is lost.
func (c *FaultyConn) Cut() {
	switch nc := c.Conn.(type) {
	case *memConn:
		nc.reset()
	case *net.TCPConn:
		_ = nc.SetLinger(0)
	}
	_ = c.Close()
}

// Read reads at most ReadChunk bytes.
func (c *FaultyConn) Read(p []byte) (int, error) {
	if n := c.faults.ReadChunk; n > 0 && len(p) > n {
		p = p[:n]
	}
	left, ends := remaining(c.faults.CutAfterRead, c.count(&c.read, 0))
	if ends && int64(len(p)) > left {
		p = p[:left]
	}
	if ends && left == 0 {
		c.Cut()
		return 0, c.fault("read", errReset)
	}
	n, err := c.Conn.Read(p)
	c.count(&c.read, n)
	return n, err
}

// Write writes in pieces of WriteChunk bytes.
func (c *FaultyConn) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		if err := c.waitForRoom(); err != nil {
			return written, err
		}
		piece := p
		if n := c.faults.WriteChunk; n > 0 && len(piece) > n {
			piece = piece[:n]
		}
		left, ends := remaining(c.faults.CutAfterWrite, c.count(&c.written, 0))
		if ends && int64(len(piece)) > left {
			piece = piece[:left]
		}
		if ends && left == 0 {
			_ = c.Close() // not a reset, which could overtake the bytes
			return written, c.fault("write", errReset)
		}
		n, err := c.Conn.Write(piece)
		written += n
		c.count(&c.written, n)
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}

func remaining(limit, done int64) (left int64, ends bool) { return max(0, limit-done), limit > 0 }

func (c *FaultyConn) count(sum *int64, n int) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	*sum += int64(n)
	return *sum
}

func (c *FaultyConn) fault(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// waitForRoom waits while writes are stalled.
func (c *FaultyConn) waitForRoom() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	stalled := c.stalled
	for c.stalled && !c.closed && !c.writeBy.passed {
		c.changed.Wait()
	}
	if stalled && c.closed { // the connection below may not know yet
		return c.fault("write", net.ErrClosed)
	}
	if c.stalled && c.writeBy.passed {
		return c.fault("write", os.ErrDeadlineExceeded)
	}
	return nil
}

// Close closes the connection below and wakes a Write that is stalled.
func (c *FaultyConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.writeBy.stop()
	c.changed.Broadcast()
	c.mu.Unlock()
	return c.Conn.Close()
}

// SetDeadline sets both deadlines.
func (c *FaultyConn) SetDeadline(t time.Time) error {
	c.writeBy.set(t)
	return c.Conn.SetDeadline(t)
}

// SetWriteDeadline also ends a Write that is stalled.
func (c *FaultyConn) SetWriteDeadline(t time.Time) error {
	c.writeBy.set(t)
	return c.Conn.SetWriteDeadline(t)
}
