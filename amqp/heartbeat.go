package amqp

import (
	"context"
	"fmt"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// ticksToDie is how many half intervals without a sign end the connection: two
// intervals, in which a peer that beats once in each has missed two, and with the
// part of a half one that had passed before, two and a half at most.
const ticksToDie = 4

// heartbeatLoop looks twice in an interval whether bytes came, whether any were
// sent, and whether what is being written gets out. It compares counters, so
// that the two paths of the messages never ask for the time.
// https://www.rabbitmq.com/docs/heartbeats
func (c *Conn) heartbeatLoop(context.Context) error {
	tick := c.tuning.Heartbeat / 2
	if tick == 0 {
		tick = quietTick
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var p pulse
	for {
		select {
		case <-c.dead:
			return nil
		case <-ticker.C:
		}
		p.look(c)
		if c.tuning.Heartbeat == 0 {
			continue
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
