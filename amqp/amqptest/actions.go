package amqptest

import "time"

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
