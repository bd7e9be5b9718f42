package amqp_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/scope"
)

// Who ends a Supervise while the broker is down has ended it, and not failed: between two attempts as in the middle of one.
func TestSuperviseEndsOnPurposeInAnOutage(t *testing.T) {
	refused := errors.New("connection refused")
	for name, dial := range map[string]func(context.Context) error{
		"between two attempts": func(context.Context) error { return refused },
		"in the middle of one": func(ctx context.Context) error {
			<-ctx.Done()
			return refused
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.cfg.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return nil, dial(ctx) }
				supervise := func(ctx context.Context) error {
					return amqp.Supervise(ctx, w.cfg, amqp.Retry{}, func(*amqp.Conn) error { return nil })
				}
				require.NoError(w, scope.Run(context.Background(), func(s *scope.Scope) error {
					s.Go(supervise)
					time.Sleep(5 * time.Second)
					s.Cancel(nil)
					return nil
				}))

				shutdown := errors.New("shutting down")
				ctx, cancel := context.WithCancelCause(context.Background())
				time.AfterFunc(5*time.Second, func() { cancel(shutdown) })
				err := supervise(ctx)
				require.ErrorIs(w, err, shutdown)
				require.ErrorContains(w, err, "connection refused", "what it was busy with is told in words")
			})
		})
	}
}
