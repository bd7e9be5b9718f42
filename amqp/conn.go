package amqp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/leveret-mq/leveret/amqp/internal/slab"
	"github.com/leveret-mq/leveret/amqp/internal/wire"
	"github.com/leveret-mq/leveret/amqp/internal/writer"
	"github.com/leveret-mq/leveret/scope"
)

// Conn is a connection to a broker, and the scope of everything that uses it.
// It is valid inside the callback that WithConnection gives it to. All its
// methods are safe for concurrent use.
//
// It runs two goroutines, however many channels and consumers it has: the
// reader and the flusher.
type Conn struct {
	*scope.Scope

	// Locks are taken in this order: the writer's (out), mu, a line's, and below
	// them those of a channel's ledger, confirms and streams.
	line

	cfg              *Config
	nc               net.Conn
	raw              net.Conn // below TLS, or nc: its Close waits for nothing
	tuning           Tuning
	serverProperties Table
	acceptsCancelOk  bool
	handle           *scope.Handle
	cutOff           bool // the connection ended while its scope lived; known when that has ended
	out              *writer.Writer
	dead             chan struct{} // closed when line.cause is set, and what is on the connection has ended with it
	cut              *time.Timer   // ends a flush that takes too long; set before out.Close

	// waiting counts who waits for something that the reader has to bring:
	// while there is anybody, back-pressure does not stop the reader.
	waiting atomic.Int32
	nudge   chan struct{} // capacity 1: wakes a reader that holds back
	lead    lead
	closing atomic.Bool           // the reader must not hold back any more
	paused  atomic.Bool           // the reader holds back, so the peer's silence means nothing
	failed  atomic.Pointer[error] // what writing failed with
	lapse   atomic.Int64          // when the broker last let a polite step pass, see lapsed; 0: it has answered since
	beats   atomic.Uint32         // heartbeats that came
	born    time.Time
	inner   atomic.Int32 // scopes of channels

	// dirty lists the channels with acknowledgements to send. Guarded by the
	// writer's lock, as are those below.
	dirty     []*Channel
	blocked   *blockage // nil: the broker takes messages
	published uint64

	mu       sync.Mutex
	channels []*Channel // by number; 0 is nil
	lowest   int        // no lower number is free
	open     int
	watchers []weak.Pointer[watcher]
	// blockedState is what watchers were told last.
	blockedState blockedState
	tags         atomic.Uint64

	unreadBound int64 // see there

	stats   counters
	waiters waiterPool
	routes  slab.Items[route] // guarded by the writer's lock

	// What follows belongs to who reads, see lead.
	in         frameReader
	known      []*Channel // channels, without the lock
	touched    []*Consumer
	putOff     int       // bytes read since handing over could have been
	full       *Consumer // one of them has more than it may
	giveWay    bool      // to loops that were given messages
	tagged     []*Channel
	deliveries slab.Items[delivery]
	bytes      slab.Bytes
	properties slab.Items[Properties]
	text       func([]byte) string // bytes.String, made once
}

// WithConnection connects to a broker, gives the connection to body, and closes
// it when body and everything that was started in its scope has ended.
//
// It returns what body or a task failed with. When the connection was lost, it
// returns why, also if body returned nil, unless a call of body's was told:
// an *Error when the broker closed it, and otherwise an error that wraps
// ErrConnectionClosed with the network's, ErrHeartbeatTimeout or ErrProtocol.
// When ctx ended before body returned, it returns the cause of that. Connecting
// is bounded by Config.DialTimeout, and closing by Config.CloseTimeout.
func WithConnection(ctx context.Context, cfg Config, body func(*Conn) error) error {
	c, err := connect(ctx, cfg)
	if err != nil {
		return err
	}
	return c.run(ctx, body)
}

// WithChannel is WithConnection and Conn.WithChannel in one, for small
// programs.
func WithChannel(ctx context.Context, cfg Config, body func(*Channel) error) error {
	return WithConnection(ctx, cfg, func(c *Conn) error {
		return c.WithChannel(ctx, body)
	})
}

const writeLimit = 256 << 10 // bytes that may wait while as many are written, see writer.Options

func newConn(cfg *Config, raw, nc net.Conn) *Conn {
	c := &Conn{cfg: cfg, raw: raw, nc: nc, dead: make(chan struct{}), nudge: make(chan struct{}, 1), lowest: 1, born: time.Now()}
	c.unreadBound = unreadBound + cfg.MaxMessageSize
	c.conn = c
	c.out = writer.New(nc, writer.Options{Limit: writeLimit, Collect: c.collectAcks})
	c.in.src = nc
	c.lead.rouse = make(chan struct{}, 1)
	c.in.more.init(nc)
	c.text = c.bytes.String
	return c
}

