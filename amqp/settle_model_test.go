package amqp

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

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
