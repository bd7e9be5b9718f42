package amqp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

func TestConfigNeverShowsItsSecrets(t *testing.T) {
	cfg := amqp.Config{Login: "me", Password: "hunter2", Host: "host", VirtualHost: "v", TLS: &tls.Config{}}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("text", "cfg", cfg, "at", &cfg)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("json", "cfg", cfg, "at", &cfg)
	nested := struct{ Config amqp.Config }{cfg}
	shown := []string{log.String(), cfg.String(), cfg.GoString(), fmt.Sprint(nested), fmt.Sprint([]amqp.Config{cfg})}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		shown = append(shown, fmt.Sprintf(verb, cfg), fmt.Sprintf(verb, &cfg), fmt.Sprintf(verb, nested))
	}
	for _, s := range shown {
		assert.NotContains(t, s, "hunter2")
		assert.NotContains(t, s, fmt.Sprintf("%x", "hunter2"))
	}
	assert.Equal(t, "amqps://me@host:5671/v", cfg.String())
	assert.Equal(t, "amqp://guest@localhost:5672/%2F", amqp.Config{}.String())
}

func TestConfigIsCheckedBeforeAnythingIsDialled(t *testing.T) {
	for says, cfg := range map[string]amqp.Config{
		"port -1":                {Port: -1},
		"port 65536":             {Port: 65536},
		"FrameMax 8191":          {FrameMax: 8191},
		"Heartbeat":              {Heartbeat: 65536 * time.Second},
		"MaxMessageSize -1":      {MaxMessageSize: -1},
		"MaxMessageSize 4294":    {MaxMessageSize: 1 << 32},
		"a timeout is negative":  {DialTimeout: -1},
		"a timeout is negative ": {CloseTimeout: -1},
		"nil mechanism":          {Auth: []amqp.Mechanism{amqp.Plain, nil}},
		`endpoint ""`:            {Endpoints: []string{"ok", ""}},
		`endpoint "host:"`:       {Endpoints: []string{"host:"}},
		`endpoint ":1"`:          {Endpoints: []string{":1"}},
		`endpoint "host:0"`:      {Endpoints: []string{"host:0"}},
		`endpoint "host:port"`:   {Endpoints: []string{"host:port"}},
		`endpoint "host:65536"`:  {Endpoints: []string{"host:65536"}},
		`endpoint "::1"`:         {Endpoints: []string{"::1"}},
		"key":                    {ClientProperties: amqp.Table{"key": struct{}{}}},
		"VirtualHost":            {VirtualHost: strings.Repeat("v", 256)},
	} {
		cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
			t.Errorf("%s: dialled", says)
			return nil, errors.New("dialled")
		}
		err := amqp.WithConnection(t.Context(), cfg, func(*amqp.Conn) error { return nil })
		require.ErrorContains(t, err, strings.TrimSpace(says))
		require.ErrorContains(t, err, "amqp: config: ")
	}
}

func TestEndpointsAreTriedInTurn(t *testing.T) {
	var dialled []string
	refused := errors.New("refused")
	cfg := amqp.Config{
		Host: "first", Port: 1, Endpoints: []string{"second:2", "third", "[::1]:4", "[::1]"},
		Dial: func(_ context.Context, network, addr string) (net.Conn, error) {
			dialled = append(dialled, network+" "+addr)
			return nil, refused
		},
	}
	err := amqp.WithConnection(t.Context(), cfg, func(*amqp.Conn) error { return nil })
	require.ErrorIs(t, err, refused)
	assert.Equal(t, []string{"tcp first:1", "tcp second:2", "tcp third:5672", "tcp [::1]:4", "tcp [::1]:5672"}, dialled)
	for _, addr := range []string{"first:1", "third:5672", "[::1]:4"} {
		require.ErrorContains(t, err, "amqp: connect to "+addr+": TCP: refused")
	}

	dialled = nil
	cfg.TLS, cfg.Port = &tls.Config{}, 0
	require.Error(t, amqp.WithConnection(t.Context(), cfg, func(*amqp.Conn) error { return nil }))
	assert.Equal(t, "tcp first:5671", dialled[0])
	assert.Equal(t, "tcp third:5671", dialled[2])

	// Nobody is asked once the caller has gone.
	dialled = nil
	ctx, cancel := context.WithCancel(t.Context())
	cfg.Dial = func(_ context.Context, _, addr string) (net.Conn, error) {
		dialled = append(dialled, addr)
		cancel()
		return nil, refused
	}
	require.Error(t, amqp.WithConnection(ctx, cfg, func(*amqp.Conn) error { return nil }))
	assert.Len(t, dialled, 1)
}

func TestTheDefaultLoggerTellsWarningsAlone(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	logger := amqp.DefaultLogger()
	logger.Info("quiet")
	logger.With("a", 1).WithGroup("g").Debug("quiet")
	logger.With("a", 1).WithGroup("g").Info("quiet")
	logger.With("a", 1).WithGroup("g").Warn("loud", "b", 2)
	assert.NotContains(t, log.String(), "quiet")
	assert.Contains(t, log.String(), "msg=loud a=1 g.b=2")
}

func TestTTL(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0", 0: "0", 1: "1", time.Millisecond: "1", time.Millisecond + 1: "2", time.Minute: "60000",
		math.MaxInt64: "9223372036855", math.MinInt64: "0",
	} {
		assert.Equal(t, want, amqp.TTL(d), "%v", d)
	}
}
