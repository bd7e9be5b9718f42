//go:build unix

package writer

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func sayLater(t testing.TB, w *Writer, text string) {
	t.Helper()
	buf, err := w.Begin()
	require.NoError(t, err)
	w.CommitLater(append(buf, text...))
}

// napOf is how long a nap takes in which what happens happens, and what it finds
// in the buffer then.
func napOf(t *testing.T, happens func(w *Writer)) (took time.Duration, found string) {
	synctest.Test(t, func(t *testing.T) {
		near, _ := socketPair(t) // nobody reads, or time would stand still
		w := New(near, Options{Limit: 1 << 20})
		w.kicked = true // as it is while the flusher is at work
		began := time.Now()
		woken := make(chan struct{})
		go func() {
			if !w.nap() {
				w.mu.Lock()
			}
			took, found = time.Since(began), string(w.buf)
			w.mu.Unlock()
			close(woken)
		}()
		happens(w)
		<-woken
	})
	return took, found
}

// fillUp fills a buffer with small messages.
func fillUp(t *testing.T, w *Writer) {
	for range enough / 1024 {
		sayLater(t, w, strings.Repeat("x", 1024))
	}
}

func TestANapEndsAfterTheFlood(t *testing.T) {
	took, found := napOf(t, func(w *Writer) {
		sayLater(t, w, "before")
		for range 3 {
			time.Sleep(napTime - 1)
			fillUp(t, w)
			sayLater(t, w, "the rest")
		}
	})
	assert.Equal(t, "the rest", found)
	assert.Equal(t, 4*napTime, took)
}

// Who stops right after a nap has begun has to wait for the next one as well, and for no more.
func TestWhatIsLeftLiesForTwoNapsAtMost(t *testing.T) {
	took, found := napOf(t, func(w *Writer) {
		time.Sleep(time.Microsecond)
		fillUp(t, w)
		sayLater(t, w, "the rest")
	})
	assert.Equal(t, "the rest", found)
	assert.Equal(t, 2*napTime, took)
}

func TestWhatEndsANap(t *testing.T) {
	lot := strings.Repeat("x", 16<<20)
	for name, c := range map[string]struct {
		happens func(w *Writer)
		found   string
	}{
		"somebody waits":          {func(w *Writer) { sayLater(t, w, "a"); say(t, w, "b") }, "ab"},
		"somebody will wait":      {func(w *Writer) { sayLater(t, w, "a"); w.inline.raw = nil; w.Hurry() }, "a"},
		"the end":                 {func(w *Writer) { sayLater(t, w, "a"); w.Close() }, "a"},
		"a failure":               {func(w *Writer) { sayLater(t, w, "a"); w.Fail(io.ErrClosedPipe) }, ""},
		"a socket that is full":   {func(w *Writer) { sayLater(t, w, lot) }, ""},
		"a buffer that was full":  {func(w *Writer) { w.inline.raw = nil; fillUp(t, w); w.Hurry() }, lot[:enough]},
		"what came while writing": {func(w *Writer) { w.intercept(func() { fillUp(t, w) }); fillUp(t, w) }, lot[:enough]},
	} {
		t.Run(name, func(t *testing.T) {
			took, found := napOf(t, func(w *Writer) {
				synctest.Wait()
				c.happens(w)
			})
			assert.Zero(t, took)
			assert.Equal(t, c.found, found)
		})
	}
}

func TestWhatKeepsTheFlusherFromNapping(t *testing.T) {
	for name, happens := range map[string]func(w *Writer){
		"somebody waits": func(w *Writer) { w.urgent = true },
		"the end":        func(w *Writer) { w.closing = true },
		"a failure":      func(w *Writer) { w.err = io.ErrClosedPipe },
		"a rest":         func(w *Writer) { w.rest = []byte("rest") },
		"a large body":   func(w *Writer) { w.large = make([]large, 1) },
		"a full buffer":  func(w *Writer) { w.buf = make([]byte, enough) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := New(io.Discard, Options{})
				happens(w)
				began := time.Now()
				assert.Equal(t, name != "somebody waits", w.nap())
				assert.Zero(t, time.Since(began))
				w.mu.TryLock() // it is held, unless somebody waits
				w.mu.Unlock()
			})
		})
	}
}

// Who waits for what was put off until later writes it.
func TestHurryWrites(t *testing.T) {
	near, far := socketPair(t)
	w := New(near, Options{Limit: 100}) // and nobody flushes
	w.Hurry()
	assert.Zero(t, w.Progress(), "there is nothing")
	sayLater(t, w, "later")
	w.Hurry()
	got := make([]byte, 5)
	_, err := io.ReadFull(far, got)
	require.NoError(t, err)
	assert.Equal(t, "later", string(got))
	w.Fail(io.ErrClosedPipe)
	w.Hurry()
}

// In a flood nobody loses anything, and its end is not kept back.
func TestAFlood(t *testing.T) {
	near, far := tcpPair(t)
	w := New(near, Options{Limit: 256 << 10})
	wait := start(w)
	const size, n, publishers = 60, 100_000, 3
	for range publishers {
		go func() {
			for range n {
				buf, err := w.BeginRoom(t.Context())
				if !assert.NoError(t, err) {
					return
				}
				w.CommitLater(append(buf, make([]byte, size)...))
			}
		}()
	}
	got, err := io.CopyN(io.Discard, far, n*size*publishers)
	require.NoError(t, err)
	assert.EqualValues(t, n*size*publishers, got)
	w.Close()
	require.NoError(t, wait())
}

// What is little for large messages does not keep the flusher awake.
func TestTheFlusherNapsWhileLargeMessagesComeTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(io.Discard, Options{})
		w.buf = make([]byte, enough)
		w.last = enough
		began := time.Now()
		assert.True(t, w.nap())
		w.mu.Unlock()
		assert.Equal(t, napTime, time.Since(began))
	})
}
