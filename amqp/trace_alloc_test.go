//go:build !race

package amqp

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// Hooks cost no allocation, neither unset nor set.
func TestTraceAllocatesNothing(t *testing.T) {
	var n struct{ published, confirmed, delivered, settled int }
	for name, trace := range map[string]*Trace{
		"none": nil, "empty": {},
		"counting": {
			Published: func(_ *Channel, i PublishInfo) { n.published += i.Size },
			Confirmed: func(_ *Channel, i ConfirmInfo) { n.confirmed += int(i.Sequence) },
			Delivered: func(_ *Channel, _ *Envelope, size int) { n.delivered += size },
			Settled:   func(_ *Channel, i SettleInfo) { n.settled += int(i.DeliveryTag) },
		},
	} {
		t.Run(name+", publish", func(t *testing.T) {
			onTracedPeer(t, trace, newNullPeer(nil, nil), func(ctx context.Context, ch *Channel) error {
				msg := Message{Body: make([]byte, 16), Properties: Properties{MessageID: "id"}}
				require.Zero(t, perThousand(func() {
					for range 1000 {
						if err := ch.Publish(ctx, "x", "k", msg); err != nil {
							t.Fatal(err)
						}
					}
				}), "allocations per thousand messages")
				return nil
			})
		})
		t.Run(name+", consume", func(t *testing.T) {
			onTracedPeer(t, trace, endlessDeliveries(16), func(ctx context.Context, ch *Channel) error {
				return ch.WithConsumer(ctx, Consume{Tag: "c", Prefetch: -1}, func(c *Consumer) error {
					require.LessOrEqual(t, perThousand(func() { take(t, c, 1000, true) }), 50.0, "allocations per thousand messages")
					return nil
				})
			})
		})
	}
	require.NotZero(t, n.published)
	require.NotZero(t, n.delivered)
	require.NotZero(t, n.settled)
}

func onTracedPeer(t *testing.T, trace *Trace, peer *nullPeer, body func(context.Context, *Channel) error) {
	t.Helper()
	cfg := Config{Trace: trace, Dial: func(context.Context, string, string) (net.Conn, error) { return peer, nil }}
	require.NoError(t, WithChannel(t.Context(), cfg, func(ch *Channel) error { return body(t.Context(), ch) }))
}
