package integration

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// The dialler of package net gives up at the deadline by a clock of its own. Whichever is first, the error names the
// limit, or the caller's reason.
func TestDialOfAHostThatTakesNoMoreConnections(t *testing.T) {
	cfg := amqp.Config{Host: "127.0.0.1", Port: fullPort(t)}
	hurry := errors.New("no time")
	for range 20 {
		cfg.DialTimeout = 10 * time.Millisecond
		requireTimeout(t, amqp.WithConnection(soon(t), cfg, func(*amqp.Conn) error { return nil }))
		cfg.DialTimeout = 0
		ctx, cancel := context.WithTimeoutCause(soon(t), 10*time.Millisecond, hurry)
		assert.ErrorIs(t, amqp.WithConnection(ctx, cfg, func(*amqp.Conn) error { return nil }), hurry)
		cancel()
	}
}

// fullPort is one whose listener has as many connections waiting as it may.
func fullPort(t *testing.T) int {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, syscall.Close(fd)) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, syscall.Listen(fd, 0))
	addr, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	port := addr.(*syscall.SockaddrInet4).Port
	for range 100 {
		conn, err := net.DialTimeout("tcp", (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).String(), 100*time.Millisecond)
		if err != nil {
			return port
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Skip("SKIPPED: this system lets any number of connections wait")
	return 0
}
