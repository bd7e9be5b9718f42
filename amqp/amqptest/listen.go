package amqptest

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// handshakeTimeout is how long a client has from connecting to connection.open.
const handshakeTimeout = 10 * time.Second

func (b *Broker) listen() {
	l := b.cfg.listener
	if l == nil && b.cfg.addr == "" {
		return
	}
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", b.cfg.addr); err != nil {
			panic("amqptest: " + err.Error() + "; use WithAddr to listen elsewhere, or InMemory not to listen at all")
		}
	}
	b.listener = l
	b.running.Go(b.accept)
}

func (b *Broker) accept() {
	for {
		raw, err := b.listener.Accept()
		if !b.accepted(raw, err) {
			return
		}
		if err != nil {
			time.Sleep(acceptPause)
		}
	}
}

// acceptPause keeps a listener that fails, for want of file descriptors say, from spinning.
const acceptPause = 10 * time.Millisecond

// accepted serves a connection. It returns false when there will be no more.
func (b *Broker) accepted(raw net.Conn, err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err != nil:
		if b.closed || errors.Is(err, net.ErrClosed) {
			return false
		}
		b.logf("accept: %v", err)
	case b.closed:
		_ = raw.Close()
	default:
		b.lastID++
		b.serve(newConn(b, raw))
	}
	return true
}

// URI returns the address of the broker with the user guest. A broker without a listener has one, too,
// for a client whose Config.Dial is Dial.
func (b *Broker) URI() string {
	scheme, addr := "amqp", "localhost:5672"
	if b.cfg.tls != nil {
		scheme, addr = "amqps", "localhost:5671"
	}
	if b.listener != nil {
		addr = b.listener.Addr().String()
	}
	return scheme + "://guest:guest@" + addr
}

// serve starts the two goroutines of a connection; the lock is held.
func (b *Broker) serve(c *conn) {
	c.id = b.lastID
	b.conns[c] = struct{}{}
	c.timeout.set(handshakeTimeout)
	written := make(chan struct{})
	b.running.Go(func() {
		defer close(written)
		c.write()
	})
	b.running.Go(func() {
		c.secured(c.read)
		b.lock()
		c.release()
		if !c.finishing {
			c.drop()
		}
		b.unlock()
		<-written
		b.lock()
		c.timeout.stop() // not before the writer is through: the client may take nothing
		delete(b.conns, c)
		b.unlock()
	})
}

// secured runs the rest of a connection after its TLS handshake, if it has one.
func (c *conn) secured(rest func()) {
	if t, ok := c.nc.(*tls.Conn); ok {
		if err := t.HandshakeContext(context.Background()); err != nil {
			c.broker.mu.Lock()
			c.broker.logf("connection %s: %v", c.name, err)
			c.broker.mu.Unlock()
			return
		}
	}
	rest()
}
