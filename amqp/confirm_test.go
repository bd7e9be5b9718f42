package amqp

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var testWaiters waiterPool

// promised is a message of a model of confirms.
type promised struct {
	returned bool
	waiters  []*waiter
	pub      *Publisher
}

// confirming drives confirms beside a model.
type confirming struct {
	t        *testing.T
	rnd      *rand.Rand
	confirms confirms
	last     uint64
	open     map[uint64]*promised
	stuck    map[uint64]bool
	pubs     [2]*Publisher
	inFlight map[*Publisher]int
	failed   map[*Publisher]map[uint64]error
	barriers map[<-chan struct{}]uint64
	log      []string
}

func newConfirming(t *testing.T, seed uint64) *confirming {
	c := &confirming{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), open: map[uint64]*promised{}, stuck: map[uint64]bool{},
		inFlight: map[*Publisher]int{}, failed: map[*Publisher]map[uint64]error{}, barriers: map[<-chan struct{}]uint64{},
	}
	for i := range c.pubs {
		// One that seems to be telling already only queues.
		c.pubs[i] = &Publisher{
			room: make(chan struct{}, 1), calling: make(chan struct{}),
			opts: PublisherOptions{MaxInFlight: 1 << 30, OnFailure: func(*PublishError) error { return nil }},
		}
		c.failed[c.pubs[i]] = map[uint64]error{}
	}
	return c
}

func (c *confirming) note(format string, args ...any) {
	c.log = append(c.log, fmt.Sprintf(format, args...))
}

func (c *confirming) check(ok bool, format string, args ...any) {
	if !ok {
		c.t.Helper()
		c.t.Fatalf("%s, after:\n%v", fmt.Sprintf(format, args...), c.log[max(0, len(c.log)-30):])
	}
}

func (c *confirming) publish() {
	p := &promised{}
	m := unconfirmed{route: &route{"x", "k"}}
	switch c.rnd.IntN(3) {
	case 0:
		m.waiter = testWaiters.get()
		p.waiters = append(p.waiters, m.waiter)
	case 1:
		m.pub = c.pubs[c.rnd.IntN(2)]
		p.pub = m.pub
		c.inFlight[p.pub]++
	}
	c.check(c.confirms.upcoming() == c.last+1, "upcoming")
	c.last++
	n := c.confirms.add(&m)
	c.check(n == c.last, "message %d got number %d", c.last, n)
	c.open[n] = p
	c.note("publish %d", n)
}

// settle tells the model, and looks whether those who wait were told.
func (c *confirming) settle(n uint64, want error) {
	p := c.open[n]
	delete(c.open, n)
	if want == nil && p.returned {
		want = ErrReturned
	}
	if p.returned && errors.Is(want, ErrNacked) {
		want = ErrReturned
	}
	c.checkTold(n, p.waiters, want)
	if p.pub != nil {
		c.inFlight[p.pub]--
		if want != nil {
			c.failed[p.pub][n] = want
		}
	}
}

func (c *confirming) checkTold(n uint64, waiters []*waiter, want error) {
	for _, w := range waiters {
		select {
		case got := <-w.outcome:
			c.checkOutcome(n, got, want)
			testWaiters.put(w)
		default:
			c.check(false, "nobody told the waiter of %d", n)
		}
	}
}

func (c *confirming) checkOutcome(n uint64, got, want error) {
	if want == nil {
		c.check(got == nil, "message %d: %v", n, got)
		return
	}
	var failed *PublishError
	c.check(errors.As(got, &failed) && errors.Is(got, want), "message %d: %v instead of %v", n, got, want)
	c.check(failed.Sequence == n && failed.Exchange == "x" && failed.RoutingKey == "k", "message %d: %+v", n, failed)
	c.check((failed.Return != nil) == errors.Is(want, ErrReturned) || errors.Is(want, ErrUnconfirmed), "message %d: %+v", n, failed)
}

