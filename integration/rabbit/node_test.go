package rabbit_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/integration/rabbit"
)

// start runs a private node for one test.
func start(t *testing.T, opts rabbit.Options) *rabbit.Node {
	t.Helper()
	needPrivate(t)
	node, err := rabbit.Start(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, node.Stop(context.WithoutCancel(t.Context())))
		assert.NoDirExists(t, node.Dir())
	})
	return node
}

func needPrivate(t *testing.T) {
	t.Helper()
	rabbit.Need(t)
	if os.Getenv("AMQP_URL") != "" {
		t.Skip("SKIPPED: private nodes are not tested when AMQP_URL names the broker")
	}
}

// patience is how long a test waits for what should come soon.
const patience = time.Minute

// greet sends the protocol header and returns the first byte of the answer, or
// the error that came instead within limit.
func greet(t *testing.T, port int, limit time.Duration) (byte, error) {
	t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
	require.NoError(t, err)
	defer conn.Close()
	return hello(t, conn, limit)
}

func hello(t *testing.T, conn net.Conn, limit time.Duration) (byte, error) {
	t.Helper()
	_, err := io.WriteString(conn, "AMQP\x00\x00\x09\x01")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(limit)))
	first := make([]byte, 1)
	_, err = io.ReadFull(conn, first)
	return first[0], err
}

func TestNode(t *testing.T) {
	t.Parallel()
	node := start(t, rabbit.Options{Management: true, TLS: true})
	ctx := t.Context()

	t.Run("speaks AMQP", func(t *testing.T) {
		first, err := greet(t, node.AMQPPort(), patience)
		require.NoError(t, err)
		assert.Equal(t, byte(1), first, "a method frame")
		assert.Equal(t, "amqp://guest:guest@127.0.0.1:"+strconv.Itoa(node.AMQPPort())+"/a%2Fb", node.URI("a/b"))
		assert.Equal(t, "amqps://localhost:"+strconv.Itoa(node.TLSPort())+"/%2F", node.TLSURI("/"))
	})
	t.Run("virtual hosts", func(t *testing.T) {
		require.NoError(t, node.NewVhost(ctx, "a/b"))
		require.NoError(t, rabbit.Call(node, ctx, http.MethodPut, "/api/queues/a%2Fb/q", nil, map[string]any{"durable": true}, nil))
		q, err := node.Queue(ctx, "a/b", "q")
		require.NoError(t, err)
		assert.Equal(t, "q", q.Name)
		assert.True(t, q.Durable)
		require.NoError(t, node.DeleteVhost(ctx, "a/b"))
		_, err = node.Queue(ctx, "a/b", "q")
		assert.ErrorContains(t, err, "404")
	})
	t.Run("connections", func(t *testing.T) {
		list, err := node.Connections(ctx)
		require.NoError(t, err)
		assert.Empty(t, list)
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		assert.ErrorIs(t, node.CloseConnection(short, "nobody", "no reason"), context.DeadlineExceeded)
	})
	t.Run("rabbitmqctl", func(t *testing.T) {
		users, err := node.Ctl(ctx, "list_users")
		require.NoError(t, err)
		assert.Contains(t, users, "tlsuser")
		_, err = node.Ctl(ctx, "no_such_command")
		assert.ErrorContains(t, err, "no_such_command")
		require.NoError(t, node.SetMemoryWatermark(ctx, 0.4))
		require.NoError(t, node.CloseAllConnections(ctx, "test"))
		require.NoError(t, node.Drain(ctx))
		require.NoError(t, node.Revive(ctx))
	})
	t.Run("TLS", func(t *testing.T) {
		addr := "localhost:" + strconv.Itoa(node.TLSPort())
		conn, err := tls.Dial("tcp4", addr, node.Certificates.ClientConfig())
		require.NoError(t, err)
		first, err := hello(t, conn, patience)
		require.NoError(t, err)
		assert.Equal(t, byte(1), first)
		require.NoError(t, conn.Close())
		cfg := node.Certificates.Config()
		cfg.RootCAs = node.Certificates.OtherCA
		_, err = tls.Dial("tcp4", addr, cfg)
		assert.ErrorContains(t, err, "unknown authority")
	})
	t.Run("loopback alone", func(t *testing.T) {
		listeners, err := node.Ctl(ctx, "eval", "[{inet:ntoa(element(4, L)), element(6, L)} || L <- rabbit_networking:active_listeners()].")
		require.NoError(t, err)
		assert.NotContains(t, listeners, "0.0.0.0")
		assert.NotContains(t, listeners, `"::"`)
	})
}

