package writer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWritesWhatCameMeanwhileAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		w := New(g, Options{Limit: 100})
		wait := start(w)
		say(t, w, "a")
		synctest.Wait()
		for _, s := range []string{"b", "c", "d"} {
			say(t, w, s)
		}
		g.open()
		w.Close()
		require.NoError(t, wait())
		assert.Equal(t, "abcd", g.text())
		assert.Equal(t, 2, g.writes)
	})
}

func TestAbortAppendsNothing(t *testing.T) {
	g := newGate()
	g.open()
	w := New(g, Options{Limit: 100})
	say(t, w, "a")
	buf, err := w.Begin()
	require.NoError(t, err)
	_ = append(buf, "never"...)
	w.Abort()
	say(t, w, "b")
	w.Close()
	require.NoError(t, w.Run())
	assert.Equal(t, "ab", g.text())
}

func TestCloseWritesWhatIsBuffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		w := New(g, Options{Limit: 1})
		wait := start(w)
		say(t, w, "first")
		synctest.Wait() // the flusher writes it
		say(t, w, "second")
		room := make(chan error, 1)
		go func() {
			_, err := w.BeginRoom(t.Context())
			room <- err
		}()
		synctest.Wait()
		w.Close()
		w.Close() // twice is once
		_, err := w.Begin()
		require.ErrorIs(t, err, ErrClosed)
		_, err = w.BeginRoom(t.Context())
		require.ErrorIs(t, err, ErrClosed)
		g.open()
		require.NoError(t, wait())
		require.ErrorIs(t, <-room, ErrClosed)
		assert.Equal(t, "firstsecond", g.text())
		_, err = w.Begin()
		require.ErrorIs(t, err, ErrClosed)
	})
}

func TestCloseOfAnIdleWriter(t *testing.T) {
	w := New(io.Discard, Options{Limit: 1})
	wait := start(w)
	w.Close()
	require.NoError(t, within(t, "Run", wait))
}

func TestFailDropsWhatIsBuffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := errors.New("first"), errors.New("second")
		g := newGate()
		w := New(g, Options{Limit: 1})
		say(t, w, "lost")
		room := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := w.BeginRoom(t.Context())
				room <- err
			}()
		}
		synctest.Wait()
		w.Fail(first)
		w.Fail(second)
		w.Close()
		require.Equal(t, first, w.Run())
		require.Equal(t, first, <-room)
		require.Equal(t, first, <-room)
		_, err := w.Begin()
		require.Equal(t, first, err)
		assert.Empty(t, g.text())
	})
}

func TestAFailedWriteFailsTheWriter(t *testing.T) {
	broken := errors.New("broken")
	g := newGate()
	g.err = broken
	g.open()
	w := New(g, Options{Limit: 1})
	say(t, w, "lost")
	require.Equal(t, broken, w.Run())
	_, err := w.Begin()
	require.Equal(t, broken, err)
	_, err = w.BeginRoom(t.Context())
	require.Equal(t, broken, err)
	w.Fail(errors.New("later"))
	_, err = w.Begin()
	require.Equal(t, broken, err)
}

func TestCollectAppendsBeforeEachWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		put := ""
		w := New(g, Options{Limit: 100, Collect: func(dst []byte) []byte {
			dst = append(dst, put...)
			put = ""
			return dst
		}})
		wait := start(w)
		buf, err := w.Begin()
		require.NoError(t, err)
		put = "A" // put off with nothing appended: the kick alone has it written
		w.Commit(buf)
		synctest.Wait()
		g.pass <- struct{}{}
		synctest.Wait()
		assert.Equal(t, "A", g.text())
		buf, err = w.Begin()
		require.NoError(t, err)
		put = "B"
		w.Commit(append(buf, 'x'))
		g.open()
		w.Close()
		require.NoError(t, wait())
		assert.Equal(t, "AxB", g.text())
	})
}

func TestProgressIsOddDuringAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		w := New(g, Options{Limit: 100})
		wait := start(w)
		idle := w.Progress()
		assert.Zero(t, idle%2)
		say(t, w, "a")
		synctest.Wait()
		stuck := w.Progress()
		assert.NotZero(t, stuck%2)
		synctest.Wait()
		assert.Equal(t, stuck, w.Progress())
		g.pass <- struct{}{}
		synctest.Wait()
		assert.Zero(t, w.Progress()%2)
		assert.NotEqual(t, idle, w.Progress())
		say(t, w, "b")
		synctest.Wait()
		assert.NotEqual(t, stuck, w.Progress())
		g.open()
		w.Close()
		require.NoError(t, wait())
	})
}

func TestTrimGivesEmptyBuffersBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		w := New(g, Options{Limit: 1 << 20})
		wait := start(w)
		say(t, w, strings.Repeat("a", 1000))
		synctest.Wait() // one buffer is being written
		say(t, w, strings.Repeat("b", 1000))
		w.Trim() // the other one is filled
		g.pass <- struct{}{}
		synctest.Wait()
		g.pass <- struct{}{}
		synctest.Wait()
		assert.Equal(t, strings.Repeat("a", 1000)+strings.Repeat("b", 1000), g.text())
		w.Trim()
		assert.Zero(t, cap(w.buf)+cap(w.spare))
		g.open()
		w.Close()
		require.NoError(t, wait())
	})
}

func TestBurstsAreNotKept(t *testing.T) {
	g := newGate()
	g.open()
	w := New(g, Options{Limit: 1 << 30})
	say(t, w, strings.Repeat("a", 2*keep))
	w.Close()
	require.NoError(t, w.Run())
	assert.LessOrEqual(t, cap(w.buf)+cap(w.spare), 2*keep)
	assert.Zero(t, cap(w.spare))
}

// Each message is a head of 12 bytes, its writer, its number and its length, and
// a body of its writer's byte. Whatever way they are appended in, they come out
// whole, and those of one writer in order.
func TestMessagesStayWhole(t *testing.T) {
	const authors, each = 8, 300
	type way struct {
		name string
		dial func(t *testing.T) (dst io.Writer, result func() []byte)
	}
	for _, to := range []way{
		{"memory", func(*testing.T) (io.Writer, func() []byte) {
			b := new(bytes.Buffer)
			return b, b.Bytes
		}},
		{"socket", func(t *testing.T) (io.Writer, func() []byte) { return receive(t, socketPair) }},
		{"TCP", func(t *testing.T) (io.Writer, func() []byte) { return receive(t, tcpPair) }},
	} {
		t.Run(to.name, func(t *testing.T) {
			dst, result := to.dial(t)
			w := New(dst, Options{Limit: 4 << 10})
			wait := start(w)
			var all sync.WaitGroup
			for a := range authors {
				all.Go(func() { author(t, w, byte(a), each) })
			}
			all.Wait()
			w.Close()
			require.NoError(t, within(t, "Run", wait))
			checkMessages(t, result(), authors, each)
		})
	}
}

// receive reads at the far end what is written to the near one.
func receive[C net.Conn](t *testing.T, pair func(testing.TB) (C, C)) (io.Writer, func() []byte) {
	near, far := pair(t)
	got := make(chan []byte, 1)
	go func() { got <- readAll(far) }()
	return near, func() []byte {
		require.NoError(t, near.Close())
		return <-got
	}
}

const headSize = 12

func author(t *testing.T, w *Writer, name byte, count int) {
	rnd := rand.New(rand.NewPCG(1, uint64(name)))
	for n := range count {
		body := bytes.Repeat([]byte{name}, rnd.IntN(3000))
		begin := func() ([]byte, error) { return w.Begin() }
		if rnd.IntN(2) == 0 {
			begin = func() ([]byte, error) { return w.BeginRoom(context.Background()) }
		}
		buf, err := begin()
		if !assert.NoError(t, err) {
			return
		}
		if rnd.IntN(20) == 0 {
			w.Abort()
			if buf, err = begin(); !assert.NoError(t, err) {
				return
			}
		}
		buf = binary.BigEndian.AppendUint32(buf, uint32(name))
		buf = binary.BigEndian.AppendUint32(buf, uint32(n))
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(body)))
		switch {
		case w.Gathers() && rnd.IntN(4) == 0:
			ctx, cancel := context.WithCancel(context.Background())
			if rnd.IntN(2) == 0 {
				cancel()
			}
			var ticket Ticket
			half := len(body) / 2
			w.Large(&ticket, buf, body[:half])
			w.Large(&ticket, buf, body[half:])
			w.Commit(buf)
			ticket.Wait(ctx)
			clear(body) // the caller's again
			cancel()
		case rnd.IntN(3) == 0:
			w.CommitAlone(append(buf, body...))
		default:
			w.Commit(append(buf, body...))
		}
	}
}

func checkMessages(t *testing.T, b []byte, authors, each int) {
	t.Helper()
	next := make([]int, authors)
	for len(b) > 0 {
		require.GreaterOrEqual(t, len(b), headSize)
		name, n, size := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
		require.Less(t, int(name), authors)
		require.Equal(t, next[name], int(n), "messages of %d", name)
		next[name]++
		b = b[headSize:]
		require.GreaterOrEqual(t, len(b), int(size))
		require.Equal(t, int(size), bytes.Count(b[:size], []byte{byte(name)}))
		b = b[size:]
	}
	for name, n := range next {
		require.Equal(t, each, n, "messages of %d", name)
	}
}
