package amqp

// JoinTraces makes one set of hooks that calls those of all traces, in their
// order. Traces and hooks that are nil are left out.
func JoinTraces(traces ...*Trace) *Trace {
	all := new(Trace)
	for _, t := range traces {
		if t != nil {
			all.add(t)
		}
	}
	return all
}

func (t *Trace) add(u *Trace) {
	t.DialStart = join1(t.DialStart, u.DialStart)
	t.DialDone = join2(t.DialDone, u.DialDone)
	t.Connected = join1(t.Connected, u.Connected)
	t.Closed = join2(t.Closed, u.Closed)
	t.Retry = join3(t.Retry, u.Retry)
	t.Blocked = join3(t.Blocked, u.Blocked)
	t.ChannelOpened = join1(t.ChannelOpened, u.ChannelOpened)
	t.ChannelClosed = join2(t.ChannelClosed, u.ChannelClosed)
	t.ConsumerStarted = join1(t.ConsumerStarted, u.ConsumerStarted)
	t.ConsumerEnded = join2(t.ConsumerEnded, u.ConsumerEnded)
	t.Published = join2(t.Published, u.Published)
	t.Returned = join2(t.Returned, u.Returned)
	t.Confirmed = join2(t.Confirmed, u.Confirmed)
	t.Delivered = join3(t.Delivered, u.Delivered)
	t.Settled = join2(t.Settled, u.Settled)
}

func join1[A any](f, g func(A)) func(A) {
	switch {
	case f == nil:
		return g
	case g == nil:
		return f
	}
	return func(a A) {
		f(a)
		g(a)
	}
}

func join2[A, B any](f, g func(A, B)) func(A, B) {
	switch {
	case f == nil:
		return g
	case g == nil:
		return f
	}
	return func(a A, b B) {
		f(a, b)
		g(a, b)
	}
}

func join3[A, B, C any](f, g func(A, B, C)) func(A, B, C) {
	switch {
	case f == nil:
		return g
	case g == nil:
		return f
	}
	return func(a A, b B, c C) {
		f(a, b, c)
		g(a, b, c)
	}
}
