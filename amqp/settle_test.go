package amqp

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

type outcome string

const (
	isAcked    outcome = "acked"
	isNacked   outcome = "nacked"
	isRequeued outcome = "requeued by recover"
)

// settlingBroker applies what a ledger sends by RabbitMQ's rules.
type settlingBroker struct {
	waits   map[uint64]bool    // delivered, and not settled
	settled map[uint64]outcome // for good
	tx      map[uint64]outcome // nil: no transaction
}

func newSettlingBroker() *settlingBroker {
	return &settlingBroker{waits: map[uint64]bool{}, settled: map[uint64]outcome{}}
}

// take applies frames. A tag that the broker does not wait for is RabbitMQ's
// "406 PRECONDITION_FAILED - unknown delivery tag".
func (b *settlingBroker) take(frames []byte) error {
	for len(frames) > 0 {
		h := wire.ParseFrameHeader(frames)
		end := wire.FrameHeaderSize + int(h.Size)
		m, err := wire.DecodeMethod(frames[wire.FrameHeaderSize:end])
		if err != nil {
			return err
		}
		frames = frames[end+1:]
		switch m := m.(type) {
		case *wire.BasicAck:
			err = b.settle(m.DeliveryTag, m.Multiple, isAcked)
		case *wire.BasicNack:
			err = b.settle(m.DeliveryTag, m.Multiple, isNacked)
		}
		if err != nil {
			return fmt.Errorf("%+v: %w", m, err)
		}
	}
	return nil
}

func (b *settlingBroker) settle(tag uint64, multiple bool, how outcome) error {
	if !b.waits[tag] && (!multiple || tag != 0) {
		return fmt.Errorf("406 PRECONDITION_FAILED - unknown delivery tag %d", tag)
	}
	to := b.settled
	if b.tx != nil {
		to = b.tx
	}
	for t := range b.waits {
		if t == tag || multiple && (t < tag || tag == 0) {
			delete(b.waits, t)
			to[t] = how
		}
	}
	return nil
}

func (b *settlingBroker) end(commit bool) {
	for t, how := range b.tx {
		if commit {
			b.settled[t] = how
		} else {
			b.waits[t] = true
		}
	}
	b.tx = nil
}

func (b *settlingBroker) recover() {
	for t := range b.waits {
		b.settled[t] = isRequeued
	}
	clear(b.waits)
}

// settling drives a ledger and its broker, and remembers what the user was
// promised.
type settling struct {
	t      *testing.T
	rnd    *rand.Rand
	ledger ledger
	broker *settlingBroker
	last   uint64             // delivery tag
	open   map[uint64]bool    // what the user may settle
	noAck  map[uint64]bool    // delivered, and never to be settled
	want   map[uint64]outcome // for good, when everything is flushed
	tx     map[uint64]outcome
	log    []string
}

func newSettling(t *testing.T, seed uint64) *settling {
	return &settling{
		t: t, rnd: rand.New(rand.NewPCG(seed, 0)), broker: newSettlingBroker(),
		open: map[uint64]bool{}, noAck: map[uint64]bool{}, want: map[uint64]outcome{},
	}
}

func (s *settling) note(format string, args ...any) {
	s.log = append(s.log, fmt.Sprintf(format, args...))
}

func (s *settling) check(err error) {
	if err != nil {
		s.t.Helper()
		s.t.Fatalf("%v, after:\n%v", err, s.log[max(0, len(s.log)-40):])
	}
}

func (s *settling) send(frames []byte) { s.check(s.broker.take(frames)) }

func (s *settling) flush() {
	s.note("flush")
	s.send(s.ledger.flush(nil, 1))
}

// deliver adds n deliveries of one kind.
func (s *settling) deliver(n int, noAck bool) {
	first := s.last + 1
	s.last += uint64(n)
	s.note("deliver %d-%d noAck=%v", first, s.last, noAck)
	for t := first; t <= s.last; t++ {
		if noAck {
			s.noAck[t] = true
		} else {
			s.open[t], s.broker.waits[t] = true, true
		}
	}
	s.ledger.add(first, s.last, noAck)
}

// promise notes that the user was told that the tags are settled.
func (s *settling) promise(tag uint64, multiple bool, how outcome) {
	to := s.want
	if s.tx != nil {
		to = s.tx
	}
	for t := range s.open {
		if t == tag || multiple && (t < tag || tag == 0) {
			delete(s.open, t)
			to[t] = how
		}
	}
}

