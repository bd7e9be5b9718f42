package amqp

import (
	"context"
	"iter"
	"slices"
	"weak"

	xiter "github.com/leveret-mq/leveret/iter"
)

// blockage is one time in which the broker takes no messages.
type blockage struct{ over chan struct{} }

// watcher is one range over Blocked.
type watcher struct {
	changes xiter.Stream[blockedState]
}

type blockedState struct {
	blocked bool
	reason  string
}

// setBlocked takes what connection.blocked or connection.unblocked says.
// Messages wait from here on, and nothing else does: acknowledgements and
// heartbeats have to go on. The reader calls it.
func (c *Conn) setBlocked(s blockedState) {
	if s.blocked {
		c.gateMessages(true)
	}
	c.cfg.Trace.blocked(c, s)
	if s.blocked {
		c.cfg.Logger.Warn("amqp: the broker takes no messages until an alarm of its is over: who publishes waits", "reason", s.reason)
	} else {
		c.cfg.Logger.Info("amqp: the broker takes messages again")
	}
	c.mu.Lock()
	c.blockedState = s
	for _, w := range c.watchers {
		if w := w.Value(); w != nil {
			w.push(s)
		}
	}
	c.mu.Unlock()
	if !s.blocked { // last: whose Publish goes on finds the alarm over
		c.gateMessages(false)
	}
}

// gateMessages has messages wait, or go on.
func (c *Conn) gateMessages(blocked bool) {
	buf, err := c.out.Begin()
	if err != nil {
		return
	}
	was := c.blocked
	switch {
	case blocked && was == nil:
		c.blocked = &blockage{over: make(chan struct{})}
	case !blocked && was != nil:
		close(was.over)
		c.blocked = nil
	}
	c.out.Commit(buf)
}

// push adds a change, unless the range is so far behind that it would miss
// nothing that still matters.
func (w *watcher) push(s blockedState) {
	if w.changes.Len() < maxBlockedBehind {
		w.changes.Push(s)
	}
}

// maxBlockedBehind bounds the changes that wait for one range. It is even, so
// that of a pair both are kept or none.
const maxBlockedBehind = 1024

func (c *Conn) isBlocked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blockedState.blocked
}

// Blocked ranges over the changes of the broker's connection.blocked state, with
// its reason, from the call on; the first is the present state if that is
// blocked. Publish waits by itself meanwhile: this is for those who want to know.
// The range ends with the connection.
// https://www.rabbitmq.com/docs/connection-blocked
func (c *Conn) Blocked() iter.Seq2[bool, string] {
	w := new(watcher)
	c.mu.Lock()
	if c.blockedState.blocked {
		w.push(c.blockedState)
	}
	c.watchers = append(c.withoutForgotten(), weak.Make(w))
	c.mu.Unlock()
	if c.Context().Err() != nil {
		c.stopWatchers()
	}
	return func(yield func(bool, string) bool) {
		for s := range w.changes.All() {
			if !yield(s.blocked, s.reason) {
				return
			}
		}
	}
}

// withoutForgotten is the list of watchers with room for one more. The connection
// does not hold on to a range: who called Blocked may never range, or not go on
// after a break. When the list is full, those that nobody has any more are left out.
func (c *Conn) withoutForgotten() []weak.Pointer[watcher] {
	if len(c.watchers) < cap(c.watchers) {
		return c.watchers
	}
	forgotten := func(w weak.Pointer[watcher]) bool { return w.Value() == nil }
	living := slices.DeleteFunc(c.watchers, forgotten)
	return slices.Grow(living, len(living)+1) // so that it is looked through seldom
}

// stopWatchers ends the ranges over Blocked, when the connection's scope has.
func (c *Conn) stopWatchers() {
	c.mu.Lock()
	watchers := c.watchers
	c.watchers = nil
	c.mu.Unlock()
	for _, w := range watchers {
		if w := w.Value(); w != nil {
			w.changes.Stop(context.Cause(c.Context()))
		}
	}
}
