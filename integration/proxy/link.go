package proxy

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// link is one connection that is passed on.
type link struct {
	proxy  *Proxy
	number int
	client *net.TCPConn
	server *net.TCPConn // nil until the target is reached
	once   sync.Once
	ended  chan struct{} // closed by reset
}

// parcel is what one side sent, on its way to the other.
type parcel struct {
	bytes []byte
	due   time.Time
	reset bool // reset the connection when it is written
}

// reset ends the connection on both sides with an RST.
func (l *link) reset() {
	l.once.Do(func() {
		close(l.ended)
		for _, conn := range []*net.TCPConn{l.client, l.server} {
			if conn != nil {
				_ = conn.SetLinger(0) // an error means that it is over anyway
				conn.Close()
			}
		}
	})
}

// run passes both directions on and returns when both have ended.
func (l *link) run() {
	var both sync.WaitGroup
	both.Go(func() { l.pass(ToServer, l.client, l.server) })
	both.Go(func() { l.pass(ToClient, l.server, l.client) })
	both.Wait()
	l.client.Close()
	l.server.Close()
}

// pass moves what src sends to dst. An end of file ends this direction alone.
func (l *link) pass(d Direction, src, dst *net.TCPConn) {
	parcels := make(chan parcel, 1024)
	var written sync.WaitGroup
	written.Go(func() { l.write(d, dst, parcels) })
	err := l.read(d, bufio.NewReaderSize(src, chunkSize), parcels)
	close(parcels)
	written.Wait()
	if errors.Is(err, syscall.ECONNRESET) {
		l.reset()
	}
	select {
	case <-l.ended: // nothing orderly may precede the RST
	default:
		_ = dst.CloseWrite() // an error means that it is over anyway
	}
}

// read sends what comes from src to the writer, as the hook says, until src
// ends or the connection is reset.
func (l *link) read(d Direction, src *bufio.Reader, parcels chan<- parcel) error {
	for framed := true; ; {
		f := Frame{}
		var err error
		if framed {
			f, framed, err = next(src)
		} else {
			f.Raw, err = some(src)
		}
		if !l.passable(d) {
			return nil
		}
		f.Connection, f.Direction = l.number, d
		w := l.proxy.conditions(d)
		p := parcel{bytes: f.Raw, due: time.Now().Add(w.delay)}
		switch {
		case w.blackHole:
			p.bytes = nil
		case framed && err == nil:
			p = l.decide(f, p)
		}
		if len(p.bytes) > 0 || p.reset {
			select {
			case parcels <- p:
			case <-l.ended:
				return nil
			}
		}
		if err != nil || p.reset {
			return err
		}
	}
}

// passable waits while direction d is held. It is false when the connection is
// reset meanwhile.
func (l *link) passable(d Direction) bool {
	held := l.proxy.conditions(d).held
	if held == nil {
		return true
	}
	select {
	case <-held:
		return true
	case <-l.ended:
		return false
	}
}

// decide applies the hook's verdict on f to its parcel.
func (l *link) decide(f Frame, p parcel) parcel {
	switch l.proxy.judge(f) {
	case Drop:
		p.bytes = nil
	case Reset:
		p.bytes, p.reset = nil, true
	case PassReset:
		p.reset = true
	case Half:
		p.bytes, p.reset = p.bytes[:len(p.bytes)/2], true
	}
	return p
}

// some returns what is there of an opaque stream.
func some(src *bufio.Reader) ([]byte, error) {
	if _, err := src.Peek(1); err != nil {
		return nil, err
	}
	buf := make([]byte, src.Buffered())
	n, err := src.Read(buf)
	return buf[:n], err
}

// write sends parcels on when they are due. When dst is gone, so is the whole
// connection; the reader is relieved of what it still has.
func (l *link) write(d Direction, dst *net.TCPConn, parcels <-chan parcel) {
	for p := range parcels {
		if !l.wait(time.Until(p.due)) || !l.send(d, dst, p.bytes) || p.reset {
			l.reset()
		}
	}
}

// send writes b as chunk and bandwidth allow. It is false when dst is gone.
func (l *link) send(d Direction, dst *net.TCPConn, b []byte) bool {
	for len(b) > 0 {
		w := l.proxy.conditions(d)
		size := len(b)
		if w.chunk > 0 {
			size = min(size, w.chunk)
		}
		if w.bandwidth > 0 {
			size = min(size, max(1, w.bandwidth/20)) // a twentieth of a second at a time
		}
		if _, err := dst.Write(b[:size]); err != nil {
			return false
		}
		if w.bandwidth > 0 && !l.wait(time.Duration(size)*time.Second/time.Duration(w.bandwidth)) {
			return false
		}
		b = b[size:]
	}
	return true
}

// wait is false when the connection is reset before d is over.
func (l *link) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.ended:
		return false
	}
}