func (c *confirming) confirm(tag uint64, multiple, ack bool) {
	c.note("confirm %d multiple=%v ack=%v", tag, multiple, ack)
	var hit []uint64
	for n := range c.open {
		if n == tag || multiple && (n < tag || tag == 0) {
			hit = append(hit, n)
		}
	}
	err := c.confirms.confirm(tag, multiple, ack)
	if len(hit) == 0 || tag > c.last {
		c.check(errors.Is(err, ErrProtocol), "confirm of %d: %v", tag, err)
		return
	}
	c.check(err == nil, "confirm of %d: %v", tag, err)
	for _, n := range hit {
		if ack {
			c.settle(n, nil)
		} else {
			c.settle(n, ErrNacked)
		}
	}
	c.checkBarriers()
}

func (c *confirming) checkBarriers() {
	for done, upTo := range c.barriers {
		want := true
		for n := range c.open {
			want = want && n > upTo
		}
		select {
		case <-done:
			c.check(want, "the barrier up to %d has opened early", upTo)
			delete(c.barriers, done)
		default:
			c.check(!want, "the barrier up to %d has not opened", upTo)
		}
	}
}

func (c *confirming) some() uint64 {
	if len(c.open) == 0 || c.rnd.IntN(40) == 0 {
		return c.rnd.Uint64N(c.last + 3)
	}
	all := slices.DeleteFunc(slices.Sorted(maps.Keys(c.open)), func(n uint64) bool { return c.stuck[n] })
	if len(all) == 0 {
		return c.last + 1
	}
	return all[c.rnd.IntN(len(all))]
}

func (c *confirming) step() {
	switch n := c.rnd.IntN(100); {
	case n < 35:
		c.publish()
	case n < 60:
		c.confirm(c.some(), false, c.rnd.IntN(4) > 0)
	case n < 64 && len(c.stuck) == 0:
		c.confirm(c.some(), true, c.rnd.IntN(4) > 0)
	case n < 65 && len(c.stuck) == 0:
		c.confirm(0, c.rnd.IntN(2) == 0, true)
	case n < 72:
		m := c.some()
		p, ok := c.open[m]
		c.note("return %d", m)
		c.check(c.confirms.returned(m, &Return{ReplyCode: NoRoute}) == ok, "return of %d", m)
		if ok {
			p.returned = true
		}
	case n < 82:
		m, w := c.some(), testWaiters.get()
		p, ok := c.open[m]
		c.note("attach %d", m)
		c.check(c.confirms.attach(new(Publisher), m, w) == ok, "attach to %d", m)
		if ok {
			p.waiters = append(p.waiters, w)
		}
	case n < 92:
		m := c.some()
		if p, ok := c.open[m]; ok && len(p.waiters) > 0 {
			i := c.rnd.IntN(len(p.waiters))
			c.note("detach %d", m)
			c.check(c.confirms.detach(m, p.waiters[i]), "detach from %d", m)
			c.check(!c.confirms.detach(m, p.waiters[i]), "second detach from %d", m)
			p.waiters = slices.Delete(p.waiters, i, i+1)
		}
	case n < 97:
		c.note("barrier %d", c.last)
		c.barriers[c.confirms.barrier()] = c.last
		c.checkBarriers()
	case n < 98:
		c.abandon(c.pubs[c.rnd.IntN(2)])
	}
}

func (c *confirming) abandon(pub *Publisher) {
	c.note("abandon")
	want := map[uint64][]*waiter{}
	for n, p := range c.open {
		if p.pub == pub {
			c.failed[pub][n] = ErrUnconfirmed
			want[n] = p.waiters
			p.pub, p.waiters = nil, nil
		}
	}
	c.inFlight[pub] = 0
	c.check(c.confirms.abandon(pub, ErrUnconfirmed) == len(want), "abandoned something else than %d", len(want))
	for n, waiters := range want {
		c.checkTold(n, waiters, ErrUnconfirmed)
	}
}

