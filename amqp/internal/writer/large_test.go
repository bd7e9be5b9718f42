package writer

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const largeSize = 4 << 20 // more than the sockets' buffers hold

// sendLarge appends "<", body in two parts, and ">".
func sendLarge(t testing.TB, w *Writer, body []byte) *Ticket {
	t.Helper()
	buf, err := w.Begin()
	require.NoError(t, err)
	buf = append(buf, '<')
	ticket := new(Ticket)
	w.Large(ticket, buf, body[:len(body)/2])
	buf = append(buf, '|')
	w.Large(ticket, buf, body[len(body)/2:])
	w.Commit(append(buf, '>'))
	return ticket
}

func framed(body []byte) string {
	half := len(body) / 2
	return "<" + string(body[:half]) + "|" + string(body[half:]) + ">"
}

func TestLargeBodiesGoBetweenTheBuffersBytes(t *testing.T) {
	near, far := socketPair(t)
	w := New(near, Options{Limit: 100})
	require.True(t, w.Gathers())
	body := bytes.Repeat([]byte("0123456789abcdef"), largeSize/16)
	say(t, w, "before")
	ticket := sendLarge(t, w, body)
	say(t, w, "after")
	wait := start(w)
	got := make(chan []byte, 1)
	go func() { got <- readAll(far) }()
	ticket.Wait(context.Background())
	clear(body) // written: the caller's again
	w.Close()
	require.NoError(t, wait())
	require.NoError(t, near.CloseWrite())
	assert.Equal(t, "before"+framed(bytes.Repeat([]byte("0123456789abcdef"), largeSize/16))+"after", string(<-got))
}

func TestABodyIsReclaimedBeforeItsWriteBegins(t *testing.T) {
	near, far := socketPair(t)
	w := New(near, Options{Limit: 100})
	body, other := bytes.Repeat([]byte{'x'}, largeSize), bytes.Repeat([]byte{'o'}, 100)
	ticket := sendLarge(t, w, body)
	later := sendLarge(t, w, other)
	want := framed(body) + framed(other)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ticket.Wait(ctx)
	clear(body)
	wait := start(w)
	got := make(chan []byte, 1)
	go func() { got <- readAll(far) }()
	later.Wait(context.Background())
	w.Close()
	require.NoError(t, wait())
	require.NoError(t, near.CloseWrite())
	assert.True(t, want == string(<-got), "the bytes are not those that were sent") //nolint:testifylint // it would print megabytes
}

func TestABodyIsReclaimedWhileItIsWritten(t *testing.T) {
	near, far := socketPair(t)
	before := stuff(near)
	w := New(near, Options{Limit: 100})
	wait := start(w)
	body := bytes.Repeat([]byte("0123456789abcdef"), largeSize/16)
	want := framed(body) + "after"
	ticket := sendLarge(t, w, body)
	until(t, "the write to begin", func() bool { return w.Progress()%2 == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	within(t, "Ticket.Wait", func() any { ticket.Wait(ctx); return nil })
	clear(body)
	say(t, w, "after")
	got := make(chan []byte, 1)
	go func() { got <- readAll(far) }()
	w.Close()
	require.NoError(t, within(t, "Run", wait))
	require.NoError(t, near.CloseWrite())
	assert.True(t, want == string((<-got)[before:]), "the bytes are not those that were sent") //nolint:testifylint // it would print megabytes
}

// What was copied occupies memory, as what is appended does.
func TestReclaimedBodiesCountAgainstTheLimit(t *testing.T) {
	near, _ := socketPair(t)
	w := New(near, Options{Limit: 1000})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	sendLarge(t, w, make([]byte, 2000)).Wait(gone)
	_, err := w.BeginRoom(gone)
	require.ErrorIs(t, err, context.Canceled)
	w.Close()
	require.NoError(t, w.Run())
}

func TestWrittenBodiesCountNoMore(t *testing.T) {
	near, far := socketPair(t)
	got := make(chan []byte, 1)
	go func() { got <- readAll(far) }()
	w := New(near, Options{Limit: 1000})
	wait := start(w)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		sendLarge(t, w, make([]byte, 2000)).Wait(gone)
		buf, err := w.BeginRoom(t.Context())
		require.NoError(t, err)
		w.Commit(buf)
	}
	w.Close()
	require.NoError(t, wait())
	require.NoError(t, near.CloseWrite())
	assert.Len(t, <-got, 20*2003)
}

func TestTicketsEndWithTheWriter(t *testing.T) {
	near, _ := socketPair(t)
	w := New(near, Options{Limit: 100})
	waiting := sendLarge(t, w, make([]byte, 100)) // nobody flushes
	var all sync.WaitGroup
	all.Go(func() { waiting.Wait(context.Background()) })
	w.Fail(errors.New("failed"))
	within(t, "Ticket.Wait", func() any { all.Wait(); return nil })

	near, _ = socketPair(t)
	w = New(near, Options{Limit: 100})
	wait := start(w)
	writing := sendLarge(t, w, make([]byte, largeSize))
	until(t, "the write to begin", func() bool { return w.Progress()%2 == 1 })
	all.Go(func() { writing.Wait(context.Background()) })
	w.Fail(errors.New("failed"))
	require.NoError(t, near.Close())
	within(t, "Ticket.Wait", func() any { all.Wait(); return nil })
	require.Error(t, wait())
}

// A ticket may wake the flusher from a write that is not its own.
func TestATicketThatComesTooLateHarmsNothing(t *testing.T) {
	near, far := socketPair(t)
	before := stuff(near)
	w := New(near, Options{Limit: 100})
	wait := start(w)
	say(t, w, "small")
	until(t, "the write to begin", func() bool { return w.Progress()%2 == 1 })
	// As a ticket does that comes too late, when its own write is over.
	require.NoError(t, near.SetWriteDeadline(time.Unix(1, 0)))
	say(t, w, "next")
	w.Close()
	got := make(chan []byte, 1)
	go func() { got <- readAll(far) }()
	require.NoError(t, within(t, "Run", wait))
	require.NoError(t, near.CloseWrite())
	assert.Equal(t, "smallnext", string((<-got)[before:]))
}

// A peer that takes nothing must not hold up an end for ever.
func TestClosingTheSocketEndsAWrite(t *testing.T) {
	near, _ := socketPair(t)
	stuff(near)
	w := New(near, Options{Limit: 100})
	wait := start(w)
	ticket := sendLarge(t, w, make([]byte, largeSize))
	until(t, "the write to begin", func() bool { return w.Progress()%2 == 1 })
	w.Close()
	require.NoError(t, near.Close())
	require.ErrorIs(t, within(t, "Run", wait), net.ErrClosed)
	ticket.Wait(context.Background())
}
