package rabbit_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/integration/rabbit"
)

// Nobody else is given a node's ports while it starts, or is down.
func TestPortsAreNoneThatAreGivenAway(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Skip("SKIPPED: the ports that this system gives away are not to be found in /proc: ", err)
	}
	var first, last int
	_, err = fmt.Sscan(string(text), &first, &last)
	require.NoError(t, err)
	if first < 32768 {
		t.Skip("SKIPPED: this system is set up to give away ports from ", first)
	}
	chosen, err := rabbit.FreePorts()
	require.NoError(t, err)
	seen := map[int]bool{}
	for _, port := range chosen {
		assert.Less(t, port, first)
		assert.False(t, seen[port], "twice")
		seen[port] = true
	}
}

// Whichever port is taken, that is why the start failed, whatever the node made of it.
func TestATakenPortIsBlamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	free, err := rabbit.FreePorts()
	require.NoError(t, err)
	for i := range free {
		held := append([]int(nil), free...)
		held[i] = taken
		err := rabbit.Blame(io.EOF, held...)
		assert.ErrorIs(t, err, rabbit.ErrPortTaken)
		assert.ErrorIs(t, err, io.EOF)
	}
	assert.Equal(t, io.EOF, rabbit.Blame(io.EOF, free...))
	assert.ErrorIs(t, rabbit.Blame(errors.New("{error,eaddrinuse}"), free...), rabbit.ErrPortTaken)
}

func TestAStartIsTriedAgainOnOtherPorts(t *testing.T) {
	attempts := 0
	start := func(failures int, err error) func() (int, error) {
		attempts = 0
		return func() (int, error) {
			if attempts++; attempts <= failures {
				return 0, err
			}
			return attempts, nil
		}
	}
	n, err := rabbit.OnFreePorts(start(2, fmt.Errorf("no: %w", rabbit.ErrPortTaken)))
	require.NoError(t, err)
	assert.Equal(t, 3, n)
	_, err = rabbit.OnFreePorts(start(3, rabbit.ErrPortTaken))
	require.ErrorIs(t, err, rabbit.ErrPortTaken)
	assert.Equal(t, 3, attempts)
	_, err = rabbit.OnFreePorts(start(1, io.EOF))
	require.Equal(t, io.EOF, err)
	assert.Equal(t, 1, attempts)
}
