package amqp

import "time"

// Trace is a set of hooks that tell what a connection goes through, for
// Config.Trace. Any of them may be nil, and costs nothing then. JoinTraces makes
// one set of several.
//
// A hook is called on the goroutine that the event happens on, the reader's or
// that of a loop over messages among them, and some are called with locks held, so
// that they come in the order of the wire: it must neither block nor call the
// connection or anything in it. Hooks are called at the same time by several
// goroutines. A Trace must not change while a connection uses it.
type Trace struct {
	// DialStart is called before an endpoint, "host:port", is tried.
	DialStart func(addr string)
	// DialDone is called after that, with why it failed, if it did. TCP, TLS and
	// AMQP handshake lie between the two.
	DialDone func(addr string, err error)
	// Connected is called when a connection is open, before its body.
	Connected func(c *Conn)
	// Closed is called when a connection's scope has ended, with what
	// WithConnection returns.
	Closed func(c *Conn, err error)
	// Retry is called by Supervise before each wait, with what Retry.OnRetry is
	// told: how many attempts have failed in a row, how long the wait is, and
	// what ended the attempt.
	Retry func(attempt int, delay time.Duration, cause error)
	// Blocked is called for connection.blocked and connection.unblocked.
	Blocked func(c *Conn, blocked bool, reason string)

	// ChannelOpened and ChannelClosed are called around a channel's scope, the
	// latter with what WithChannel returns.
	ChannelOpened func(ch *Channel)
	ChannelClosed func(ch *Channel, err error)
	// ConsumerStarted and ConsumerEnded are called around a consumer's scope, the
	// latter with what WithConsumer returns. Its first Delivered may come before
	// the former.
	ConsumerStarted func(c *Consumer)
	ConsumerEnded   func(c *Consumer, err error)

	// Published is called when a message is on its way to the network's buffer,
	// also for those of a Publisher or an Outbox, and before its Confirmed.
	Published func(ch *Channel, info PublishInfo)
	// Returned is called when a message comes back as unroutable, before its
	// Confirmed.
	Returned func(ch *Channel, ret *Return)
	// Confirmed is called once for each message on a channel with confirms, when
	// its outcome is known: by the broker's confirm, or when the channel ends
	// without one. A caller who gave up has heard ErrUnconfirmed before.
	Confirmed func(ch *Channel, info ConfirmInfo)

	// Delivered is called for each message that is received for a consumer or
	// Get, size being that of its body, before anybody gets to see it. The
	// envelope is the receiver's: read it, and keep nothing of it.
	Delivered func(ch *Channel, env *Envelope, size int)
	// Settled is called for each settlement of a delivery by the program, or by
	// the client for messages that nobody took. Acknowledgements are sent a
	// little later, and several as one.
	Settled func(ch *Channel, info SettleInfo)
}

// PublishInfo tells Trace.Published of a message.
type PublishInfo struct {
	Exchange, RoutingKey string
	MessageID            string
	Sequence             uint64 // on its channel, from 1; 0 without confirms
	Size                 int    // of the body, in bytes
}

// ConfirmInfo tells Trace.Confirmed of a message's outcome.
type ConfirmInfo struct {
	Exchange, RoutingKey string
	Sequence             uint64 // as in PublishInfo
	// Err is nil when the broker has the message, and otherwise a *PublishError
	// in which errors.Is finds ErrNacked, ErrReturned or ErrUnconfirmed.
	Err error
}

// SettleInfo tells Trace.Settled of a settlement.
type SettleInfo struct {
	DeliveryTag uint64
	Method      string // "basic.ack", "basic.nack" or "basic.reject"
	Multiple    bool   // all up to DeliveryTag; 0: all there are
	Requeue     bool
}

func (t *Trace) dialStart(addr string) {
	if t != nil && t.DialStart != nil {
		t.DialStart(addr)
	}
}

func (t *Trace) dialDone(addr string, err error) {
	if t != nil && t.DialDone != nil {
		t.DialDone(addr, err)
	}
}

func (t *Trace) connected(c *Conn) {
	if t != nil && t.Connected != nil {
		t.Connected(c)
	}
}

func (t *Trace) closed(c *Conn, err error) {
	if t != nil && t.Closed != nil {
		t.Closed(c, err)
	}
}

func (t *Trace) retry(attempt int, delay time.Duration, cause error) {
	if t != nil && t.Retry != nil {
		t.Retry(attempt, delay, cause)
	}
}

func (t *Trace) blocked(c *Conn, s blockedState) {
	if t != nil && t.Blocked != nil {
		t.Blocked(c, s.blocked, s.reason)
	}
}

func (t *Trace) channelOpened(ch *Channel) {
	if t != nil && t.ChannelOpened != nil {
		t.ChannelOpened(ch)
	}
}

func (t *Trace) channelClosed(ch *Channel, err error) {
	if t != nil && t.ChannelClosed != nil {
		t.ChannelClosed(ch, err)
	}
}

func (t *Trace) consumerStarted(c *Consumer) {
	if t != nil && t.ConsumerStarted != nil {
		t.ConsumerStarted(c)
	}
}

func (t *Trace) consumerEnded(c *Consumer, err error) {
	if t != nil && t.ConsumerEnded != nil {
		t.ConsumerEnded(c, err)
	}
}

func (t *Trace) returned(ch *Channel, ret *Return) {
	if t != nil && t.Returned != nil {
		t.Returned(ch, ret)
	}
}

// tracesConfirms has Trace.Confirmed told of the channel's outcomes.
func (ch *Channel) tracesConfirms() {
	if t := ch.conn.cfg.Trace; t != nil && t.Confirmed != nil {
		ch.confirms.traced = func(info ConfirmInfo) { t.Confirmed(ch, info) }
	}
}

// published is called with the writer's lock held, so that the confirm comes
// later. A hook that panics leaves the critical section with buf, which ends with
// the message: whoever recovers would find the connection locked otherwise.
func (t *Trace) published(ch *Channel, buf []byte, s *sending, msg *Message, n uint64) {
	if t.Published == nil {
		return
	}
	returned := false
	defer func() {
		if !returned {
			ch.conn.out.Commit(buf)
		}
	}()
	t.Published(ch, PublishInfo{s.exchange, s.routingKey, msg.Properties.MessageID, n, len(msg.Body)})
	returned = true
}

func (t *Trace) delivered(ch *Channel, d *delivery) {
	if t != nil && t.Delivered != nil {
		t.Delivered(ch, &d.Envelope, int(d.size))
	}
}

// settled is called after the ledger has taken the settlement.
func (t *Trace) settled(ch *Channel, info SettleInfo) {
	if t != nil && t.Settled != nil {
		t.Settled(ch, info)
	}
}
