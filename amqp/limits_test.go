//go:build !race

package amqp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// What docs/limits.md says of memory, measured on the live heap. The race detector would be slow here, and has nothing to
// find.

const mib = 1 << 20

// pools is what a connection keeps, in MiB, while it receives a lot: memory that is filled again, and the reserve.
const pools = 16 + 8

// onLimit runs body on a channel to peer, in a bubble, so that synctest.Wait returns when nothing moves any more.
func onLimit(t *testing.T, peer func() *nullPeer, body func(t *testing.T, p *nullPeer, ch *Channel) error) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := peer()
		cfg := Config{
			Dial:         func(context.Context, string, string) (net.Conn, error) { return p, nil },
			Logger:       slog.New(slog.DiscardHandler),
			CloseTimeout: time.Millisecond, Heartbeat: -1,
		}
		err = WithChannel(t.Context(), cfg, func(ch *Channel) error { return body(t, p, ch) })
	})
	return err
}

// live is how many bytes of the heap are in use.
func live() int64 {
	synctest.Wait()
	finalize()
	finalize() // what was kept by what the first one let go of
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// finalize collects garbage until the finalizers of what was found have run, which they do in turn and in their own time.
func finalize() {
	var last atomic.Bool
	runtime.SetFinalizer(new([64]byte), func(*[64]byte) { last.Store(true) })
	for !last.Load() {
		runtime.GC()
		runtime.Gosched()
	}
}

// requireMost checks what the heap has grown by since before.
func requireMost(t *testing.T, before int64, most float64) {
	t.Helper()
	grown := float64(live()-before) / mib
	t.Logf("%.2f MiB, of %.2f MiB at most", grown, most)
	require.LessOrEqual(t, grown, most, "MiB")
}

// A consumer without a prefetch that takes nothing: bytes bound what is buffered, whatever the size of the messages. Up to
// 4 MiB of what is measured are the peer's.
func TestLimitOfASlowConsumer(t *testing.T) {
	// One processor runs the reader for long after the answer to basic.consume, before it runs the caller.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for name, c := range map[string]struct {
		size  int
		opts  Consume
		takes int
		most  float64
	}{
		"no-ack, small":      {16, Consume{NoAck: true}, 0, 6},
		"no-ack":             {1 << 10, Consume{NoAck: true}, 0, 6},
		"no-ack, large":      {16 << 10, Consume{NoAck: true}, 0, 8},
		"without a prefetch": {1 << 10, Consume{Prefetch: -1}, 0, 6},
		// A range holds what it has taken over, while as much comes in.
		"after the first message": {1 << 10, Consume{NoAck: true}, 1, 8},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, onLimit(t, func() *nullPeer { return endlessDeliveries(c.size) }, func(t *testing.T, p *nullPeer, ch *Channel) error {
				before := live()
				c.opts.Tag = "c"
				// While somebody waits for an answer, and be it already there, the reader goes on.
				p.set(func(p *nullPeer) { p.held = true })
				return ch.WithConsumer(t.Context(), c.opts, func(cons *Consumer) error {
					p.set(func(p *nullPeer) { p.held = false })
					synctest.Wait()
					require.True(t, ch.conn.paused.Load(), "the reader holds back")
					if c.takes > 0 {
						take(t, cons, c.takes, false)
						synctest.Wait()
						require.True(t, ch.conn.paused.Load(), "the reader holds back again")
					}
					// What is kept to be filled again, and the reserve, are bounds of their own.
					ch.conn.bytes.Close()
					ch.conn.in.reserve.Release()
					requireMost(t, before, c.most)
					return nil
				})
			}))
		})
	}
}

// While a call waits for its answer the reader goes on, since the answer comes behind the messages, but not for ever.
func TestLimitOfASlowConsumerBesideACall(t *testing.T) {
	var seen int64
	err := onLimit(t, func() *nullPeer { return endlessDeliveries(16 << 10) }, func(t *testing.T, _ *nullPeer, ch *Channel) error {
		require.EqualValues(t, 384*mib, ch.conn.unreadBound)
		ch.conn.unreadBound = 32 * mib
		return ch.WithConsumer(t.Context(), Consume{Tag: "c", NoAck: true}, func(cons *Consumer) error {
			_, err := ch.QueueDeclare(t.Context(), Queue{Name: "never answered"})
			seen = cons.buffered.Load()
			return err
		})
	})
	require.ErrorIs(t, err, ErrSlowConsumer)
	require.ErrorIs(t, err, ErrConnectionClosed)
	assert.ErrorContains(t, err, "Prefetch")
	assert.Greater(t, seen, int64(32*mib))
	assert.Less(t, seen, int64(33*mib))
}

// A million deliveries that the program has taken and not settled cost the client a byte or two each.
func TestLimitOfAMillionUnsettledMessages(t *testing.T) {
	const n = 1 << 20
	var last *Envelope
	require.NoError(t, onLimit(t, func() *nullPeer { return endlessDeliveries(16) }, func(t *testing.T, _ *nullPeer, ch *Channel) error {
		before := live()
		return ch.WithConsumer(t.Context(), Consume{Tag: "c", Prefetch: -1}, func(cons *Consumer) error {
			for _, env := range cons.Messages() {
				if env.DeliveryTag == n {
					last = env
					break
				}
			}
			requireMost(t, before, 2+2*1.5+pools) // the ring, and what waits to be taken
			require.GreaterOrEqual(t, ch.ledger.unsettled(), n)
			require.NoError(t, last.AckUpTo())
			require.Less(t, ch.ledger.unsettled(), n)
			return nil
		})
	}))
}

