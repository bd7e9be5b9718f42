package amqp_test

import (
	"net"
	"time"
)

// badLink is a connection on which something happens at one byte, and stays as
// it is.
type badLink struct {
	net.Conn
	silence net.Conn // of a pipe whose other end does nothing
	reading bool     // the direction that is bad
	at      int64    // bytes that pass before
	how     linkFault
	passed  int64
}

type linkFault string

const (
	cutting    linkFault = "cut"     // the connection is reset
	stalling   linkFault = "stall"   // nothing more passes, and writes wait
	swallowing linkFault = "swallow" // nothing more passes, and writes succeed
	flipping   linkFault = "corrupt" // one byte is another
)

// bad makes a link of which a goroutine of the client's reads and another writes:
// each has a direction for itself.
func bad(inner net.Conn, how linkFault, reading bool, at int64) *badLink {
	silence, _ := net.Pipe()
	return &badLink{Conn: inner, silence: silence, how: how, reading: reading, at: at}
}

func (l *badLink) Read(p []byte) (int, error) {
	if !l.reading {
		return l.Conn.Read(p)
	}
	p, over := l.share(p)
	if over {
		return l.beyond(p, l.silence.Read)
	}
	n, err := l.Conn.Read(p)
	l.pass(p[:n])
	return n, err
}

func (l *badLink) Write(p []byte) (written int, err error) {
	if l.reading {
		return l.Conn.Write(p)
	}
	for len(p) > 0 {
		piece, over := l.share(p)
		if over {
			n, err := l.beyond(p, l.silence.Write)
			return written + n, err
		}
		piece = append([]byte(nil), piece...)
		l.pass(piece)
		n, err := l.Conn.Write(piece)
		if written += n; err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}

// share is as much of p as may pass, and whether that is over.
func (l *badLink) share(p []byte) (_ []byte, over bool) {
	if l.how == flipping {
		return p, false
	}
	left := l.at - l.passed
	return p[:min(int64(len(p)), left)], left == 0
}

// pass counts the bytes, and changes the one that is to be changed.
func (l *badLink) pass(p []byte) {
	if i := l.at - l.passed; l.how == flipping && i >= 0 && i < int64(len(p)) {
		p[i] ^= 1 << (l.at % 8)
	}
	l.passed += int64(len(p))
}

// beyond is what a Read or Write does once nothing passes any more.
func (l *badLink) beyond(p []byte, wait func([]byte) (int, error)) (int, error) {
	switch {
	case l.how == cutting:
		_ = l.Close()
		return wait(p) // which is closed
	case l.how == swallowing && !l.reading:
		return len(p), nil
	}
	return wait(p)
}

func (l *badLink) Close() error {
	_ = l.silence.Close()
	return l.Conn.Close()
}

func (l *badLink) SetDeadline(t time.Time) error {
	_ = l.silence.SetDeadline(t)
	return l.Conn.SetDeadline(t)
}

func (l *badLink) SetReadDeadline(t time.Time) error {
	_ = l.silence.SetReadDeadline(t)
	return l.Conn.SetReadDeadline(t)
}

func (l *badLink) SetWriteDeadline(t time.Time) error {
	_ = l.silence.SetWriteDeadline(t)
	return l.Conn.SetWriteDeadline(t)
}
