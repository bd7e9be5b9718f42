//go:build unix

package writer

import "syscall"

// inline writes to a socket what it takes at once, and never waits for it.
type inline struct {
	raw syscall.RawConn
	fn  func(fd uintptr) bool // made once, so that trying allocates nothing
	out []byte
	n   int
}

func (i *inline) init(dst any) {
	c, ok := dst.(syscall.Conn)
	if !ok || gathering(dst) == nil {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	i.raw = raw
	i.fn = func(fd uintptr) bool {
		i.n, _ = syscall.Write(int(fd), i.out)
		return true // also when it would block: the flusher waits, not this caller
	}
}

func (i *inline) able() bool { return i.raw != nil }

// try returns how much of out was written. An error is left for the flusher to
// meet.
func (i *inline) try(out []byte) int {
	i.out, i.n = out, 0
	_ = i.raw.Write(i.fn)
	i.out = nil
	return max(i.n, 0)
}
