package amqp

import (
	"log/slog"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A connection may end at the very moment of a look: the timer has fired, and its goroutine has not run yet. On one
// processor it is either still to run, or has ended.
func TestHeartIsStillWhenItHasStopped(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			cfg := Config{Logger: slog.New(slog.DiscardHandler)}
			c := newConn(&cfg, near, near)
			defer c.bytes.Close()
			h := newHeart(c)
			time.Sleep(3 * quietTick)
			h.stop()
			stacks := make([]byte, 1<<16)
			stacks = stacks[:runtime.Stack(stacks, true)]
			require.NotContains(t, string(stacks), "amqp.(*heart).look")
		})
	}
}
