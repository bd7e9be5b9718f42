package amqp

import (
	"fmt"
	"sync"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// ticksToDie is how many half intervals without a sign end the connection: two
// intervals, in which a peer that beats once in each has missed two, and with the
// part of a half one that had passed before, two and a half at most.
const ticksToDie = 4

// heart looks twice in an interval whether bytes came, whether any were sent, and
// whether what is being written gets out. It compares counters, so that the two
// paths of the messages never ask for the time. Between the looks it is a timer and
// no goroutine.
// https://www.rabbitmq.com/docs/heartbeats
type heart struct {
	timer *time.Timer
	tick  time.Duration
	pulse pulse

	mu    sync.Mutex    // held during a look
	conn  *Conn         // nil: stopped. The runtime may keep a stopped timer for long.
	ended chan struct{} // closed by a look that came too late
}

// newHeart must be followed by stop.
func newHeart(c *Conn) *heart {
	h := &heart{tick: c.tuning.Heartbeat / 2, conn: c, ended: make(chan struct{})}
	if h.tick == 0 {
		h.tick = quietTick
	}
	h.mu.Lock() // the first look may be as soon as there is a timer
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(h.tick, h.look)
	return h
}

// stop returns when no look is being made, and none will be.
func (h *heart) stop() {
	h.mu.Lock()
	h.conn = nil
	early := h.timer.Stop()
	h.mu.Unlock()
	if !early {
		<-h.ended
	}
}

func (h *heart) look() {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.conn
	if c == nil {
		close(h.ended)
		return
	}
	h.timer.Reset(h.tick)
	if c.ended() {
		return
	}
	p := &h.pulse
	p.look(c)
	if c.tuning.Heartbeat == 0 {
		return
	}
	if !p.wrote {
		c.beat()
	}
	switch {
	case p.silent >= ticksToDie:
		c.die("nothing came from the broker")
	case p.stuck >= ticksToDie:
		c.die("the broker took nothing of what was sent")
	}
}

// quietTick is how often a connection without heartbeats is looked at, to give
// its buffers back.
const quietTick = 30 * time.Second

// pulse is what one look at the counters finds.
type pulse struct {
	reads    uint32
	progress uint32
	silent   int  // looks in a row that found nothing read
	stuck    int  // looks in a row that found the same write under way
	wrote    bool // since the last look
}

func (p *pulse) look(c *Conn) {
	reads, progress := c.in.reads.Load(), c.out.Progress()
	if reads == p.reads && !c.paused.Load() {
		p.silent++
		c.giveBack()
	} else {
		p.silent = 0
	}
	p.wrote = progress != p.progress
	switch {
	case p.wrote:
		p.stuck = 0
	case progress%2 == 1 && !c.isBlocked(): // a broker with an alarm reads nothing, and says so
		p.stuck++
	default:
		p.stuck = 0
		c.trim()
	}
	p.reads, p.progress = reads, progress
}

// trim lets go of memory that only pays while a lot is sent.
func (c *Conn) trim() {
	c.out.Trim()
	if _, err := c.out.Begin(); err == nil {
		c.routes.Reset()
		c.out.Abort()
	}
}

// beat sends a heartbeat.
func (c *Conn) beat() {
	if buf, err := c.out.Begin(); err == nil {
		c.out.Commit(wire.AppendHeartbeat(buf))
	}
}

func (c *Conn) die(seen string) {
	c.fail(fmt.Errorf("%w: %w: %s for two intervals of %v", ErrConnectionClosed, ErrHeartbeatTimeout, seen, c.tuning.Heartbeat), 0, false)
}
