package amqp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Config says where the broker is, who asks, and within which limits. The zero
// value connects as guest to a RabbitMQ on this machine. A Config is copied by
// what takes it; change it freely afterwards.
type Config struct {
	Host string // "localhost"
	Port int    // 5672, or 5671 with TLS
	// Endpoints are further nodes of the cluster, "host:port", tried in turn
	// when Host can't be reached; the port may be left out.
	Endpoints []string

	Login string // "guest"
	// Password is "guest" unless said otherwise. A Config does not print it, by
	// whatever verb or logger, but fmt can't be kept from printing a Config
	// that is an unexported field of something else.
	Password    string
	VirtualHost string // "/"

	// TLS, when set, encrypts the connection, or there is none: nothing falls
	// back to plain TCP. Certificates are verified, against the name of the
	// node that was dialled or ServerName, unless InsecureSkipVerify says
	// otherwise. It is TLS 1.2 at least, also where MinVersion is lower. Nil:
	// plain TCP.
	TLS *tls.Config
	// Credentials is asked at every connect, for tokens that are refreshed. It
	// has to end with ctx. Nil: Login and Password.
	Credentials func(ctx context.Context) (login, password string, err error)
	// Auth lists the SASL mechanisms in order of preference; the first that
	// the broker also offers is used. Nil: Plain.
	Auth []Mechanism
	// Insist is the historical bit of connection.open, which brokers ignore.
	Insist bool

	ChannelMax uint16 // open channels at most; 0: what the broker proposes
	FrameMax   uint32 // bytes in a frame, at least 8192; 0: what the broker proposes
	// Heartbeat is the interval in which the peers show each other that they
	// live; whole seconds, the smaller of both sides' wishes. Two of them
	// without a byte end the connection. 0: what the broker proposes;
	// negative: none.
	Heartbeat time.Duration

	ClientProperties Table  // added to what the client tells the broker of itself
	ConnectionName   string // shown in the management UI

	// MaxMessageSize is the largest body, in bytes, that is received; a
	// larger one ends the connection with ErrMessageTooLarge, unless the message
	// is the client's own and comes back: see Channel.Returns. Memory grows with
	// what has come of a body, not with what is announced. At most 4 GiB - 1,
	// or 2 GiB - 1 where an int has 32 bits; 0: 128 MiB.
	MaxMessageSize int64
	// DialTimeout bounds TCP, TLS and AMQP handshake together, for each
	// endpoint that is tried. 0: 30 s.
	DialTimeout time.Duration
	// CloseTimeout bounds the polite part of an end: flushing, the
	// goodbye, and the broker's answer. 0: 5 s.
	CloseTimeout time.Duration

	// Dial makes the network connection, and has to end with ctx. Nil: a
	// net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Logger is told, by warnings, what is wrong and comes out of no call: that
	// Supervise connects again, an endpoint that can't be reached, an alarm of
	// the broker's, a handler that failed, a returned message that nobody takes.
	// A session in which nothing is wrong logs nothing. Its handler is called by those
	// who read and reconnect, and must not wait for them: one that publishes what it is
	// given would wait for itself. Nil: slog.Default() for warnings alone.
	Logger *slog.Logger
	Trace  *Trace // hooks in the manner of net/http/httptrace
}

const (
	defaultMaxMessageSize = 128 << 20
	defaultDialTimeout    = 30 * time.Second
	defaultCloseTimeout   = 5 * time.Second
	// RabbitMQ 4.1 and later close a connection that negotiates less.
	minFrameMax = 8192
)

