package amqp

import (
	"iter"
	"log/slog"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/scope"
)

// A connection keeps no range over the alarms that nobody has any more, and loses none that somebody has.
func TestRangesOverAlarmsThatNobodyHasAreForgotten(t *testing.T) {
	require.NoError(t, scope.Run(t.Context(), func(s *scope.Scope) error {
		conn, _ := readerOf(nil)
		conn.Scope = s
		conn.cfg.Logger = slog.New(slog.DiscardHandler)
		var held []iter.Seq2[bool, string]
		for range 20 {
			held = append(held, conn.Blocked())
			for range 1000 {
				conn.Blocked()
			}
			conn.setBlocked(blockedState{true, "low on memory"})
			for range conn.Blocked() { // which begins with the present state
				break
			}
			conn.setBlocked(blockedState{})
			runtime.GC()
		}
		require.Less(t, len(conn.watchers), 5_000, "of 20,000")

		for _, w := range conn.watchers {
			if w := w.Value(); w != nil {
				w.changes.End(nil)
			}
		}
		for i, changes := range held {
			heard := 0
			for range changes {
				heard++
			}
			require.Equal(t, 2*(20-i), heard)
		}
		return nil
	}))
}
