package amqp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
	"github.com/leveret-mq/leveret/scope"
)

// Channel is a channel of a connection, and the scope of what uses it. It is
// valid inside the callback that WithChannel gives it to. All its methods are
// safe for concurrent use, and publishing from many goroutines on one channel
// is normal.
//
// A method that takes a ctx waits for the broker's answer unless its
// documentation says otherwise. When ctx ends first, it returns the cause of
// that, and the channel stays usable: the late answer is dropped. With NoWait
// there is no answer, and it returns when the method is on its way. An answer
// that is an exception is the method's error, an *Error.
//
// An exception of the broker's ends the channel: everything in its scope is
// cancelled with the *Error as context.Cause, and so are the calls on it. On a
// channel that has ended, whatever was the reason, methods return that reason.
// https://www.rabbitmq.com/docs/channels
type Channel struct {
	*scope.Scope
	line

	ledger   ledger
	confirms confirms
	// closing tells the reader that channel.close was sent: what still comes
	// on the channel is for nobody.
	closing atomic.Bool
	inner   atomic.Int32 // scopes of consumers and publishers
	// voided is the last delivery tag that basic.recover took back.
	voided atomic.Uint64

	// Guarded by the writer's lock.
	confirming bool
	tx         txState
	stopped    *blockage // the broker stopped the channel by channel.flow
	stamp      stamp

	// Guarded by line.mu.
	handle    *scope.Handle // nil until the channel is open
	alive     context.Context
	revoke    context.CancelCauseFunc
	consumers []*Consumer
	returns   *returnStream
	unread    unreadReturns
	qos       *Qos // what Qos was called with
	txTurn    chan struct{}
	// roster counts the changes of consumers.
	roster atomic.Uint32

	// What follows belongs to who reads.
	content  content
	lastTag  uint64
	run      tagRun
	consumer *Consumer // of the last delivery, as of seen
	seen     uint32
}

// tagRun are delivery tags of one kind, in a row.
type tagRun struct {
	first, last uint64
	noAck       bool
}

// WithChannel opens a channel (channel.open), gives it to body, and closes it
// when body and everything in its scope has ended, after what was settled has
// reached the broker.
//
// It returns what body or a task failed with; the broker's *Error if the
// channel was closed by an exception that no call was told, even if body
// returned nil; the cause of ctx's end if that came before body returned; and
// ErrNoChannel when the connection has as many channels as it may. ctx also
// bounds the opening.
func (c *Conn) WithChannel(ctx context.Context, body func(*Channel) error) error {
	ch, err := c.openChannel(ctx)
	if err != nil {
		return fmt.Errorf("amqp: open a channel: %w", err)
	}
	return ch.live(ctx, body)
}

// ID is the channel's number on its connection.
func (ch *Channel) ID() uint16 { return ch.id }

func (c *Conn) openChannel(ctx context.Context) (*Channel, error) {
	ch := new(Channel)
	ch.conn = c
	ch.line.ledger = &ch.ledger
	ch.content.ch = ch
	ch.tracesConfirms()
	if err := c.register(ch); err != nil {
		return nil, err
	}
	open := &wire.ChannelOpen{}
	p := newCall(open, wire.ChannelOpenOkID)
	p.late = func(wire.Method, *delivery) { ch.postClose() }
	if err := ch.start(ctx, outgoing{method: open, call: p}); err != nil {
		c.forget(ch)
		return nil, err
	}
	if err := ch.wait(ctx, p); err != nil {
		return nil, err
	}
	c.cfg.Trace.channelOpened(ch)
	return ch, nil
}

// register gives ch the lowest free number.
func (c *Conn) register(ch *Channel) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open >= int(c.tuning.ChannelMax) {
		return fmt.Errorf("%w: %d are open, as many as client and broker agreed on", ErrNoChannel, c.open)
	}
	id := c.lowest
	for id < len(c.channels) && c.channels[id] != nil {
		id++
	}
	for len(c.channels) <= id {
		c.channels = append(c.channels, nil)
	}
	c.channels[id] = ch
	c.lowest = id + 1
	c.open++
	ch.id = uint16(id)
	return nil
}

// forget frees the number of ch. Once frames were sent on it, only the reader
// may do that, when the broker has nothing more to say on it.
func (c *Conn) forget(ch *Channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.channels[ch.id] = nil
	c.lowest = min(c.lowest, int(ch.id))
	c.open--
}

