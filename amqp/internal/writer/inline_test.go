//go:build unix

package writer

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestALoneCallerWritesItself(t *testing.T) {
	near, far := socketPair(t)
	w := New(near, Options{Limit: 100}) // and nobody flushes
	for _, s := range []string{"one", "two"} {
		buf, err := w.Begin()
		require.NoError(t, err)
		w.CommitAlone(append(buf, s...))
	}
	got := make([]byte, 6)
	_, err := io.ReadFull(far, got)
	require.NoError(t, err)
	assert.Equal(t, "onetwo", string(got))
	assert.Zero(t, w.Progress()%2)
}

func TestACallerWhoIsNotAloneLeavesItToTheFlusher(t *testing.T) {
	near, far := socketPair(t)
	w := New(near, Options{Limit: 100})
	say(t, w, "one")
	buf, err := w.Begin()
	require.NoError(t, err)
	w.CommitAlone(append(buf, "two"...))
	assert.Equal(t, "onetwo", string(w.buf))
	w.Close()
	require.NoError(t, w.Run())
	require.NoError(t, near.Close())
	assert.Equal(t, "onetwo", string(readAll(far)))
}

func TestALoneCallerDoesNotWaitForTheSocket(t *testing.T) {
	near, far := socketPair(t)
	before := stuff(near)
	w := New(near, Options{Limit: 1 << 20})
	big := strings.Repeat("x", 100<<10)
	buf, err := w.Begin()
	require.NoError(t, err)
	within(t, "CommitAlone", func() any { w.CommitAlone(append(buf, big...)); return nil })
	say(t, w, "y")
	buf, err = w.Begin()
	require.NoError(t, err)
	w.CommitAlone(append(buf, 'z'))
	wait := start(w)
	w.Close()
	got := make(chan []byte, 1)
	go func() { got <- readAll(far) }()
	require.NoError(t, within(t, "Run", wait))
	require.NoError(t, near.CloseWrite())
	assert.Equal(t, big+"yz", string((<-got)[before:]))
}

func TestWhoFillsTheBufferWritesIt(t *testing.T) {
	near, far := socketPair(t)
	put := "put off"
	w := New(near, Options{Limit: 1 << 20, Collect: func(dst []byte) []byte {
		dst, put = append(dst, put...), ""
		return dst
	}}) // and nobody flushes
	half := strings.Repeat("x", enough/2)
	got := make(chan []byte, 1)
	go func() {
		b := make([]byte, enough+len("put off"))
		_, _ = io.ReadFull(far, b)
		got <- b
	}()
	say(t, w, half)
	assert.Zero(t, w.Progress())
	say(t, w, half)
	assert.Equal(t, half+half+"put off", string(within(t, "write", func() []byte { return <-got })))
}

func TestWhoFillsTheBufferDoesNotWaitForTheSocket(t *testing.T) {
	near, far := socketPair(t)
	before := stuff(near)
	w := New(near, Options{Limit: 1 << 20})
	big := strings.Repeat("x", enough)
	within(t, "Commit", func() any { say(t, w, big); return nil })
	within(t, "Commit", func() any { say(t, w, big); return nil })
	assert.Len(t, w.rest, enough)
	assert.Len(t, w.buf, enough, "which would overtake the rest")
	wait := start(w)
	w.Close()
	got := make(chan []byte, 1)
	go func() { got <- readAll(far) }()
	require.NoError(t, within(t, "Run", wait))
	require.NoError(t, near.CloseWrite())
	assert.Equal(t, big+big, string((<-got)[before:]))
}

// What comes while the buffer is written may be all that ever comes.
func TestAppendWhileAFullBufferIsWritten(t *testing.T) {
	full := strings.Repeat("x", enough)
	synctest.Test(t, func(t *testing.T) {
		near, far := socketPair(t)
		w := New(near, Options{Limit: 1 << 20})
		wait := start(w)
		w.intercept(func() {
			say(t, w, " more")
			synctest.Wait() // the flusher finds the role taken
		})
		say(t, w, full)
		synctest.Wait()
		buf, err := w.Begin()
		require.NoError(t, err)
		assert.Empty(t, buf, "nobody writes it")
		w.Abort()
		got := make(chan []byte, 1)
		go func() { got <- readAll(far) }()
		w.Close()
		require.NoError(t, wait())
		require.NoError(t, near.Close())
		assert.Equal(t, full+" more", string(<-got))
	})
}

