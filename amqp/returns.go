package amqp

import (
	"context"
	"iter"
	"sync/atomic"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
	xiter "github.com/leveret-mq/leveret/iter"
)

// Return says why a message came back (basic.return), and which it was.
type Return struct {
	ReplyCode  ReplyCode // NoRoute, or NoConsumers
	ReplyText  string
	Exchange   string
	RoutingKey string
	Properties Properties
}

// returned is a message that came back. Its Return is apart, since a
// PublishError keeps that for long, and must not keep the body.
type returned struct {
	*Return
	body []byte
	size int64 // of both, about
	// dropped is the size of a body that Config.MaxMessageSize does not allow. The
	// program itself sent it: that is no reason to end the connection.
	dropped int
}

// returnStream holds the messages that came back until somebody ranges over
// them.
type returnStream struct {
	stream xiter.Stream[*returned]
	bytes  atomic.Int64 // that no range has taken over
}

// What bounds the returned messages that wait for a range.
const (
	maxReturnsBehind = 4096
	maxReturnedBytes = 4 << 20
)

// push takes one more, unless too many wait. The reader calls it.
func (r *returnStream) push(ret *returned) bool {
	waiting := r.bytes.Load()
	if r.stream.Len() >= maxReturnsBehind || waiting > 0 && waiting+ret.size > maxReturnedBytes {
		return false
	}
	r.bytes.Add(ret.size)
	return r.stream.Push(ret)
}

// Returns ranges over the messages that the broker returned as unroutable.
// Those that come from the call on are kept, at most 4096 of them and 4 MiB,
// until they are ranged over; what comes before the first call, or beyond these
// bounds, or is larger than Config.MaxMessageSize, is logged and dropped. Several
// ranges share the messages. The range ends with the channel.
// https://www.rabbitmq.com/docs/publishers#unroutable
func (ch *Channel) Returns() iter.Seq2[[]byte, *Return] {
	ch.mu.Lock()
	r := ch.returns
	if r == nil {
		r = new(returnStream)
		r.stream.OnSwap(func() { r.bytes.Store(0) })
		ch.returns = r
		if ch.cause != nil {
			r.stream.End(ch.cause)
		}
	}
	ch.mu.Unlock()
	if ch.Context().Err() != nil {
		ch.stopReturns()
	}
	return func(yield func([]byte, *Return) bool) {
		defer ch.conn.enterOther()()
		for ret := range r.stream.All() {
			if !yield(ret.body, ret.Return) {
				return
			}
		}
	}
}

// stopReturns ends the ranges over Returns, when the channel's scope has.
func (ch *Channel) stopReturns() {
	ch.mu.Lock()
	r := ch.returns
	ch.mu.Unlock()
	if r != nil {
		r.stream.Stop(context.Cause(ch.Context()))
	}
}

// onReturnMethod starts a message that came back.
func (ch *Channel) onReturnMethod(m *wire.BasicReturn) error {
	ch.content.ret = &returned{Return: &Return{
		ReplyCode: ReplyCode(m.ReplyCode), ReplyText: m.ReplyText, Exchange: m.Exchange, RoutingKey: m.RoutingKey,
	}}
	return nil
}

// onReturn hands a message that came back to its publisher, if that is known,
// and to who ranges over Returns.
func (ch *Channel) onReturn(ret *returned) error {
	told := false
	if n, ok := ret.Properties.Headers[sequenceHeader].(int64); ok {
		ret.Properties.dropSequence()
		told = ch.confirms.returned(uint64(n), ret.Return)
	}
	ch.conn.stats.returned.Add(1)
	ch.conn.cfg.Trace.returned(ch, ret.Return)
	ch.mu.Lock()
	r := ch.returns
	ch.mu.Unlock()
	ret.size += int64(len(ret.body)) + envelopeSize
	if r != nil && ret.dropped == 0 && r.push(ret) {
		return nil
	}
	if !told {
		ch.warnUnread(ret)
	}
	return nil
}

// unreadReturns bounds what the log hears of messages that came back and that
// nobody takes: whoever publishes to a queue that is gone may do so a million
// times. Guarded by line.mu.
type unreadReturns struct {
	warned time.Time // zero: not yet
	since  int       // messages that came back since then
}

// returnsQuiet is how long a channel's log is quiet about more of them.
const returnsQuiet = time.Minute

const (
	warnUnread   = "amqp: a message was returned as unroutable, and nobody takes it: range over Channel.Returns"
	warnTooLarge = "amqp: a message was returned as unroutable, and dropped: Config.MaxMessageSize does not allow it"
)

// warnUnread warns of the first, and then at most once in a returnsQuiet, with how
// many there were since.
func (ch *Channel) warnUnread(ret *returned) {
	now := time.Now()
	ch.mu.Lock()
	u := &ch.unread
	u.since++
	count := u.since
	due := u.warned.IsZero() || now.Sub(u.warned) >= returnsQuiet
	if due {
		u.warned, u.since = now, 0
	}
	ch.mu.Unlock()
	if due {
		why := warnUnread
		if ret.dropped > 0 {
			why = warnTooLarge
		}
		ch.conn.cfg.Logger.Warn(why, "messages", count,
			"exchange", ret.Exchange, "routing_key", ret.RoutingKey, "code", uint16(ret.ReplyCode), "reason", ret.ReplyText,
			"message_id", ret.Properties.MessageID, "bytes", len(ret.body)+ret.dropped)
	}
}

// warnOfRest tells of those that were not warned of by the channel's end.
func (ch *Channel) warnOfRest() {
	ch.mu.Lock()
	count := ch.unread.since
	ch.unread.since = 0
	ch.mu.Unlock()
	if count > 0 {
		ch.conn.cfg.Logger.Warn(warnUnread, "messages", count)
	}
}

// dropSequence takes the client's own header out of what a user gets to see.
func (p *Properties) dropSequence() {
	if _, ok := p.Headers[sequenceHeader]; !ok {
		return
	}
	delete(p.Headers, sequenceHeader)
	if len(p.Headers) == 0 {
		p.Headers = nil
	}
}