// withDefaults fills what was left zero.
func (c Config) withDefaults() Config {
	if c.Host == "" {
		c.Host = "localhost"
	}
	if c.Port == 0 {
		c.Port = c.defaultPort()
	}
	if c.Login == "" && c.Password == "" {
		c.Login, c.Password = "guest", "guest"
	}
	if c.VirtualHost == "" {
		c.VirtualHost = "/"
	}
	if len(c.Auth) == 0 {
		c.Auth = []Mechanism{Plain}
	}
	if c.MaxMessageSize == 0 {
		c.MaxMessageSize = defaultMaxMessageSize
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = defaultDialTimeout
	}
	if c.CloseTimeout == 0 {
		c.CloseTimeout = defaultCloseTimeout
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	c.Logger = c.logger()
	return c
}

// logger is where the connection logs.
func (c *Config) logger() *slog.Logger {
	if c.Logger != nil {
		return c.Logger
	}
	return slog.New(warningsOnly{slog.Default().Handler()})
}

func (c *Config) defaultPort() int {
	if c.TLS != nil {
		return 5671
	}
	return 5672
}

// maxMessageSize is what a delivery has room for, and a slice.
const maxMessageSize = min(math.MaxUint32, math.MaxInt)

// check refuses what can't work, before anything is dialled.
func (c *Config) check() error {
	switch {
	case c.Port < 0 || c.Port > math.MaxUint16:
		return fmt.Errorf("amqp: config: port %d is not between 1 and 65535", c.Port)
	case c.FrameMax != 0 && c.FrameMax < minFrameMax:
		return fmt.Errorf("amqp: config: FrameMax %d is below %d, which RabbitMQ refuses since 4.1; leave it 0", c.FrameMax, minFrameMax)
	case c.Heartbeat > math.MaxUint16*time.Second:
		return fmt.Errorf("amqp: config: Heartbeat %v exceeds %d s", c.Heartbeat, math.MaxUint16)
	case c.MaxMessageSize < 0 || c.MaxMessageSize > maxMessageSize:
		return fmt.Errorf("amqp: config: MaxMessageSize %d is not between 1 and %d", c.MaxMessageSize, int64(maxMessageSize))
	case c.TLS != nil && c.TLS.MaxVersion != 0 && c.TLS.MaxVersion < tls.VersionTLS12:
		return fmt.Errorf("amqp: config: TLS.MaxVersion %s is below TLS 1.2, which is the least that is spoken", tls.VersionName(c.TLS.MaxVersion))
	case c.DialTimeout < 0 || c.CloseTimeout < 0:
		return errors.New("amqp: config: a timeout is negative")
	}
	for _, m := range c.Auth {
		if m == nil {
			return errors.New("amqp: config: Auth holds a nil mechanism")
		}
	}
	for _, e := range c.Endpoints {
		if _, err := c.address(e); err != nil {
			return err
		}
	}
	if _, err := c.ClientProperties.Size(); err != nil {
		return fmt.Errorf("amqp: config: ClientProperties: %w", err)
	}
	if err := checkName("VirtualHost", c.VirtualHost); err != nil {
		return fmt.Errorf("amqp: config: %w", err)
	}
	return nil
}

// addresses lists what is dialled, in order.
func (c *Config) addresses() ([]string, error) {
	all := []string{net.JoinHostPort(c.Host, strconv.Itoa(c.Port))}
	for _, e := range c.Endpoints {
		a, err := c.address(e)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// address completes "host" and "host:port" to "host:port".
func (c *Config) address(endpoint string) (string, error) {
	if host, port, err := net.SplitHostPort(endpoint); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
			return "", fmt.Errorf("amqp: config: endpoint %q is not host:port", endpoint)
		}
		return endpoint, nil
	}
	if _, _, err := net.SplitHostPort(endpoint + ":1"); err != nil || endpoint == "" {
		return "", fmt.Errorf("amqp: config: endpoint %q is not host:port", endpoint)
	}
	return fmt.Sprintf("%s:%d", endpoint, c.defaultPort()), nil
}

// String is the configuration's URI without its secrets.
func (c Config) String() string {
	scheme := "amqp"
	if c.TLS != nil {
		scheme = "amqps"
	}
	c = c.withDefaults()
	vhost := strings.ReplaceAll(url.PathEscape(c.VirtualHost), "@", "%40") // as ParseURI wants it
	host := hostEscapes.Replace(c.Host)
	return fmt.Sprintf("%s://%s@%s/%s", scheme, url.User(c.Login), net.JoinHostPort(host, strconv.Itoa(c.Port)), vhost)
}

// hostEscapes writes a host as ParseURI wants it: fe80::1%eth0, say.
var hostEscapes = strings.NewReplacer("%", "%25", "/", "%2F", "?", "%3F", "#", "%23", "@", "%40", "[", "%5B", "]", "%5D",
	" ", "%20", "\t", "%09", "\r", "%0D", "\n", "%0A")

// GoString is String, so that %#v prints no secret either.
func (c Config) GoString() string { return "amqp.Config{" + c.String() + "}" }

// Format is String for every verb, those that fmt knows for no string included.
func (c Config) Format(f fmt.State, verb rune) {
	if verb == 'v' && f.Flag('#') {
		_, _ = io.WriteString(f, c.GoString())
		return
	}
	_, _ = io.WriteString(f, c.String())
}

// LogValue is String, so that a logged Config shows no secret.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// warningsOnly is a handler that is silent unless something is wrong.
type warningsOnly struct{ slog.Handler }

func (h warningsOnly) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, l)
}

func (h warningsOnly) WithAttrs(a []slog.Attr) slog.Handler {
	return warningsOnly{h.Handler.WithAttrs(a)}
}

func (h warningsOnly) WithGroup(name string) slog.Handler {
	return warningsOnly{h.Handler.WithGroup(name)}
}