// wantErr is the error for a tag that can't be settled.
func (s *settling) wantErr(tag uint64, multiple bool) error {
	switch {
	case s.open[tag] || multiple && tag == 0:
		return nil
	case tag == 0 || tag > s.last:
		return PreconditionFailed
	}
	return ErrAlreadySettled
}

func (s *settling) settle(tag uint64, multiple bool, how outcome) {
	want := s.wantErr(tag, multiple)
	var err error
	switch {
	case how == isNacked:
		var frames []byte
		var last uint64
		frames, last, err = s.ledger.take(nil, 1, tag, multiple)
		if err == nil && last != 0 {
			frames = wire.AppendNack(frames, 1, last, multiple, true)
		}
		s.send(frames)
	case multiple:
		_, err = s.ledger.ackUpTo(tag)
	default:
		_, err = s.ledger.ack(tag)
	}
	s.note("%s %d multiple=%v: %v", how, tag, multiple, err)
	if want != nil || err != nil {
		if !errors.Is(err, want) {
			s.check(fmt.Errorf("got error %w instead of %w", err, want))
		}
		return
	}
	s.promise(tag, multiple, how)
}

// some is an open tag, mostly.
func (s *settling) some() uint64 {
	if len(s.open) == 0 || s.rnd.IntN(20) == 0 {
		return s.rnd.Uint64N(s.last + 3)
	}
	tags := slices.Collect(maps.Keys(s.open))
	switch s.rnd.IntN(3) {
	case 0:
		return slices.Min(tags)
	case 1:
		return slices.Max(tags)
	}
	slices.Sort(tags)
	return tags[s.rnd.IntN(len(tags))]
}

func (s *settling) beginTx() {
	s.flush()
	s.note("begin")
	s.broker.tx, s.tx = map[uint64]outcome{}, map[uint64]outcome{}
	s.ledger.begin()
}

func (s *settling) endTx(commit bool) {
	s.flush()
	s.note("end commit=%v", commit)
	s.broker.end(commit)
	for t, how := range s.tx {
		if commit {
			s.want[t] = how
		} else {
			s.open[t] = true
		}
	}
	s.tx = nil
	s.ledger.end(commit)
	_, err := s.ledger.ack(s.some())
	if !errors.Is(err, errOutsideTx) {
		s.check(fmt.Errorf("outside of a transaction: %w", err))
	}
	s.ledger.begin() // the model never stays outside of one
	s.broker.tx, s.tx = map[uint64]outcome{}, map[uint64]outcome{}
}

func (s *settling) recover() {
	s.flush()
	s.note("recover")
	s.ledger.recall()
	if s.rnd.IntN(2) == 0 {
		s.deliver(1+s.rnd.IntN(3), false) // on its way when the broker takes everything back
	}
	for _, err := range []error{
		second(s.ledger.ack(s.last)), second(s.ledger.ackUpTo(s.last)), third(s.ledger.take(nil, 1, s.last, false)),
	} {
		if s.last > 0 && !errors.Is(err, ErrAlreadySettled) {
			s.check(fmt.Errorf("during recover: %w", err))
		}
	}
	s.flush()
	s.broker.recover()
	for t := range s.open {
		s.want[t] = isRequeued
	}
	clear(s.open)
	if got := s.ledger.void(); got != s.last {
		s.check(fmt.Errorf("void up to %d instead of %d", got, s.last))
	}
}

func second[A any](_ A, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }

// finish flushes and compares.
func (s *settling) finish() {
	s.t.Helper()
	if s.tx != nil {
		s.endTx(true)
	}
	s.flush()
	require.Equal(s.t, len(s.open), s.ledger.unsettled())
	require.Equal(s.t, s.open, s.broker.waits)
	require.Equal(s.t, s.want, s.broker.settled)
}

// Whatever the order of deliveries and settlements, the broker ends up with
// what the user was promised, and is never sent a tag that it does not wait for.
func TestLedgerAgainstABroker(t *testing.T) {
	for seed := range uint64(400) {
		s := newSettling(t, seed)
		transacted, inOrder := seed%5 == 0, s.rnd.IntN(3)
		for range 400 {
			switch n := s.rnd.IntN(100); {
			case n < 25:
				s.deliver(1+s.rnd.IntN(8), s.rnd.IntN(4) == 0)
			case n < 55+10*inOrder:
				s.settle(s.some(), false, isAcked)
			case n < 82:
				s.settle(s.some(), false, isNacked)
			case n < 86:
				s.settle(s.some(), true, isAcked)
			case n < 88:
				s.settle(s.some(), true, isNacked)
			case n < 89:
				s.settle(0, true, []outcome{isAcked, isNacked}[s.rnd.IntN(2)])
			case n < 90:
				s.recover()
			case n < 93 && transacted && s.tx == nil:
				s.beginTx()
			case n < 93 && transacted:
				s.endTx(s.rnd.IntN(2) == 0)
			default:
				s.flush()
			}
		}
		s.finish()
	}
}