// run is the life of a connection that has been opened: machinery around, and
// deaf to ctx; the user's scope inside.
func (c *Conn) run(ctx context.Context, body func(*Conn) error) (err error) {
	defer c.hangUp()
	var echoed bool
	machinery := scope.Run(context.WithoutCancel(ctx), func(m *scope.Scope) error {
		c.handle = scope.Open(ctx, nil)
		c.Scope = c.handle.Scope()
		c.watch(c.handle, c.name, &c.inner, nil)
		c.handle.OnEnd(c.stopWatchers)
		m.Go(c.readLoop)
		m.Go(c.writeLoop)
		defer newHeart(c).stop()
		defer func() { err = joinCause(err, c.close()) }()
		c.cfg.Trace.connected(c)
		err, echoed = c.handle.Run(func() error { return body(c) })
		c.cutOff = c.lost() != nil
		return nil
	})
	if lost := c.lost(); lost != nil && (!c.told || echoed) {
		err = joinCause(err, lost)
	}
	c.cfg.Trace.closed(c, err)
	return joinCause(err, machinery)
}

// hangUp lets go of the socket, for good, when the machinery has ended.
func (c *Conn) hangUp() {
	if c.cut != nil {
		c.cut.Stop()
	}
	_ = c.raw.Close()
	c.bytes.Close()
	c.in.reserve.Release()
}

var errScopeEnded = fmt.Errorf("%w: its scope has ended", ErrConnectionClosed)

// lost is why the connection ended before its scope did.
func (c *Conn) lost() error {
	c.line.mu.Lock()
	defer c.line.mu.Unlock()
	if errors.Is(c.cause, errScopeEnded) {
		return nil
	}
	return c.cause
}

// close says goodbye and waits for the broker's, within CloseTimeout. Nothing
// uses the connection any more.
func (c *Conn) close() error {
	c.closing.Store(true)
	c.wake()
	c.stopWatchers()
	answered := false
	err := c.polite("connection.close-ok", func(ctx context.Context) error {
		goodbye := &wire.ConnectionClose{ReplyCode: replySuccess, ReplyText: "goodbye"}
		// The loss of the connection is reported by run.
		answered = c.farewell(ctx, goodbye, wire.ConnectionCloseOkID, true)
		return nil
	})
	c.fail(errScopeEnded, 0, answered)
	return err
}

const replySuccess = 200

// polite runs one step of an orderly end, which waits for the broker no longer
// than CloseTimeout. The steps that follow one which the broker let pass do not
// wait for it again, so that the whole of an end takes no longer.
func (c *Conn) polite(awaited string, step func(context.Context) error) error {
	timeout := c.cfg.CloseTimeout
	silent := fmt.Errorf("amqp: %w: the broker did not send %s within CloseTimeout, %v", context.DeadlineExceeded, awaited, timeout)
	told := c.lapsed()
	if told {
		timeout = 0
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), timeout, silent)
	defer cancel()
	err := step(ctx)
	switch {
	case ctx.Err() == nil:
		c.lapse.Store(0)
		return err
	case told: // by the step before
		return nil
	}
	c.noteLapse()
	return silent
}

// lapsed tells whether the broker has let a step of an end pass just now.
func (c *Conn) lapsed() bool {
	at := c.lapse.Load()
	return at != 0 && time.Since(c.born)-time.Duration(at) < c.cfg.CloseTimeout
}

func (c *Conn) noteLapse() { c.lapse.Store(int64(time.Since(c.born)) | 1) }

// said counts what the broker has sent, heartbeats apart: in reads, about.
func (c *Conn) said() uint32 { return c.in.reads.Load() - c.beats.Load() }

// fail ends the connection, for the first cause given. at is the method that
// the broker's exception names. If flush is set, what is buffered still goes
// out, within CloseTimeout.
func (c *Conn) fail(cause error, at wire.MethodID, flush bool) {
	if !c.line.fail(cause, at) {
		return
	}
	c.closing.Store(true)
	if flush {
		c.cut = time.AfterFunc(c.cfg.CloseTimeout, func() { _ = c.raw.Close() })
		c.out.Close()
	} else {
		c.out.Fail(cause)
		_ = c.raw.Close()
	}
	c.mu.Lock()
	channels := append([]*Channel(nil), c.channels...)
	watchers := c.watchers
	c.watchers = nil
	c.mu.Unlock()
	for _, ch := range channels {
		if ch != nil && ch.die(cause, at) {
			c.line.mu.Lock()
			c.told = true
			c.line.mu.Unlock()
		}
	}
	c.handle.Interrupt(cause)
	for _, w := range watchers {
		if w := w.Value(); w != nil {
			w.changes.End(cause)
		}
	}
	close(c.dead)
	c.wake()
}

