//go:build unix

package amqp

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/scope"
)

// Who waits for the confirm of a message does not leave it to the flusher, which may be asleep: here there is none.
func TestWhoWaitsForConfirmsWrites(t *testing.T) {
	for name, wait := range map[string]func(context.Context, *Publisher, Receipt) error{
		"for room": func(ctx context.Context, p *Publisher, _ Receipt) error {
			_, err := p.Publish(ctx, "x", "k", Message{})
			return err
		},
		"for one": func(ctx context.Context, _ *Publisher, r Receipt) error { return r.Wait(ctx) },
		"for all": func(ctx context.Context, p *Publisher, _ Receipt) error { return p.Wait(ctx) },
		"at the end": func(ctx context.Context, p *Publisher, _ Receipt) error {
			return p.finish(ctx, false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := tcpPair(t)
			cfg := new(Config).withDefaults()
			cfg.CloseTimeout = 1
			conn := newConn(&cfg, near, near)
			conn.tuning = Tuning{ChannelMax: 10, FrameMax: readerFrameMax}
			s := scope.Open(t.Context(), nil).Scope()
			ch := &Channel{Scope: s, confirming: true}
			ch.conn, ch.alive = conn, t.Context()
			require.NoError(t, conn.register(ch))
			p := &Publisher{Scope: s, ch: ch, duties: s, opts: PublisherOptions{MaxInFlight: 1}, room: make(chan struct{}, 1)}
			r, err := p.Publish(t.Context(), "x", "k", Message{})
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- wait(ctx, p, r) }()
			_, err = far.Read(make([]byte, 1))
			require.NoError(t, err)
			cancel()
			assert.Error(t, <-done)
		})
	}
}
