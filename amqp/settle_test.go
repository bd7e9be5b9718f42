package amqp

import (
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

// As TestLedgerAgainstABroker, with a few deliveries that stay open while thousands come and go, so
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
	require.True(t, ch.fail(NotFound, 0))
	_, err := ch.ledger.ack(1)
	require.ErrorIs(t, err, NotFound)
	require.False(t, ch.fail(AccessRefused, 0), "the first cause counts")
	_, err = ch.ledger.ack(1)
	require.ErrorIs(t, err, NotFound)
}