func TestKillRestartPause(t *testing.T) {
	t.Parallel()
	node := start(t, rabbit.Options{Config: "default_vhost = other\n"})
	ctx := t.Context()
	require.NoError(t, node.NewVhost(ctx, "kept"))

	require.NoError(t, node.Kill())
	_, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(node.AMQPPort()))
	require.Error(t, err)
	require.Error(t, node.Pause(), "nothing runs")
	require.NoError(t, node.Restart(ctx))
	hosts, err := node.Ctl(ctx, "list_vhosts")
	require.NoError(t, err)
	assert.Contains(t, hosts, "kept")
	assert.Contains(t, hosts, "other")

	require.NoError(t, node.Pause())
	_, err = greet(t, node.AMQPPort(), 200*time.Millisecond)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, node.Continue())
	_, err = greet(t, node.AMQPPort(), patience)
	require.NoError(t, err)

	_, err = node.Connections(ctx)
	require.ErrorIs(t, err, rabbit.ErrNoManagement)

	// A frozen node is stopped like any other, and stays stopped.
	require.NoError(t, node.Pause())
	require.NoError(t, node.Stop(ctx))
	require.Error(t, node.Restart(ctx))
}

func TestStartObeysContext(t *testing.T) {
	t.Parallel()
	needPrivate(t)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errors.New("out of patience"))
	defer cancel()
	_, err := rabbit.Start(ctx, rabbit.Options{})
	assert.ErrorContains(t, err, "out of patience")
}

func TestStartReportsBadConfiguration(t *testing.T) {
	t.Parallel()
	needPrivate(t)
	_, err := rabbit.Start(t.Context(), rabbit.Options{Config: "no_such_setting = 1\n"})
	assert.ErrorContains(t, err, "no_such_setting")
}

func TestOpenExternal(t *testing.T) {
	t.Setenv("AMQP_URL", "amqp://me:secret@broker.example:5673/old?heartbeat=3")
	t.Setenv("AMQP_MANAGEMENT_URL", "http://me:secret@broker.example:15672")
	_, ok := rabbit.Available()
	assert.True(t, ok)
	node, err := rabbit.Open(t.Context(), rabbit.Options{Management: true})
	require.NoError(t, err)
	assert.Equal(t, "amqp://me:secret@broker.example:5673/new%2Fone?heartbeat=3", node.URI("new/one"))
	assert.Equal(t, "http://me:secret@broker.example:15672", node.ManagementURL())
	assert.False(t, node.Private())
	for _, err := range []error{node.Kill(), node.Restart(t.Context()), node.Pause(), node.Continue()} {
		assert.ErrorIs(t, err, rabbit.ErrNotPrivate)
	}
	assert.NoError(t, node.Stop(t.Context()))
}

func TestFindScriptsPassesWrappersBy(t *testing.T) {
	t.Setenv("RABBITMQ_HOME", "")
	scripts, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	bin, empty := t.TempDir(), t.TempDir()
	for _, name := range []string{"rabbitmq-server", "rabbitmq-env", "wrapper"} {
		require.NoError(t, os.WriteFile(filepath.Join(scripts, name), []byte("#!/bin/sh\nexit 1\n"), 0o700))
	}
	require.NoError(t, os.Symlink(filepath.Join(scripts, "wrapper"), filepath.Join(bin, "rabbitmq-server")))
	for _, c := range []struct{ usual, path []string }{
		{nil, []string{empty, bin}},
		{[]string{filepath.Join(filepath.Dir(scripts), "*")}, nil},
	} {
		dir, err := rabbit.FindScripts(c.usual, c.path)
		require.NoError(t, err)
		assert.Equal(t, scripts, dir)
	}
	_, err = rabbit.FindScripts(nil, []string{empty})
	assert.ErrorContains(t, err, "no RabbitMQ")
}