func TestCloseDuringAnInlineWrite(t *testing.T) {
	duringInlineWrite(t, func(w *Writer) {
		w.Close()
		synctest.Wait() // the flusher finds the role taken
	}, "inline")
}

func TestAppendDuringAnInlineWrite(t *testing.T) {
	duringInlineWrite(t, func(w *Writer) {
		buf, _ := w.Begin()
		w.Commit(append(buf, " more"...))
		synctest.Wait()
		buf, _ = w.Begin()
		w.CommitAlone(append(buf, " alone"...))
		w.Close()
	}, "inline more alone")
}

// What Collect would append is announced by a Commit of nothing.
func TestWhatIsPutOffDuringAnInlineWriteIsNotForgotten(t *testing.T) {
	var put []byte
	done := make(chan struct{})
	synctest.Test(t, func(t *testing.T) {
		near, far := socketPair(t)
		w := New(near, Options{Limit: 100, Collect: func(dst []byte) []byte {
			if put != nil {
				close(done)
			}
			dst, put = append(dst, put...), nil
			return dst
		}})
		done = make(chan struct{})
		wait := start(w)
		w.intercept(func() {
			buf, _ := w.Begin()
			put = []byte(" put off")
			w.Commit(buf)
			synctest.Wait() // the flusher was kicked, and found the role taken
		})
		buf, err := w.Begin()
		require.NoError(t, err)
		w.CommitAlone(append(buf, "inline"...))
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Error("nobody collected what was put off")
		}
		w.Close()
		require.NoError(t, wait())
		require.NoError(t, near.Close())
		assert.Equal(t, "inline put off", string(readAll(far)))
	})
}

// intercept has hook called in the middle of the next inline write.
func (w *Writer) intercept(hook func()) {
	write := w.inline.fn
	w.inline.fn = func(fd uintptr) bool {
		w.inline.fn = write
		hook()
		return write(fd)
	}
}

func duringInlineWrite(t *testing.T, hook func(*Writer), want string) {
	synctest.Test(t, func(t *testing.T) {
		near, far := socketPair(t)
		w := New(near, Options{Limit: 100})
		wait := start(w)
		w.intercept(func() { hook(w) })
		buf, err := w.Begin()
		require.NoError(t, err)
		w.CommitAlone(append(buf, "inline"...))
		require.NoError(t, wait())
		require.NoError(t, near.Close())
		assert.Equal(t, want, string(readAll(far)))
	})
}

func TestAnInlineWriteThatFailsIsMetByTheFlusher(t *testing.T) {
	near, _ := socketPair(t)
	w := New(near, Options{Limit: 100})
	require.NoError(t, near.Close())
	buf, err := w.Begin()
	require.NoError(t, err)
	w.CommitAlone(append(buf, "lost"...))
	require.Error(t, within(t, "Run", w.Run))
}

func TestWithoutASocketTheFlusherWrites(t *testing.T) {
	var dst bytes.Buffer
	w := New(&dst, Options{Limit: 100})
	assert.False(t, w.Gathers())
	buf, err := w.Begin()
	require.NoError(t, err)
	w.CommitAlone(append(buf, "x"...))
	assert.Zero(t, dst.Len())
	w.Close()
	require.NoError(t, w.Run())
	assert.Equal(t, "x", dst.String())
}

// putOff is a Collect that appends what is put off.
func putOff(text *string) func([]byte) []byte {
	return func(dst []byte) []byte {
		dst, *text = append(dst, *text...), ""
		return dst
	}
}

func TestFlushWritesItself(t *testing.T) {
	near, far := socketPair(t)
	put := "put off,"
	w := New(near, Options{Limit: 100, Collect: putOff(&put)}) // and nobody flushes
	say(t, w, "said,")
	w.Flush()
	put = "alone"
	w.Flush()
	assert.EqualValues(t, 4, w.Progress(), "two writes")
	require.NoError(t, near.Close())
	assert.Equal(t, "said,put off,alone", string(readAll(far)))
}

