package amqp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// connect tries the endpoints in turn until one takes the connection. The error
// joins those of all attempts.
func connect(ctx context.Context, cfg Config) (*Conn, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	addrs, err := cfg.addresses()
	if err != nil {
		return nil, err
	}
	var failed []error
	for i, addr := range addrs {
		cfg.Trace.dialStart(addr)
		c, err := connectTo(ctx, &cfg, addr)
		cfg.Trace.dialDone(addr, err)
		if err == nil {
			cfg.Logger = cfg.Logger.With("broker", addr)
			return c, nil
		}
		failed = append(failed, fmt.Errorf("amqp: connect to %s: %w", addr, err))
		if ctx.Err() != nil {
			break
		}
		if i+1 < len(addrs) {
			cfg.Logger.Warn("amqp: an endpoint took no connection, the next one is tried", "broker", addr, "error", err, "next", addrs[i+1])
		}
	}
	if len(failed) == 1 {
		return nil, failed[0]
	}
	return nil, errors.Join(failed...)
}

// connectTo makes one attempt, bounded by DialTimeout.
func connectTo(ctx context.Context, cfg *Config, addr string) (_ *Conn, err error) {
	timeout := fmt.Errorf("%w: no connection within DialTimeout, %v", context.DeadlineExceeded, cfg.DialTimeout)
	dialCtx, cancel := context.WithTimeoutCause(ctx, cfg.DialTimeout, timeout)
	defer cancel()
	nc, err := cfg.Dial(dialCtx, "tcp", addr)
	if err != nil {
		return nil, staged(dialCtx, "TCP", err)
	}
	raw := nc
	// A handshake that is cut short by ctx notices by a deadline in the past, or by
	// the end of a connection that knows none.
	stop := context.AfterFunc(dialCtx, func() {
		if raw.SetDeadline(time.Unix(1, 0)) != nil {
			_ = raw.Close()
		}
	})
	defer func() {
		if !stop() && err == nil {
			err = context.Cause(dialCtx)
		}
		if err != nil {
			_ = raw.Close()
		}
	}()
	if cfg.TLS != nil {
		if nc, err = encrypt(dialCtx, cfg, nc, addr); err != nil {
			return nil, staged(dialCtx, "TLS", err)
		}
	}
	c := newConn(cfg, raw, nc)
	if err := c.handshake(dialCtx); err != nil {
		return nil, staged(dialCtx, "", err)
	}
	return c, nil
}

// staged says at which stage err came up, and what ended the wait if that was
// the context.
func staged(ctx context.Context, stage string, err error) error {
	if stage != "" {
		err = fmt.Errorf("%s: %w", stage, err)
	}
	var net net.Error
	timedOut := errors.As(err, &net) && net.Timeout()
	if deadline, ok := ctx.Deadline(); ok && timedOut && !time.Now().Before(deadline) {
		<-ctx.Done() // who dials has a clock of its own, which may be first
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) && (timedOut || errors.Is(err, ctx.Err())) {
		return fmt.Errorf("%w (%w)", cause, err)
	}
	return err
}

// encrypt is the TLS handshake. The certificate is checked against the host
// that was dialled, unless the configuration names another.
func encrypt(ctx context.Context, cfg *Config, nc net.Conn, addr string) (net.Conn, error) {
	tc := cfg.TLS.Clone()
	if tc.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		tc.ServerName = host
	}
	tc.MinVersion = max(tc.MinVersion, tls.VersionTLS12)
	t := tls.Client(nc, tc)
	if err := t.HandshakeContext(ctx); err != nil {
		var header tls.RecordHeaderError
		if errors.As(err, &header) {
			err = fmt.Errorf("%w: the peer does not speak TLS; is this a plain amqp port?", err)
		}
		return nil, err
	}
	return t, nil
}
