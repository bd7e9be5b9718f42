package amqptest

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// An Option changes what NewBroker makes.
type Option func(*config)

type config struct {
	addr            string // empty: no listener
	listener        net.Listener
	tls             *tls.Config
	logger          *slog.Logger
	version         behaviour
	users           []*user
	vhosts          []string
	mechanisms      []string
	channelMax      uint16
	frameMax        uint32
	heartbeat       time.Duration
	consumerTimeout time.Duration
	maxMessage      uint64
	arguments       map[string]bool
	keep            int
}

func defaultConfig() config {
	return config{
		addr: "127.0.0.1:0", version: behaviours[V310], vhosts: []string{"/"}, mechanisms: []string{"PLAIN", "AMQPLAIN"},
		channelMax: 2047, frameMax: 131072, heartbeat: time.Minute, consumerTimeout: 30 * time.Minute,
		arguments: map[string]bool{}, keep: 1024,
	}
}

// WithAddr makes the broker listen on another TCP address than a free port of 127.0.0.1.
func WithAddr(addr string) Option { return func(c *config) { c.addr = addr } }

// WithListener makes the broker accept connections from l, which Close closes.
func WithListener(l net.Listener) Option { return func(c *config) { c.listener = l } }

// InMemory leaves the listener out: the broker is reached by Dial alone. A broker inside a testing/synctest bubble
// needs this, because a goroutine that waits for the network is never idle there.
func InMemory() Option { return func(c *config) { c.addr = "" } }

// WithTLS makes every connection a TLS connection, those of Dial too, and offers the EXTERNAL mechanism:
// the common name of the client's certificate is the user.
func WithTLS(t *tls.Config) Option {
	return func(c *config) {
		c.tls = t
		c.mechanisms = append(c.mechanisms, "EXTERNAL")
	}
}

// WithLogger tells where the broker logs refusals and closed connections. Without it the broker logs nothing
// but a Close that hangs.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.logger = l } }

// WithVersion tells which RabbitMQ the broker imitates; V310 unless said otherwise.
func WithVersion(v Version) Option {
	b, ok := behaviours[v]
	if !ok {
		panic(fmt.Sprintf("amqptest: no version %d", v))
	}
	return func(c *config) { c.version = b }
}

// WithUser adds a user beside "guest" with the password "guest". Without permissions the user may do everything
// in every virtual host.
func WithUser(name, password string, permissions ...Permission) Option {
	u := newUser(name, password, permissions)
	return func(c *config) { c.users = append(c.users, u) }
}

// WithVHosts adds virtual hosts beside "/".
func WithVHosts(names ...string) Option {
	return func(c *config) { c.vhosts = append(c.vhosts, names...) }
}

// WithMechanisms tells which mechanisms the broker offers, in this order: of PLAIN, AMQPLAIN, EXTERNAL and
// RABBIT-CR-DEMO, which is the one with a connection.secure.
func WithMechanisms(names ...string) Option {
	for _, name := range names {
		if mechanisms[name] == nil {
			panic(fmt.Sprintf("amqptest: no mechanism %q", name))
		}
	}
	return func(c *config) { c.mechanisms = names }
}

// WithTuning sets what the broker proposes in connection.tune: the highest channel number (2047), the largest
// frame in bytes (131072) and the heartbeat interval (one minute). Zero means no limit, and no heartbeats.
func WithTuning(channelMax uint16, frameMax uint32, heartbeat time.Duration) Option {
	return func(c *config) { c.channelMax, c.frameMax, c.heartbeat = channelMax, frameMax, heartbeat }
}

// WithConsumerTimeout sets how long a delivery may stay unsettled: 30 minutes unless said otherwise, negative for ever.
func WithConsumerTimeout(d time.Duration) Option { return func(c *config) { c.consumerTimeout = d } }

// WithMaxMessageSize sets the largest body in bytes that the broker takes: 128 MiB, or 16 MiB for V43, unless said otherwise.
func WithMaxMessageSize(n uint64) Option { return func(c *config) { c.maxMessage = n } }

// WithArguments names arguments of queues, exchanges and consumers that the broker lets pass without knowing them.
// Others that it doesn't know it refuses with 406, where RabbitMQ would ignore them.
func WithArguments(names ...string) Option {
	return func(c *config) {
		for _, name := range names {
			c.arguments[name] = true
		}
	}
}

// WithHistory sets how many messages Published remembers: 1024 unless said otherwise.
func WithHistory(n int) Option { return func(c *config) { c.keep = n } }