// The same with a few deliveries that stay open while thousands come and go, so
// that the window moves on without them.
func TestLedgerWithOldDeliveries(t *testing.T) {
	for seed := range uint64(4) {
		s := newSettling(t, seed)
		stuck := map[uint64]bool{}
		for s.last < 10*sparse {
			first := s.last + 1
			s.deliver(1+s.rnd.IntN(200), false)
			if s.rnd.IntN(30) == 0 {
				s.deliver(3, true)
			}
			tags := slices.Sorted(maps.Keys(s.open))
			if s.rnd.IntN(2) == 0 {
				s.rnd.Shuffle(len(tags), func(i, j int) { tags[i], tags[j] = tags[j], tags[i] })
			}
			for _, tag := range tags {
				switch {
				case !s.open[tag]: // settled by a multiple one
				case stuck[tag]:
					if s.rnd.IntN(200) == 0 {
						s.settle(tag, s.rnd.IntN(8) == 0, []outcome{isAcked, isNacked}[s.rnd.IntN(2)])
					}
				case tag >= first && s.rnd.IntN(300) == 0:
					stuck[tag] = true
				default:
					s.settle(tag, false, isAcked)
				}
				if s.rnd.IntN(100) == 0 {
					s.flush()
				}
			}
		}
		if seed%2 == 0 {
			s.settle(0, true, isAcked)
		} else {
			for _, tag := range slices.Sorted(maps.Keys(s.open)) {
				s.settle(tag, false, isAcked)
			}
		}
		require.NotNil(t, s.ledger.win.old)
		s.finish()
	}
}

// An acknowledgement out of order, of a delivery that was left behind, is not
// dropped when the next one in order is the only other.
func TestAnOldAckIsSentWithTheNext(t *testing.T) {
	s := newSettling(t, 0)
	s.deliver(1, false)
	for s.ledger.win.base < 2 {
		s.deliver(1, false)
		s.settle(s.last, false, isAcked)
	}
	s.settle(1, false, isAcked)
	s.deliver(1, false)
	s.settle(s.last, false, isAcked)
	s.finish()
}

// RabbitMQ counts every delivery of a channel, but a ledger must not trip over
// numbers that are left out.
func TestLedgerWithGapsBetweenTags(t *testing.T) {
	for seed := range uint64(200) {
		s := newSettling(t, seed)
		for range 300 {
			switch n := s.rnd.IntN(100); {
			case n < 4:
				s.last += s.rnd.Uint64N(50)
			case n < 35:
				s.deliver(1+s.rnd.IntN(4), s.rnd.IntN(5) == 0)
			case n < 80 && len(s.open) > 0:
				s.settle(slices.Collect(maps.Keys(s.open))[0], s.rnd.IntN(10) == 0, isAcked)
			case n < 85 && len(s.open) > 0:
				s.settle(slices.Collect(maps.Keys(s.open))[0], s.rnd.IntN(10) == 0, isNacked)
			default:
				s.flush()
			}
		}
		s.finish()
	}
}

func TestAcksMerge(t *testing.T) {
	var l ledger
	l.add(1, 100, false)
	for tag := uint64(1); tag <= 50; tag++ {
		tell, err := l.ack(tag)
		require.NoError(t, err)
		require.Equal(t, tag == 1, tell, "the writer is told once")
	}
	assert.Equal(t, wire.AppendAck(nil, 7, 50, true), l.flush(nil, 7))
	assert.Empty(t, l.flush(nil, 7))
	tell, err := l.ack(51)
	require.NoError(t, err)
	assert.True(t, tell, "and again after a flush")
	assert.Equal(t, wire.AppendAck(nil, 7, 51, false), l.flush(nil, 7), "one ack is a single one")
	// 52 is missing.
	for _, tag := range []uint64{53, 55, 54} {
		_, err := l.ack(tag)
		require.NoError(t, err)
	}
	_, err = l.ack(52)
	require.NoError(t, err)
	assert.Equal(t, wire.AppendAck(nil, 7, 55, true), l.flush(nil, 7), "the gap has closed before the flush")
}

