package amqptest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// A Broker is an AMQP 0-9-1 broker inside the process, with RabbitMQ's manners.
// All its methods are safe for concurrent use.
type Broker struct {
	cfg      config
	listener net.Listener
	epoch    time.Time
	running  sync.WaitGroup // the accepting goroutine, and two for each connection

	// mu guards the whole model: what is below and everything that hangs on it. It is held for the time of
	// one frame, never while something is read, written or waited for, and never while a hook runs.
	mu      sync.Mutex
	vhosts  map[string]*vhost
	users   map[string]*user
	conns   map[*conn]struct{} // until both goroutines of each have ended
	lastID  uint64
	closed  bool
	gate    sync.Cond // readers wait here while they may not read
	watched sync.Cond // Wait… wait here for something to change
	waiting int       // how many of them
	changes uint64    // counts pieces of work

	routing uint64 // counts routings, for marks
	routed  []*queue
	work    []*exchange
	dead    []deadLetter
	replies map[string]*replyTo

	alarm    string // why publishing connections are blocked
	alarmed  bool
	stalled  bool
	nackNext int
	hooks    []*hook
	history  history
}

// NewBroker starts a broker. It listens on a free port of 127.0.0.1 unless an option says otherwise, knows the user
// "guest" with the password "guest" and the virtual host "/", and is reached by URI or Dial. It panics when it can't listen.
func NewBroker(opts ...Option) *Broker {
	cfg := defaultConfig()
	for _, opt := range opts {
		opt(&cfg)
	}
	if cfg.maxMessage == 0 {
		cfg.maxMessage = cfg.version.maxMessage
	}
	b := &Broker{
		cfg: cfg, epoch: time.Now(), vhosts: map[string]*vhost{}, users: map[string]*user{},
		conns: map[*conn]struct{}{}, replies: map[string]*replyTo{}, history: history{limit: cfg.keep},
	}
	b.gate.L, b.watched.L = &b.mu, &b.mu
	for _, u := range append([]*user{newUser("guest", "guest", nil)}, cfg.users...) {
		b.users[u.Name] = u
	}
	for _, name := range cfg.vhosts {
		b.vhosts[name] = newVHost(b, name)
	}
	b.listen()
	return b
}

// lock begins a piece of work on the model, and unlock ends it: dead letters that came up travel,
// and whoever waits for a change looks again.
func (b *Broker) lock() { b.mu.Lock() }

func (b *Broker) unlock() {
	b.changes++
	if len(b.dead) > 0 {
		b.buryDead()
	}
	if b.waiting > 0 {
		b.watched.Broadcast()
	}
	b.mu.Unlock()
}

// now is the time since the broker started; zero never comes out.
func (b *Broker) now() time.Duration { return time.Since(b.epoch) + 1 }

func (b *Broker) clock() time.Time { return time.Now() }

func (b *Broker) logf(format string, args ...any) {
	if b.cfg.logger != nil {
		b.cfg.logger.Info("amqptest: " + fmt.Sprintf(format, args...))
	}
}

// Close ends the broker as a RabbitMQ node that shuts down does: connections are closed with 320, and what doesn't
// answer within a quarter of a second is dropped. It returns when every goroutine of the broker has ended; when that takes
// more than five seconds it logs what it waits for. Closing twice is fine.
func (b *Broker) Close() {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		b.running.Wait()
		return
	}
	b.closed = true
	if b.listener != nil {
		_ = b.listener.Close()
	}
	for c := range b.conns {
		if c.stage == running && !b.stalled {
			c.refuse(fail(connectionForced, "broker forced connection closure with reason 'shutdown'"))
			c.timeout.set(closeGrace)
		} else {
			c.release()
			c.drop()
		}
	}
	b.stalled, b.alarmed = false, false
	b.gate.Broadcast()
	b.unlock()
	hanging := time.AfterFunc(closePatience, b.explainHang)
	b.running.Wait()
	hanging.Stop()
	b.stopClocks()
}

const (
	closeGrace    = 250 * time.Millisecond
	closePatience = 5 * time.Second
)

// explainHang says what Close waits for.
func (b *Broker) explainHang() {
	b.mu.Lock()
	var what []string
	for c := range b.conns {
		for i := range c.doing {
			if text := c.doing[i].Load(); text != nil {
				what = append(what, fmt.Sprintf("connection %s (%s): %s", c.name, c.connectionName(), *text))
			}
		}
	}
	b.mu.Unlock()
	text := "amqptest: Close still waits, for " + strings.Join(what, "; ")
	if b.cfg.logger != nil {
		b.cfg.logger.Warn(text)
		return
	}
	slog.New(slog.NewTextHandler(os.Stderr, nil)).Warn(text)
}

// stopClocks stops what would still ring after Close.
func (b *Broker) stopClocks() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, v := range b.vhosts {
		for _, q := range v.queues {
			q.expiry.stop()
			q.lease.stop()
		}
	}
}

var errClosed = errors.New("amqptest: the broker is closed")

// Dial connects to the broker in memory, whatever the network and address: it is meant for amqp.Config.Dial.
// The connection is buffered and has deadlines, and works inside testing/synctest when the broker was made in the
// same bubble, with InMemory.
func (b *Broker) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, &net.OpError{Op: "dial", Net: "memory", Err: errClosed}
	}
	b.lastID++
	client, server := memPipe(memAddr(fmt.Sprintf("client-%d", b.lastID)), "amqptest")
	b.serve(newConn(b, server))
	return client, nil
}
