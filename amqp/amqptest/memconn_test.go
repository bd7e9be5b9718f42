package amqptest

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMemConnCarriesEverything(t *testing.T) {
	a, b := memPipe("a", "b")
	sent := bytes.Repeat([]byte("0123456789"), 100_000) // more than the buffer holds
	go func() {
		_, _ = a.Write(sent)
		_ = a.Close()
	}()
	got, err := io.ReadAll(b)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(sent, got))
	_, err = b.Write([]byte("x"))
	require.ErrorIs(t, err, errBrokenPipe)
}

func TestMemConnBothWriteFirst(t *testing.T) {
	a, b := memPipe("a", "b")
	for _, c := range []net.Conn{a, b} {
		n, err := c.Write(make([]byte, 1000)) // with net.Pipe neither would return
		require.NoError(t, err)
		assert.Equal(t, 1000, n)
	}
}

func TestMemConnDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := memPipe("a", "b")
		start := time.Now()
		require.NoError(t, a.SetReadDeadline(start.Add(time.Second)))
		_, err := a.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		var timeout net.Error
		require.ErrorAs(t, err, &timeout)
		assert.True(t, timeout.Timeout())
		assert.Equal(t, time.Second, time.Since(start))
		require.NoError(t, a.SetDeadline(time.Now().Add(time.Second)))
		n, err := a.Write(make([]byte, memBuffer+1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, memBuffer, n)
		require.NoError(t, a.SetDeadline(time.Time{}))
		go func() {
			time.Sleep(time.Second)
			_, _ = b.Write([]byte("x"))
		}()
		_, err = a.Read(make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, a.SetReadDeadline(time.Now().Add(-time.Second)))
		_, err = a.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
}

func TestMemConnEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := memPipe("a", "b")
		_, _ = b.Write([]byte("last words"))
		require.NoError(t, b.Close())
		got, err := io.ReadAll(a)
		require.NoError(t, err)
		assert.Equal(t, "last words", string(got))
		_, err = b.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = b.Write([]byte("x"))
		require.ErrorIs(t, err, net.ErrClosed)

		a, b = memPipe("a", "b")
		_, _ = b.Write([]byte("lost"))
		b.reset()
		_, err = a.Read(make([]byte, 1))
		require.ErrorIs(t, err, errReset)

		a, _ = memPipe("a", "b")
		go func() {
			time.Sleep(time.Second)
			_ = a.Close()
		}()
		_, err = a.Read(make([]byte, 1)) // its own Close wakes it
		require.ErrorIs(t, err, net.ErrClosed)
	})
}
