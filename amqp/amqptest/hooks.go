package amqptest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// A Direction tells who sent a method.
type Direction int

const (
	// ToBroker is the direction of what a client sent.
	ToBroker Direction = iota
	// ToClient is the direction of what the broker is about to send.
	ToClient
)

// An Event is a method on its way, as a hook sees it.
type Event struct {
	Direction  Direction
	Method     string   // "basic.publish"; a heartbeat frame is "heartbeat"
	Channel    uint16   // 0 is the connection itself
	Connection string   // the client's connection_name, or the addresses
	VHost      string   // empty before connection.open
	User       string   // empty before the login
	Message    *Message // of basic.publish, basic.deliver, basic.return and basic.get-ok

	method wire.Method
}

type hook struct {
	method string // empty: any
	decide func(*Event) Action
}

// On calls decide for every method of this name, like "basic.publish", in both directions and on every connection;
// "*" stands for all methods. It returns a function that ends that. Of several hooks the first that does not pass decides;
// delays add up.
//
// The hook runs on the connection's own goroutine: while it does, that connection makes no progress in that direction and
// others do. It may call any method of the broker but Close. On panics when there is no such method.
func (b *Broker) On(method string, decide func(*Event) Action) (remove func()) {
	h := &hook{method: method, decide: decide}
	if method == "*" {
		h.method = ""
	} else if method != heartbeat && !methodNames()[method] {
		panic(fmt.Sprintf("amqptest: there is no method %q", method))
	}
	b.lock()
	defer b.unlock()
	b.hooks = append(slices.Clone(b.hooks), h)
	return func() {
		b.lock()
		defer b.unlock()
		b.hooks = without(slices.Clone(b.hooks), h)
	}
}

// decide asks the hooks about an event, and waits as long as they say. It returns false when the connection ended meanwhile.
func (c *conn) decide(hooks []*hook, e *Event) (Action, bool) {
	c.describe(e)
	for _, h := range hooks {
		if h.method != "" && h.method != e.Method {
			continue
		}
		c.busy(e.Direction, "a hook on "+e.Method)
		a := h.decide(e)
		if a.delay > 0 {
			c.busy(e.Direction, fmt.Sprintf("a hook's delay of %v on %s", a.delay, e.Method))
			if !c.pause(a.delay) {
				return a, false
			}
		}
		c.busy(e.Direction, "")
		if a.kind != pass {
			return a, true
		}
	}
	return Action{}, true
}

// heartbeat is what hooks call a frame of that type, which is no method.
const heartbeat = "heartbeat"

func wants(hooks []*hook, method string) bool {
	return slices.ContainsFunc(hooks, func(h *hook) bool { return h.method == "" || h.method == method })
}

// describe fills in whose event it is.
func (c *conn) describe(e *Event) {
	c.broker.mu.Lock()
	defer c.broker.mu.Unlock()
	e.Connection = c.connectionName()
	if c.user != nil {
		e.User = c.user.Name
	}
	if c.vhost != nil {
		e.VHost = c.vhost.name
	}
}

// busy notes what one of the two goroutines does, for a Close that hangs.
func (c *conn) busy(d Direction, what string) {
	if what == "" {
		c.doing[d].Store(nil)
		return
	}
	c.doing[d].Store(&what)
}

// pause waits, unless the connection ends.
func (c *conn) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.gone:
		return false
	}
}

// hooked performs a client's request as the hooks decide.
func (c *conn) hooked(hooks []*hook, req request) {
	e := &Event{Direction: ToBroker, Channel: req.channel, method: req.method}
	if p := req.publication; p.message != nil {
		e.method = &wire.BasicPublish{Exchange: p.message.exchange, RoutingKey: p.message.key, Mandatory: p.mandatory, Immediate: p.immediate}
		e.Message = p.message.export()
	}
	e.Method = heartbeat
	if e.method != nil {
		e.Method = e.method.ID().String()
	}
	a, alive := Action{}, true
	if wants(hooks, e.Method) {
		a, alive = c.decide(hooks, e)
	}
	c.broker.lock()
	defer c.broker.unlock()
	switch {
	case !alive || c.dead:
	case a.kind == pass:
		c.perform(req)
	case a.kind == later:
		req.late = true
		c.afterwards(a.later, func() { c.perform(req) })
	default:
		c.carryOut(a, e)
	}
}

// afterwards does something to the connection later, with the lock held, if there still is one.
func (c *conn) afterwards(d time.Duration, do func()) {
	time.AfterFunc(d, func() {
		c.broker.lock()
		defer c.broker.unlock()
		if !c.dead && !c.finishing {
			do()
		}
	})
}

// carryOut does what a hook decided instead of the method.
func (c *conn) carryOut(a Action, e *Event) {
	refusal := &exception{code: a.code, text: a.text}
	if e.method != nil {
		refusal.method = e.method.ID()
	}
	switch a.kind {
	case closeChannel:
		if ch := c.channels[e.Channel]; ch != nil {
			ch.close(refusal)
		}
	case closeConnection:
		c.refuse(refusal)
	case sever, cut:
		c.release()
		c.drop()
	case reply:
		c.out = append(c.out, a.raw...)
		c.wake()
	}
}

// methodNames are the methods that there are.
func methodNames() map[string]bool {
	names := map[string]bool{}
	for _, class := range []uint32{10, 20, 40, 50, 60, 85, 90} {
		for method := range uint32(128) {
			if name := wire.MethodID(class<<16 | method).String(); !strings.HasPrefix(name, "method ") {
				names[name] = true
			}
		}
	}
	return names
}