func TestAFailedLedgerSettlesNothing(t *testing.T) {
	var l ledger
	l.add(1, 3, false)
	l.fail(ErrChannelClosed)
	_, err := l.ack(1)
	require.Equal(t, ErrChannelClosed, err)
	_, err = l.ackUpTo(0)
	require.Equal(t, ErrChannelClosed, err)
	_, _, err = l.take(nil, 1, 2, false)
	require.Equal(t, ErrChannelClosed, err)
	_, _, err = l.take(nil, 1, 0, true)
	require.Equal(t, ErrChannelClosed, err)
	l.end(false)
	l.begin()
	_, err = l.ack(1)
	require.Equal(t, ErrChannelClosed, err)
}

// One delivery that nobody settles costs one entry, and not one for each that
// comes after it.
func TestAStuckDeliveryCostsLittle(t *testing.T) {
	var l ledger
	l.add(1, 1, false)
	before := heap()
	var frames []byte
	for tag := uint64(2); tag < 500_000; tag++ {
		l.add(tag, tag, false)
		_, err := l.ack(tag)
		require.NoError(t, err)
		if tag%64 == 0 {
			frames = l.flush(frames[:0], 1)
		}
	}
	assert.LessOrEqual(t, len(l.win.ring), 2*sparse)
	assert.Len(t, l.win.old, 1)
	assert.Less(t, heap()-before, int64(1<<20))
	_, err := l.ack(1)
	require.NoError(t, err)
	assert.Zero(t, l.unsettled())
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Many goroutines settle at once while the writer flushes: what the broker gets
// makes sense in the order in which it was appended.
func TestLedgerUnderConcurrency(t *testing.T) {
	const total, workers = 4000, 8
	var l ledger
	broker := newSettlingBroker()
	var wire sync.Mutex // stands for the writer's lock
	var frames []byte
	tags := make(chan uint64, 64)
	var all sync.WaitGroup
	var mu sync.Mutex
	want := map[uint64]outcome{}
	for i := range workers {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(3, uint64(i)))
			for tag := range tags {
				_, never := l.ack(total * 2)
				assert.ErrorIs(t, never, PreconditionFailed)
				how := isAcked
				if rnd.IntN(5) > 0 {
					_, err := l.ack(tag)
					assert.NoError(t, err)
				} else {
					how = isNacked
					wire.Lock()
					frames = nackFrames(t, &l, frames, tag)
					wire.Unlock()
				}
				mu.Lock()
				want[tag] = how
				mu.Unlock()
				if rnd.IntN(10) == 0 {
					wire.Lock()
					frames = l.flush(frames, 1)
					wire.Unlock()
				}
			}
		})
	}
	for tag := uint64(1); tag <= total; tag++ {
		broker.waits[tag] = true
		l.add(tag, tag, false)
		tags <- tag
	}
	close(tags)
	all.Wait()
	frames = l.flush(frames, 1)
	require.NoError(t, broker.take(frames))
	require.Empty(t, broker.waits)
	require.Equal(t, want, broker.settled)
}

// A multiple nack settles what is not settled, also when acknowledgements come
// in at the same time.
func TestMultipleNacksRaceWithAcks(t *testing.T) {
	const rounds = 2000
	for range rounds {
		var l ledger
		broker := newSettlingBroker()
		l.add(1, 4, false)
		for tag := uint64(1); tag <= 4; tag++ {
			broker.waits[tag] = true
		}
		var acked error
		var all sync.WaitGroup
		all.Go(func() { _, acked = l.ack(1) })
		frames, last, err := l.take(nil, 1, 3, true)
		require.NoError(t, err)
		frames = wire.AppendNack(frames, 1, last, true, true)
		all.Wait()
		frames = l.flush(frames, 1)
		require.NoError(t, broker.take(frames))
		if acked == nil {
			require.Equal(t, isAcked, broker.settled[1])
		} else {
			require.Equal(t, isNacked, broker.settled[1])
		}
	}
}

func nackFrames(t *testing.T, l *ledger, frames []byte, tag uint64) []byte {
	frames, last, err := l.take(frames, 1, tag, false)
	assert.NoError(t, err)
	return wire.AppendNack(frames, 1, last, false, true)
}

// Whoever has heard of the exception can settle nothing any more, and is not told that it worked: the ledger ends before
// any call does.
func TestALineEndsWithItsLedger(t *testing.T) {
	ch := new(Channel)
	ch.line.ledger = &ch.ledger
	ch.ledger.add(1, 1, false)
	require.True(t, ch.line.fail(NotFound, 0))
	_, err := ch.ledger.ack(1)
	require.ErrorIs(t, err, NotFound)
	require.False(t, ch.line.fail(AccessRefused, 0), "the first cause counts")
	_, err = ch.ledger.ack(1)
	require.ErrorIs(t, err, NotFound)
}
