package amqp

// Trace is a set of hooks that tell what a connection goes through. Any of them
// may be nil. They are called on the goroutine that the event happens on, the
// reader's among them, so they must neither block nor call the connection.
type Trace struct {
	// DialStart is called before an endpoint, "host:port", is tried.
	DialStart func(addr string)
	// DialDone is called after that, with why it failed, if it did.
	DialDone func(addr string, err error)
	// Connected is called when a connection is open, before its body.
	Connected func(c *Conn)
	// Closed is called when a connection's scope has ended, with what
	// WithConnection returns.
	Closed func(c *Conn, err error)
	// ChannelOpened and ChannelClosed are called around a channel's scope, the
	// latter with what WithChannel returns.
	ChannelOpened func(ch *Channel)
	ChannelClosed func(ch *Channel, err error)
	// Blocked is called for connection.blocked and connection.unblocked.
	Blocked func(c *Conn, blocked bool, reason string)
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

func (t *Trace) blocked(c *Conn, s blockedState) {
	if t != nil && t.Blocked != nil {
		t.Blocked(c, s.blocked, s.reason)
	}
}
