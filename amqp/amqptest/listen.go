package amqptest

import (
	"context"
	"crypto/tls"
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
		if err != nil {
			return
		}
		b.mu.Lock()
		if b.closed {
			_ = raw.Close()
		} else {
			b.lastID++
			b.serve(newConn(b, raw))
		}
		b.mu.Unlock()
	}
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
		c.timeout.stop()
		b.unlock()
		<-written
		b.lock()
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
