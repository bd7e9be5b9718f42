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

// An Action is a hook's decision about a method. Make one with Pass, Drop, Delay, Later, CloseChannel, CloseConnection,
// Sever, Reply or Cut.
type Action struct {
	kind  actionKind
	delay time.Duration
	later time.Duration
	code  uint16
	text  string
	raw   []byte
	bytes int
}

type actionKind uint8

const (
	pass actionKind = iota
	drop
	later
	closeChannel
	closeConnection
	sever
	reply
	cut
)

// Pass lets the method go its way.
func Pass() Action { return Action{} }

// Drop loses the method, and the message that belongs to it.
func Drop() Action { return Action{kind: drop} }

// Delay lets the method go its way after a while. What comes behind it on this connection, in this direction, waits, too.
func Delay(d time.Duration) Action { return Action{delay: d} }

// Later takes the method out and lets it go its way after a while. What comes behind it overtakes it: a confirm that takes its
// time, say, on a connection that works.
func Later(d time.Duration) Action { return Action{kind: later, later: d} }

// CloseChannel loses the method and closes its channel with this reply code and text.
func CloseChannel(code uint16, text string) Action {
	return Action{kind: closeChannel, code: code, text: text}
}

// CloseConnection loses the method and closes its connection with this reply code and text.
func CloseConnection(code uint16, text string) Action {
	return Action{kind: closeConnection, code: code, text: text}
}

// Sever loses the method and drops the connection without a word.
func Sever() Action { return Action{kind: sever} }

// Reply loses the method and sends these bytes to the client in its place, whatever they are. Frame and MethodFrame make frames.
func Reply(raw []byte) Action { return Action{kind: reply, raw: raw} }

// Cut sends the first n bytes of the method's frames, those of its message included, and hangs up: the client gets these
// bytes and then the end of the stream. With a large n the method arrives, and nothing after it.
// For a method that a client sent it is Sever.
func Cut(n int) Action { return Action{kind: cut, bytes: n} }

// After adds a delay before the action.
func (a Action) After(d time.Duration) Action {
	a.delay += d
	return a
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

// filtered writes a batch of frames as the hooks decide.
func (c *conn) filtered(hooks []*hook, batch []byte) error {
	var passed []byte
	write := func() error {
		_, err := c.nc.Write(passed)
		passed = passed[:0]
		return err
	}
	for len(batch) > 0 {
		unit, e := outgoing(batch)
		batch = batch[len(unit):]
		if e == nil || !wants(hooks, e.Method) {
			passed = append(passed, unit...)
			continue
		}
		if err := write(); err != nil { // what comes before goes before, however long the hook takes
			return err
		}
		a, alive := c.decide(hooks, e)
		switch {
		case !alive:
			return errClosed
		case a.kind == pass:
			passed = append(passed, unit...)
		case a.kind == reply:
			passed = append(passed, a.raw...)
		case a.kind == cut:
			passed = append(passed, unit[:min(a.bytes, len(unit))]...)
			_ = write()
			_ = c.raw.Close() // not a reset, which could overtake the bytes
			return errClosed
		case a.kind == later:
			frames := slices.Clone(unit)
			c.broker.lock()
			c.afterwards(a.later, func() {
				c.late = append(c.late, frames...)
				c.wake()
			})
			c.broker.unlock()
		default:
			c.broker.lock()
			c.carryOut(a, e)
			c.broker.unlock()
		}
	}
	return write()
}

// outgoing splits off the first method with its message. What is not a method has no event.
func outgoing(batch []byte) (unit []byte, e *Event) {
	size := frameSize(batch)
	if size == 0 {
		return batch, nil
	}
	unit = batch[:size]
	switch unit[0] {
	case wire.FrameHeartbeat:
		return unit, &Event{Direction: ToClient, Method: heartbeat}
	case wire.FrameMethod:
	default:
		return unit, nil
	}
	m, err := wire.DecodeMethod(unit[wire.FrameHeaderSize : size-1])
	if err != nil {
		return unit, nil
	}
	e = &Event{Direction: ToClient, Channel: wire.ParseFrameHeader(unit).Channel, Method: m.ID().String(), method: m}
	message := &message{}
	for next := batch[size:]; carriesContent(m); next = batch[size:] {
		n := frameSize(next)
		if n == 0 || next[0] != wire.FrameContentHeader && next[0] != wire.FrameBody || wire.ParseFrameHeader(next).Channel != e.Channel {
			break
		}
		payload := next[wire.FrameHeaderSize : n-1]
		if next[0] == wire.FrameBody {
			message.body = append(message.body, payload...)
		} else if h, err := wire.ParseContentHeader(payload); err == nil {
			message.raw = h.Properties
		}
		size += n
	}
	if carriesContent(m) {
		e.Message = message.export()
		e.Message.Exchange, _ = e.Field("exchange").(string)
		e.Message.RoutingKey, _ = e.Field("routing-key").(string)
	}
	return batch[:size], e
}

// frameSize is the size of the frame that begins here; zero when these bytes are not one.
func frameSize(b []byte) int {
	if len(b) < wire.FrameOverhead || b[0] == wire.ProtocolHeader[0] {
		return 0
	}
	size := int(wire.ParseFrameHeader(b).Size) + wire.FrameOverhead
	if size > len(b) || b[size-1] != wire.FrameEnd {
		return 0
	}
	return size
}

func carriesContent(m wire.Method) bool {
	switch m.(type) {
	case *wire.BasicDeliver, *wire.BasicReturn, *wire.BasicGetOk:
		return true
	}
	return false
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
