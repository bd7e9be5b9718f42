//go:build unix

package amqp

import (
	"net"
	"syscall"
)

// eager reads from a socket what is there, and never waits for it.
type eager struct {
	raw syscall.RawConn
	fn  func(fd uintptr) bool // made once, so that reading allocates nothing
	to  []byte
	n   int
}

func (e *eager) init(src net.Conn) {
	var err error
	switch c := src.(type) {
	case *net.TCPConn:
		e.raw, err = c.SyscallConn()
	case *net.UnixConn:
		e.raw, err = c.SyscallConn()
	}
	if err != nil {
		e.raw = nil
	}
	e.fn = func(fd uintptr) bool {
		e.n, _ = syscall.Read(int(fd), e.to)
		return true // also when it would block
	}
}

func (e *eager) able() bool { return e.raw != nil }

// read returns how much it has put into to. The end and any error is left for
// the next one who waits to meet.
func (e *eager) read(to []byte) int {
	if e.raw == nil {
		return 0
	}
	e.to, e.n = to, 0
	_ = e.raw.Read(e.fn)
	e.to = nil
	return max(e.n, 0)
}
