//go:build !race

package amqp

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// perThousand is how many allocations a thousand operations cost. do runs them;
// testing.AllocsPerRun rounds down, so it has to run many.
func perThousand(do func()) float64 {
	const warm, runs = 100, 100
	for range warm { // until the buffers have their size
		do()
	}
	return testing.AllocsPerRun(runs, do)
}

// onNullPeer runs body on a channel of a connection to peer.
func onNullPeer(t testing.TB, peer *nullPeer, body func(context.Context, *Channel) error) {
	t.Helper()
	ctx := t.Context()
	cfg := Config{Dial: func(context.Context, string, string) (net.Conn, error) { return peer, nil }}
	require.NoError(t, WithChannel(ctx, cfg, func(ch *Channel) error { return body(ctx, ch) }))
}

func TestPublishAllocatesNothing(t *testing.T) {
	msg := Message{Body: make([]byte, 16), Properties: Properties{ContentType: "text/plain", MessageID: "id", Headers: Table{"k": "v"}}}
	onNullPeer(t, newNullPeer(nil, nil), func(ctx context.Context, ch *Channel) error {
		n := perThousand(func() {
			for range 1000 {
				if err := ch.Publish(ctx, "x", "k", msg); err != nil {
					t.Fatal(err)
				}
			}
		})
		require.Zero(t, n, "allocations per thousand messages")
		return nil
	})
}

func TestConfirmedPublishAllocatesNothing(t *testing.T) {
	msg := Message{Body: make([]byte, 16)}
	onNullPeer(t, newNullPeer(nil, nil), func(ctx context.Context, ch *Channel) error {
		err := ch.WithPublisher(ctx, PublisherOptions{MaxInFlight: 1000}, func(p *Publisher) error {
			for _, keys := range [][]string{{"k"}, {"j", "k"}} {
				n := perThousand(func() {
					for i := range 1000 {
						if _, err := p.Publish(ctx, "x", keys[i%len(keys)], msg); err != nil {
							t.Fatal(err)
						}
					}
					if err := p.Wait(ctx); err != nil {
						t.Fatal(err)
					}
				})
				// The barrier and waits for a confirm allocate; a message does not.
				require.LessOrEqual(t, n, 10.0, "allocations per thousand messages with keys %q", keys)
			}
			return nil
		})
		require.NoError(t, err)
		n := perThousand(func() {
			for range 1000 {
				if err := ch.Publish(ctx, "x", "k", msg); err != nil {
					t.Fatal(err)
				}
			}
		})
		require.LessOrEqual(t, n, 10.0, "allocations per thousand messages, one at a time")
		return nil
	})
}

func TestConsumeAllocatesLittle(t *testing.T) {
	for name, c := range map[string]struct {
		size, most int
		ack        bool
	}{
		"16 B": {16, 50, false}, "16 B, acknowledged": {16, 50, true}, "1 KiB": {1 << 10, 50, true}, "4 KiB": {4 << 10, 100, true},
	} {
		t.Run(name, func(t *testing.T) {
			onNullPeer(t, endlessDeliveries(c.size), func(ctx context.Context, ch *Channel) error {
				return ch.WithConsumer(ctx, Consume{Tag: "c", Prefetch: -1}, func(cons *Consumer) error {
					n := perThousand(func() { take(t, cons, 1000, c.ack) })
					require.LessOrEqual(t, n, float64(c.most), "allocations per thousand messages")
					return nil
				})
			})
		})
	}
}

func TestAckAllocatesNothing(t *testing.T) {
	var l ledger
	var frames []byte
	tag := uint64(0)
	n := perThousand(func() {
		l.add(tag+1, tag+1000, false)
		for range 1000 {
			tag++
			if _, err := l.ack(tag); err != nil {
				t.Fatal(err)
			}
		}
		frames = l.flush(frames[:0], 1)
	})
	require.Zero(t, n)
}