func TestFlushWritesNothingWhenThereIsNothing(t *testing.T) {
	near, far := socketPair(t)
	w := New(near, Options{Limit: 100, Collect: func(dst []byte) []byte { return slices.Grow(dst, 100) }})
	w.Flush()
	assert.Zero(t, w.Progress())
	buf, err := w.Begin()
	require.NoError(t, err)
	assert.GreaterOrEqual(t, cap(buf), 100, "Collect's buffer is the one to be filled")
	w.CommitAlone(append(buf, "x"...)) // which writes only if nobody was told to
	require.NoError(t, near.Close())
	assert.Equal(t, "x", string(readAll(far)))
}

func TestFlushLeavesItToTheFlusherWhileSomebodyWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := socketPair(t)
		put := ""
		w := New(near, Options{Limit: 100, Collect: putOff(&put)})
		wait := start(w)
		w.intercept(func() {
			put = " put off"
			w.Flush()
			synctest.Wait() // the flusher finds the role taken
			assert.NotEmpty(t, put)
		})
		buf, err := w.Begin()
		require.NoError(t, err)
		w.CommitAlone(append(buf, "inline"...))
		synctest.Wait()
		assert.Empty(t, put, "nobody writes it")
		w.Close()
		require.NoError(t, wait())
		require.NoError(t, near.Close())
		assert.Equal(t, "inline put off", string(readAll(far)))
	})
}

func TestFlushDoesNotOvertakeARest(t *testing.T) {
	near, far := socketPair(t)
	before := stuff(near)
	w := New(near, Options{Limit: 1 << 20}) // and nobody flushes yet
	big := strings.Repeat("x", enough/2)
	say(t, w, big)
	within(t, "Flush", func() any { w.Flush(); return nil })
	assert.NotEmpty(t, w.rest)
	_, err := io.CopyN(io.Discard, far, int64(before)) // now there would be room
	require.NoError(t, err)
	say(t, w, " more")
	w.Flush()
	assert.Equal(t, " more", string(w.buf))
	got := make(chan []byte, 1)
	go func() { got <- readAll(far) }()
	w.Close()
	require.NoError(t, within(t, "Run", w.Run))
	require.NoError(t, near.Close())
	assert.Equal(t, big+" more", string(<-got))
}

func TestFlushDoesNothingAfterAFailure(t *testing.T) {
	near, _ := socketPair(t)
	put := "put off"
	w := New(near, Options{Limit: 100, Collect: putOff(&put)})
	w.Fail(io.ErrClosedPipe)
	w.Flush()
	assert.Zero(t, w.Progress())
	assert.NotEmpty(t, put)
	_, err := w.Begin() // with the lock held this would hang
	assert.Equal(t, io.ErrClosedPipe, err)
}

func TestWithoutASocketFlushHasTheFlusherWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		put := ""
		w := New(g, Options{Limit: 100, Collect: putOff(&put)})
		wait := start(w)
		synctest.Wait()
		put = "put off"
		w.Flush() // the gate would keep it
		g.open()
		synctest.Wait()
		assert.Equal(t, "put off", g.text())
		w.Close()
		require.NoError(t, wait())
	})
}

// What one write should have depends on what it is made of, unless somebody waits for it.
func TestHowMuchIsWorthAWrite(t *testing.T) {
	for _, c := range []struct {
		size, atLeast int
		waits         bool
	}{
		{16, enough, false}, {1 << 10, enough, false}, {2 << 10, 64 << 10, false}, {8 << 10, plenty, false}, {64 << 10, plenty, false},
		{plenty/2 + 1, enough, false},
		{64 << 10, enough, true},
	} {
		near, far := socketPair(t)
		go func() { _, _ = io.Copy(io.Discard, far) }()
		w := New(near, Options{Limit: 1 << 20}) // and nobody flushes
		put := sayLater
		if c.waits {
			put = say
		}
		buffered := 0
		for w.Progress() == 0 {
			require.Less(t, buffered, c.atLeast)
			put(t, w, strings.Repeat("x", c.size))
			buffered += c.size
		}
		assert.Less(t, buffered-c.size, c.atLeast)
		assert.GreaterOrEqual(t, buffered, c.atLeast)
		require.NoError(t, near.Close())
	}
}