// A million messages that the broker does not confirm cost 80 bytes each, and the ring that holds them doubles.
func TestLimitOfAMillionUnconfirmedMessages(t *testing.T) {
	const n = 1 << 20
	silent := func() *nullPeer {
		p := newNullPeer(nil, nil)
		p.mute = true
		return p
	}
	require.NoError(t, onLimit(t, silent, func(t *testing.T, p *nullPeer, ch *Channel) error {
		before := live()
		return ch.WithPublisher(t.Context(), PublisherOptions{MaxInFlight: n}, func(pub *Publisher) error {
			for range n {
				if _, err := pub.Publish(t.Context(), "x", "k", Message{Body: make([]byte, 16)}); err != nil {
					return err
				}
			}
			requireMost(t, before, 80+2)
			brief, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := pub.Publish(brief, "x", "k", Message{})
			require.ErrorIs(t, err, context.DeadlineExceeded, "MaxInFlight holds it back")
			p.set(func(p *nullPeer) { p.say(1, &wire.BasicAck{DeliveryTag: n, Multiple: true}) })
			return pub.Wait(t.Context())
		})
	}))
}

// Publishers wait while the broker has an alarm, and while the network takes nothing.
func TestLimitOfPublishersWhoAreNotServed(t *testing.T) {
	for name, c := range map[string]struct {
		stop func(*nullPeer)
		size int
		most float64
	}{
		"an alarm":                   {func(p *nullPeer) { p.say(0, &wire.ConnectionBlocked{Reason: "low on memory"}) }, 64 << 10, 0.5},
		"a network that is stuck":    {func(p *nullPeer) { p.deaf = true }, 16 << 10, 1.5},
		"stuck, with large messages": {func(p *nullPeer) { p.deaf = true }, 4 * mib, 2*4 + 1.5},
	} {
		t.Run(name, func(t *testing.T) {
			body := make([]byte, c.size)
			start := func() *nullPeer { return newNullPeer(nil, nil) }
			require.Error(t, onLimit(t, start, func(t *testing.T, p *nullPeer, ch *Channel) error {
				before := live()
				p.set(c.stop)
				synctest.Wait()
				for range 200 {
					ch.Go(func(ctx context.Context) error {
						for {
							if err := ch.Publish(ctx, "x", "k", Message{Body: body}); err != nil {
								return err
							}
						}
					})
				}
				requireMost(t, before, c.most)
				ch.Cancel(errors.New("over"))
				return nil
			}))
		})
	}
}

// endlessReturns sends n mandatory messages back, from confirm.select on, and confirms each.
func endlessReturns(n int, body []byte) *nullPeer {
	var p *nullPeer
	sent := 0
	p = newNullPeer(nil, func() []byte {
		var b []byte
		for range min(64, n-sent) {
			sent++
			b, _ = wire.AppendMethod(b, 1, &wire.BasicReturn{ReplyCode: 312, ReplyText: "NO_ROUTE", Exchange: "x", RoutingKey: "k"})
			b, _ = wire.AppendContentHeaderWith(b, 1, uint64(len(body)), nil, sequenceHeader, int64(sent))
			b = wire.AppendBody(b, 1, body, readerFrameMax)
			b = wire.AppendAck(b, 1, uint64(sent), false)
		}
		p.feeding = sent < n
		return b
	})
	p.mute = true
	return p
}

// Returned messages that nobody ranges over are kept until there are 4096 of them, or 4 MiB.
func TestLimitOfReturnsThatNobodyReads(t *testing.T) {
	for name, c := range map[string]struct{ n, size, least, kept int }{
		"small": {100_000, 16, 4096, 4096}, "large": {3000, 64 << 10, 60, 64},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, onLimit(t, func() *nullPeer { return endlessReturns(c.n, make([]byte, c.size)) }, func(t *testing.T, p *nullPeer, ch *Channel) error {
				before := live()
				ch.Returns()
				return ch.WithPublisher(t.Context(), PublisherOptions{
					MaxInFlight: c.n, OnFailure: func(*PublishError) error { return nil },
				}, func(pub *Publisher) error {
					for range c.n {
						if _, err := pub.Publish(t.Context(), "x", "k", Message{Mandatory: true}); err != nil {
							return err
						}
					}
					p.set(func(p *nullPeer) { p.feeding = true })
					require.NoError(t, pub.Wait(t.Context()))
					require.EqualValues(t, c.n, ch.conn.Stats().Returned)
					kept := ch.returns.stream.Len()
					require.LessOrEqual(t, kept, c.kept)
					require.GreaterOrEqual(t, kept, c.least)
					// With it what the publisher remembers of failures, for the receipts.
					requireMost(t, before, 6+float64(min(c.n, maxFailures))*700/mib+pools)
					return nil
				})
			}))
		})
	}
}

// A publisher whose OnFailure hangs fails before it has taken all memory.
func TestLimitOfFailuresThatNobodyHears(t *testing.T) {
	const n = 100_000
	err := onLimit(t, func() *nullPeer { return endlessReturns(n, nil) }, func(t *testing.T, p *nullPeer, ch *Channel) error {
		before := live()
		hung := make(chan struct{})
		return ch.WithPublisher(t.Context(), PublisherOptions{
			MaxInFlight: n, OnFailure: func(*PublishError) error { <-hung; return nil },
		}, func(pub *Publisher) error {
			for range n {
				if _, err := pub.Publish(t.Context(), "x", "k", Message{Mandatory: true}); err != nil {
					return err
				}
			}
			p.set(func(p *nullPeer) { p.feeding = true })
			<-pub.Context().Done()
			requireMost(t, before, float64(maxFailures)*700/mib+pools)
			close(hung)
			return nil
		})
	})
	require.ErrorContains(t, err, "65536 failures wait for OnFailure")
}
