package amqp_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// A broker that speaks nothing newer than TLS 1.1 is refused, whatever the configuration would allow.
func TestTLSIsAtLeastTLS12(t *testing.T) {
	cert, pool := certificate(t)
	old := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11} // #nosec G402 -- to be refused
	overTCP(t, func(ctx context.Context, w *world) {
		for _, least := range []uint16{0, tls.VersionTLS10, tls.VersionTLS11} {
			w.cfg.TLS = &tls.Config{RootCAs: pool, MinVersion: least} // #nosec G402 -- it is raised
			err := amqp.WithConnection(ctx, w.cfg, nil)
			require.ErrorContains(w, err, "protocol version", tls.VersionName(least))
			assert.Equal(w, least, w.cfg.TLS.MinVersion, "the caller's configuration is not touched")
		}
		w.cfg.TLS = &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11} // #nosec G402 -- to be refused
		w.cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
			assert.Fail(w, "dialled")
			return nil, net.ErrClosed
		}
		require.ErrorContains(w, amqp.WithConnection(ctx, w.cfg, nil), "TLS.MaxVersion TLS 1.1 is below TLS 1.2")
	}, amqptest.WithTLS(old))
}

// The certificate has to be that of the node that was dialled, or of whom the configuration names.
func TestTheCertificateIsCheckedAgainstTheRightName(t *testing.T) {
	cert, pool := certificate(t) // of localhost
	overTCP(t, func(ctx context.Context, w *world) {
		at := net.JoinHostPort(w.cfg.Host, strconv.Itoa(w.cfg.Port))
		w.cfg.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, at)
		}
		for _, c := range []struct {
			host, name string
			right      bool
		}{{"localhost", "", true}, {"broker.example", "", false}, {"broker.example", "localhost", true}, {"localhost", "broker.example", false}} {
			w.cfg.Host = c.host
			w.cfg.TLS = &tls.Config{RootCAs: pool, ServerName: c.name, MinVersion: tls.VersionTLS12}
			err := amqp.WithConnection(ctx, w.cfg, func(*amqp.Conn) error { return nil })
			if c.right {
				require.NoError(w, err, "%+v", c)
				continue
			}
			var wrong x509.HostnameError
			require.ErrorAs(w, err, &wrong, "%+v", c)
			assert.Equal(w, "broker.example", wrong.Host)
		}
	}, amqptest.WithTLS(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}))
}

// firstOctets is a network whose nodes take a connection, read, and hang up.
type firstOctets struct {
	mu  sync.Mutex
	all []byte
}

func (f *firstOctets) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		b := make([]byte, 1)
		if n, _ := far.Read(b); n == 1 {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.all = append(f.all, b[0])
		}
	}()
	return near, nil
}

// Where TLS is asked for, nothing else is ever said: not to further nodes, and not when it has failed before.
func TestTLSNeverFallsBackToPlainTCP(t *testing.T) {
	cfg, err := amqp.ParseURI("amqps://user:password@one")
	require.NoError(t, err)
	network := new(firstOctets)
	cfg.Dial, cfg.Endpoints = network.dial, []string{"two", "three:5672"}
	err = amqp.Supervise(t.Context(), cfg, amqp.Retry{Attempts: 3, Min: time.Millisecond, Max: time.Millisecond}, nil)
	require.ErrorContains(t, err, "TLS")
	const handshake = 0x16
	network.mu.Lock()
	defer network.mu.Unlock()
	require.Len(t, network.all, 9)
	for _, b := range network.all {
		assert.EqualValues(t, handshake, b)
	}
}