// writeLoop is the flusher's goroutine. When writing has failed, the reader
// looks whether the broker said why before anything is told.
func (c *Conn) writeLoop(context.Context) error {
	err := c.out.Run()
	if c.ended() {
		_ = c.nc.Close()
		return nil
	}
	c.failed.Store(&err)
	c.closing.Store(true)
	c.wake()
	if c.boundReads(time.Now().Add(lastWordTimeout)) != nil {
		_ = c.raw.Close() // a connection of Config.Dial's that knows no deadlines
	}
	return nil
}

// await counts those who wait for what the reader brings.
func (c *Conn) await(n int32) int32 {
	count := c.waiting.Add(n)
	switch {
	case n > 0 && count == 1:
		c.wake()
	case n > 0:
		c.claim()
	}
	return count
}

// wake has the reader look at what has changed.
func (c *Conn) wake() {
	c.claim()
	select {
	case c.nudge <- struct{}{}:
	default:
	}
}

// begin enters the writer's critical section, whatever is buffered.
func (c *Conn) begin() ([]byte, error) {
	buf, err := c.out.Begin()
	if err != nil {
		return nil, c.whyDead()
	}
	return buf, nil
}

// beginRoom is begin for messages, which wait for room.
func (c *Conn) beginRoom(ctx context.Context) ([]byte, error) {
	if buf, ok := c.out.TryBeginRoom(); ok {
		return buf, nil
	}
	return c.awaitRoom(ctx)
}

// awaitRoom is beginRoom for who has found none.
func (c *Conn) awaitRoom(ctx context.Context) ([]byte, error) {
	// A broker that waits for its own output to be read may take nothing until
	// then, so this counts as waiting for the reader.
	c.await(+1)
	defer c.await(-1)
	buf, err := c.out.BeginRoom(ctx)
	if err == nil {
		return buf, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, c.whyDead()
}

// whyDead is why the connection died, for a caller whom the writer has turned
// away. The reader knows it within lastWordTimeout. By then everything on the
// connection has ended, so that what the caller does next finds the same.
func (c *Conn) whyDead() error {
	<-c.dead
	return c.end()
}

// append appends a method frame that the peer can take.
func (c *Conn) append(buf []byte, id uint16, m wire.Method) ([]byte, error) {
	start := len(buf)
	buf, err := wire.AppendMethod(buf, id, m)
	if err != nil {
		return buf, err
	}
	if n := len(buf) - start; c.tuning.FrameMax != 0 && n > int(c.tuning.FrameMax) {
		return buf[:start], fmt.Errorf("%v takes %d bytes, and the broker allows %d in a frame", m.ID(), n, c.tuning.FrameMax)
	}
	return buf, nil
}

// collectAcks has the channels append the acknowledgements that they put off.
// The flusher calls it with the writer's lock held.
func (c *Conn) collectAcks(buf []byte) []byte {
	for i, ch := range c.dirty {
		if !ch.shut {
			buf = ch.flushAcks(buf)
		}
		c.dirty[i] = nil
	}
	c.dirty = c.dirty[:0]
	return buf
}

// ServerProperties is what the broker says of itself, its capabilities among
// it. Do not change it.
func (c *Conn) ServerProperties() Table { return c.serverProperties }

// Tuning is what client and broker have agreed on.
func (c *Conn) Tuning() Tuning { return c.tuning }

// Format prints the broker's address for every verb: what else there is to print
// holds the password.
func (c *Conn) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "amqp.Conn(%v)", c.RemoteAddr())
}

// LocalAddr is the connection's address on this side.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// RemoteAddr is the broker's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// UpdateSecret gives the broker a new password or token, for one that expires;
// reason is for its log. It waits for connection.update-secret-ok. The
// next connection asks Config.Credentials.
// https://www.rabbitmq.com/docs/oauth2#token-expiration
func (c *Conn) UpdateSecret(ctx context.Context, secret, reason string) error {
	m := &wire.ConnectionUpdateSecret{NewSecret: []byte(secret), Reason: reason}
	if err := c.roundTrip(ctx, m, wire.ConnectionUpdateSecretOkID); err != nil {
		return fmt.Errorf("amqp: update secret: %w", err)
	}
	return nil
}
