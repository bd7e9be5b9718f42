package writer

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBeginRoomWaitsWhileTheBufferIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		w := New(g, Options{Limit: 4})
		wait := start(w)
		say(t, w, "1234")
		synctest.Wait() // being written: does not count
		buf, err := w.BeginRoom(t.Context())
		require.NoError(t, err)
		w.Commit(append(buf, "5678"...))

		entered := make(chan struct{})
		go func() {
			buf, err := w.BeginRoom(t.Context())
			assert.NoError(t, err)
			close(entered)
			w.Commit(append(buf, "room"...))
		}()
		synctest.Wait()
		select {
		case <-entered:
			t.Fatal("BeginRoom went in although the buffer was full")
		default:
		}
		say(t, w, "!") // what must not wait does not
		g.pass <- struct{}{}
		synctest.Wait()
		<-entered
		g.open()
		w.Close()
		require.NoError(t, wait())
		assert.Equal(t, "12345678!room", g.text())
	})
}

func TestBeginRoomEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("gone")
		g := newGate()
		w := New(g, Options{Limit: 1})
		say(t, w, "full")
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error, 1)
		go func() {
			_, err := w.BeginRoom(ctx)
			result <- err
		}()
		synctest.Wait()
		cancel(gone)
		require.Equal(t, gone, <-result)
		say(t, w, "!") // it did not keep the lock
		assert.Zero(t, w.waiting)
	})
}

// Each of the waiters fills the buffer, so that every write lets one of them go
// on, and whoever misses its baton waits for ever.
func TestNoWakeUpIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		w := New(g, Options{Limit: 1})
		wait := start(w)
		const waiters = 50
		var in atomic.Int32
		var all sync.WaitGroup
		for range waiters {
			all.Go(func() {
				buf, err := w.BeginRoom(t.Context())
				assert.NoError(t, err)
				in.Add(1)
				w.Commit(append(buf, 'x'))
			})
		}
		synctest.Wait()
		for n := range waiters {
			g.pass <- struct{}{}
			synctest.Wait()
			require.GreaterOrEqual(t, int(in.Load()), min(n+2, waiters))
		}
		all.Wait()
		g.open()
		w.Close()
		require.NoError(t, wait())
		assert.Len(t, g.text(), waiters)
	})
}

// A waiter that leaves with the baton in its hand, or aborts, must not keep it.
func TestWaitersThatGiveUpPassTheBatonOn(t *testing.T) {
	w := New(io.Discard, Options{Limit: 8})
	wait := start(w)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for n := range 400 {
				ctx, cancel := context.WithCancel(context.Background())
				if (n+i)%3 == 0 {
					go cancel()
				}
				buf, err := w.BeginRoom(ctx)
				switch {
				case err != nil:
					assert.ErrorIs(t, err, context.Canceled)
				case n%5 == 0:
					w.Abort()
				default:
					w.Commit(append(buf, "12345678"...))
				}
				cancel()
			}
		})
	}
	within(t, "one of those who wait for room", func() any { all.Wait(); return nil })
	w.Close()
	require.NoError(t, wait())
}