// live is the life of an open channel.
func (ch *Channel) live(ctx context.Context, body func(*Channel) error) (err error) {
	handle := scope.Open(ctx, ch.conn.Scope)
	ch.Scope = handle.Scope()
	ch.conn.watch(handle, ch.name, &ch.inner, nil)
	handle.OnEnd(ch.stopReturns)
	ch.conn.inner.Add(1)
	defer ch.conn.inner.Add(-1)
	ch.mu.Lock()
	ch.handle = handle
	cause := ch.cause
	ch.mu.Unlock()
	if cause != nil {
		handle.Interrupt(cause)
	}
	echoed := false
	defer func() {
		closing := ch.close()
		ch.warnOfRest()
		if died := ch.died(echoed); died != nil {
			err = joinCause(err, died)
		}
		err = joinCause(err, closing)
		ch.conn.cfg.Trace.channelClosed(ch, err)
	}()
	err, echoed = handle.Run(func() error { return body(ch) })
	return err
}

var errChannelScopeEnded = fmt.Errorf("%w: its scope has ended", ErrChannelClosed)

// died is the exception that ended the channel, if its scope has to report it.
func (ch *Channel) died(echoed bool) error {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if errors.Is(ch.cause, errChannelScopeEnded) || ch.told && !echoed {
		return nil
	}
	return ch.cause
}

// close makes sure that the broker has what was settled, and closes the channel
// there, within CloseTimeout.
func (ch *Channel) close() error {
	c := ch.conn
	ch.stopReturns()
	defer ch.die(errChannelScopeEnded, 0)
	defer ch.postClose()
	if err := c.polite("channel.flow-ok", ch.prove); err != nil {
		return err
	}
	return c.polite("channel.close-ok", func(ctx context.Context) error {
		ch.closing.Store(true)
		// A failure is that of the channel, and reported as such.
		ch.farewell(ctx, &wire.ChannelClose{ReplyCode: replySuccess}, wire.ChannelCloseOkID, true)
		return nil
	})
}

// prove makes a round trip if settlements were sent after the last one: RabbitMQ
// may drop what a channel.close overtakes.
// https://www.rabbitmq.com/docs/channels#closing-channels
func (ch *Channel) prove(ctx context.Context) error {
	buf, err := ch.conn.out.Begin()
	if err != nil {
		return nil
	}
	buf = ch.flushAcks(buf)
	unproven, transacted := ch.unproven && !ch.shut, ch.tx != noTx
	ch.conn.out.Commit(buf)
	switch {
	case !unproven:
	case transacted:
		ch.farewell(ctx, &wire.TxCommit{}, wire.TxCommitOkID, false)
	default:
		ch.farewell(ctx, &wire.ChannelFlow{Active: true}, wire.ChannelFlowOkID, false)
	}
	return nil
}

// postClose closes the channel without waiting for it, for one that nobody has
// any more. Its number is free when the broker has answered.
func (ch *Channel) postClose() {
	buf, err := ch.conn.out.Begin()
	if err != nil {
		return
	}
	if !ch.shut {
		ch.shut = true
		ch.closing.Store(true)
		buf, _ = wire.AppendMethod(ch.flushAcks(buf), ch.id, &wire.ChannelClose{ReplyCode: replySuccess})
	}
	ch.conn.out.Commit(buf)
}

// die ends everything in the channel with cause. at is the method that the
// broker's exception names. It reports whether a call was told.
func (ch *Channel) die(cause error, at wire.MethodID) (told bool) {
	return ch.fail(cause, at) && ch.tell(cause, at)
}

// tell ends what is in the channel, whose line has just failed with cause.
func (ch *Channel) tell(cause error, at wire.MethodID) (told bool) {
	ch.mu.Lock()
	// Who is told here may ask at once whether anybody was: the lock is held.
	if ch.confirms.fail(cause) && at == wire.BasicPublishID {
		ch.told = true
	}
	told = ch.told
	handle, end := ch.handle, ch.revoke
	consumers, returns := slices.Clone(ch.consumers), ch.returns
	ch.mu.Unlock()
	if handle != nil {
		handle.Interrupt(cause)
	}
	if end != nil {
		end(cause)
	}
	for _, c := range consumers {
		c.stop(cause)
	}
	if returns != nil {
		returns.stream.End(cause)
	}
	return told
}

