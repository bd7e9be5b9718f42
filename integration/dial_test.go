package integration

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// server runs serve for each connection until the test ends.
func server(t *testing.T, serve func(conn net.Conn)) amqp.Config {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return amqp.Config{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}
}

// silent takes what comes and says nothing.
func silent(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

func requireTimeout(t *testing.T, err error) {
	t.Helper()
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout())
	require.ErrorContains(t, err, "DialTimeout")
}

func TestDialGivesUpOnASilentPeer(t *testing.T) {
	cfg := server(t, silent)
	cfg.DialTimeout = 100 * time.Millisecond
	requireTimeout(t, amqp.WithConnection(soon(t), cfg, func(*amqp.Conn) error { return nil }))
}

func TestDialObeysItsContext(t *testing.T) {
	cfg := server(t, silent)
	hurry := errors.New("no time")
	ctx, cancel := context.WithTimeoutCause(soon(t), 100*time.Millisecond, hurry)
	defer cancel()
	begin := time.Now()
	err := amqp.WithConnection(ctx, cfg, func(*amqp.Conn) error { return nil })
	require.ErrorIs(t, err, hurry)
	assert.Less(t, time.Since(begin), patience/4, "DialTimeout is longer")
}

func TestDialOfAFrozenBroker(t *testing.T) {
	privately(t, func(t *testing.T, b broker) {
		require.NoError(t, b.node.Pause())
		t.Cleanup(func() { require.NoError(t, b.node.Continue()) })
		cfg := b.config(t)
		cfg.DialTimeout = 200 * time.Millisecond
		requireTimeout(t, amqp.WithConnection(soon(t), cfg, func(*amqp.Conn) error { return nil }))
	})
}

func TestDialOfWhatIsNoBroker(t *testing.T) {
	for name, answer := range map[string]string{
		"HTTP":               "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
		"another version":    "AMQP\x00\x01\x00\x00",
		"nothing":            "",
		"a TLS alert":        "\x15\x03\x01\x00\x02\x02\x46",
		"half a frame":       "\x01\x00\x00\x00\x00\x01\xff\x00\x0a\x00\x0a",
		"a frame too large":  "\x01\x00\x00\xff\xff\xff\xff\x00\x0a\x00\x0a",
		"no start":           "\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x29\xce",
		"a frame without ce": "\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x29\x00",
	} {
		t.Run(name, func(t *testing.T) {
			cfg := server(t, func(conn net.Conn) {
				_, _ = bufio.NewReader(conn).Peek(8)
				_, _ = io.WriteString(conn, answer)
			})
			err := amqp.WithConnection(soon(t), cfg, func(*amqp.Conn) error {
				return errors.New("the body ran")
			})
			require.Error(t, err)
			assert.NotContains(t, err.Error(), "the body ran")
		})
	}
}