func (c *confirming) finish() {
	cause := errors.New("the channel has ended")
	told := false
	for _, p := range c.open {
		told = told || len(p.waiters) > 0 || p.pub != nil
	}
	c.check(c.confirms.fail(cause) == told, "told is not %v", told)
	c.check(!c.confirms.fail(cause), "told twice")
	for n := range maps.Clone(c.open) {
		// What came back and was not confirmed is as unknown as the others.
		c.open[n].returned = false
		c.settle(n, ErrUnconfirmed)
	}
	c.checkBarriers()
	c.check(len(c.barriers) == 0, "barriers are left")
	<-c.confirms.barrier()
	for _, p := range c.pubs {
		c.check(p.inFlight() == 0 && c.inFlight[p] == 0, "%d are in flight", p.inFlight())
		c.check(len(p.queue) == len(c.failed[p]), "%d failures instead of %d", len(p.queue), len(c.failed[p]))
		for _, f := range p.queue {
			c.checkOutcome(f.Sequence, f, c.failed[p][f.Sequence])
		}
		for n := uint64(1); n <= c.last; n++ {
			got, want := p.failed.of(n), c.failed[p][n]
			c.check((got == nil) == (want == nil), "receipt of %d says %v", n, got)
		}
	}
}

func TestConfirmsAgainstAModel(t *testing.T) {
	for seed := range uint64(400) {
		c := newConfirming(t, seed)
		for range 500 {
			c.step()
		}
		c.finish()
	}
}

// The same with messages that stay unconfirmed while thousands come and go.
func TestConfirmsWithOldMessages(t *testing.T) {
	for seed := range uint64(3) {
		c := newConfirming(t, seed)
		for c.last < 6*sparse {
			first := c.last + 1
			for range 1 + c.rnd.IntN(20) {
				c.publish()
			}
			for n := first; n <= c.last; n++ {
				switch c.rnd.IntN(200) {
				case 0:
					c.stuck[n] = true
				case 1:
					c.step()
					if c.open[n] != nil && !c.stuck[n] {
						c.confirm(n, false, true)
					}
				default:
					if c.open[n] != nil {
						c.confirm(n, false, c.rnd.IntN(3) > 0)
					}
				}
			}
			if c.rnd.IntN(200) == 0 {
				for n := range c.stuck { // any
					c.confirm(n, false, true)
					delete(c.stuck, n)
					break
				}
			}
		}
		require.NotEmpty(t, c.confirms.win.old)
		clear(c.stuck)
		if seed == 0 {
			c.confirm(0, true, true)
		} else {
			c.confirm(c.last-5, true, false)
		}
		c.finish()
	}
}

func TestConfirmsOfWhatWasNeverPublished(t *testing.T) {
	var c confirms
	for _, multiple := range []bool{false, true} {
		for _, tag := range []uint64{0, 1, 1 << 63} {
			require.ErrorIs(t, c.confirm(tag, multiple, true), ErrProtocol, "tag %d", tag)
		}
	}
	assert.False(t, c.returned(0, &Return{}))
	assert.False(t, c.returned(1<<63, &Return{}))
	<-c.barrier()
}

// Waiters come and go while confirms arrive: each is told once, or has left.
func TestWaitersRaceWithConfirms(t *testing.T) {
	var c confirms
	const messages, waiters = 2000, 4
	for range messages {
		c.add(&unconfirmed{route: &route{}})
	}
	var all sync.WaitGroup
	for i := range waiters {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(5, uint64(i)))
			for n := uint64(1); n <= messages; n++ {
				w := testWaiters.get()
				if !c.attach(new(Publisher), n, w) {
					testWaiters.put(w)
					continue
				}
				if rnd.IntN(2) == 0 && c.detach(n, w) {
					assert.Empty(t, w.outcome)
				} else {
					assert.NoError(t, <-w.outcome)
				}
				testWaiters.put(w)
			}
		})
	}
	for n := uint64(1); n <= messages; n += 4 {
		require.NoError(t, c.confirm(n+2, false, true))
		require.NoError(t, c.confirm(n+3, true, true))
	}
	all.Wait()
	<-c.barrier()
}

// Messages in a row that go the same way share their route, and a connection that sends nothing keeps none.
func TestRoutesAreSharedAndForgotten(t *testing.T) {
	conn, consumers := readerOf(nil)
	ch := consumers[0].ch
	one := ch.routed("x", "k")
	require.Same(t, one, ch.routed("x", "k"))
	other := ch.routed("x", "j")
	require.Equal(t, route{"x", "k"}, *one)
	require.Equal(t, route{"x", "j"}, *other)
	require.NotSame(t, one, ch.routed("x", "k"))
	require.NotZero(t, conn.routes)
	var p pulse
	p.look(conn)
	p.look(conn)
	require.Zero(t, conn.routes)
}