// aliveContext ends, with its cause, when nothing can be settled on the channel
// any more. It is made for the first who asks. Who has heard of the channel's end
// finds it ended.
func (ch *Channel) aliveContext() context.Context {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.alive == nil {
		ch.alive, ch.revoke = context.WithCancelCause(context.WithoutCancel(ch.Context()))
	}
	if ch.cause != nil {
		ch.revoke(ch.cause)
	}
	return ch.alive
}

// onMethod handles a method that came on the channel.
func (ch *Channel) onMethod(payload []byte) error {
	id, err := wire.PeekMethodID(payload)
	if err != nil {
		return protocolError("channel %d: %v", ch.id, err)
	}
	if ch.closing.Load() && id != wire.ChannelCloseID && id != wire.ChannelCloseOkID {
		return nil
	}
	if !ch.content.idle() && !ch.closing.Load() {
		return protocolError("the broker sent %v on channel %d in the middle of a message", id, ch.id)
	}
	switch id {
	case wire.BasicDeliverID:
		return ch.onDeliver(payload)
	case wire.BasicAckID, wire.BasicNackID:
		return ch.onConfirm(id, payload)
	}
	m, err := wire.DecodeMethod(payload)
	if err != nil {
		return protocolError("channel %d: %v", ch.id, err)
	}
	return ch.onOther(m)
}

// onOther handles the methods that are not worth a shortcut.
func (ch *Channel) onOther(m wire.Method) error {
	switch m := m.(type) {
	case *wire.BasicReturn:
		return ch.onReturnMethod(m)
	case *wire.BasicGetOk:
		return ch.onGetOk(m)
	case *wire.BasicCancel:
		return ch.onCancel(m)
	case *wire.BasicCancelOk:
		// What came before belongs to the consumer, or is given back before it has ended.
		if err := ch.conn.handOver(); err != nil {
			return err
		}
	case *wire.BasicRecoverOk:
		ch.enterTags()
		ch.voided.Store(ch.ledger.void())
		return ch.answer(m, nil)
	case *wire.ChannelFlow:
		ch.onFlow(m.Active)
		return nil
	case *wire.ChannelClose:
		ch.onClose(m)
		return nil
	case *wire.ChannelCloseOk:
		return ch.onCloseOk(m)
	}
	return ch.answer(m, nil)
}

// onClose handles the broker's exception.
func (ch *Channel) onClose(m *wire.ChannelClose) {
	c := ch.conn
	cause := &Error{Code: ReplyCode(m.ReplyCode), Text: m.ReplyText, ClassID: m.ClassID, MethodID: m.MethodID}
	at := cause.method()
	buf, err := c.out.Begin()
	if err != nil || !ch.shut {
		ch.remove() // before anybody hears of it: who has may want a channel
	}
	// Otherwise the answer to our own channel.close is still to come, and would
	// be taken for that of the number's next user.
	first := ch.fail(cause, at) // under the lock: whoever finds the channel shut finds the cause too
	if err == nil {
		ch.shut = true
		buf, _ = wire.AppendMethod(buf, ch.id, &wire.ChannelCloseOk{})
		c.out.Commit(buf)
	}
	if first {
		ch.tell(cause, at)
	}
}

func (ch *Channel) onCloseOk(m *wire.ChannelCloseOk) error {
	if !ch.closing.Load() {
		return protocolError("the broker sent channel.close-ok on channel %d, which nobody closed", ch.id)
	}
	ch.mu.Lock()
	waits := slices.ContainsFunc(ch.calls, func(p *pendingCall) bool { return p.method == wire.ChannelCloseID })
	ch.mu.Unlock()
	ch.remove()
	if waits {
		return ch.answer(m, nil)
	}
	return nil
}

// remove takes the channel off the connection. The reader calls it.
func (ch *Channel) remove() {
	c := ch.conn
	c.known[ch.id] = nil
	if fed := c.lead.fed; fed != nil && fed.ch == ch {
		c.lead.fed = nil // which would keep the channel in memory
	}
	c.forget(ch)
}

// onFlow handles the broker's wish to stop or start the channel's messages.
func (ch *Channel) onFlow(active bool) {
	c := ch.conn
	buf, err := c.out.Begin()
	if err != nil {
		return
	}
	switch {
	case !active && ch.stopped == nil:
		ch.stopped = &blockage{over: make(chan struct{})}
	case active && ch.stopped != nil:
		close(ch.stopped.over)
		ch.stopped = nil
	}
	if !ch.shut {
		buf, _ = wire.AppendMethod(ch.flushAcks(buf), ch.id, &wire.ChannelFlowOk{Active: active})
	}
	c.out.Commit(buf)
}
