package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/integration/rabbit"
)

// overTLS runs a test against the TLS listener of a RabbitMQ.
func overTLS(t *testing.T, test func(t *testing.T, node *rabbit.Node, cfg amqp.Config)) {
	t.Helper()
	node := tlsNode.get(t)
	cfg, err := amqp.ParseURI(node.TLSURI("/"))
	require.NoError(t, err)
	cfg.Host = "127.0.0.1" // localhost may be ::1, where it does not listen
	cfg.TLS = node.Certificates.Config()
	cfg.CloseTimeout = patience
	test(t, node, cfg)
}

// opens expects a connection, and that it works.
func opens(t *testing.T, cfg amqp.Config) {
	t.Helper()
	ctx := soon(t)
	require.NoError(t, amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		q := newQueue(t, ctx, ch, nil)
		send(t, ctx, ch, q, "hello")
		text, _ := get(t, ctx, ch, q)
		assert.Equal(t, "hello", text)
		return nil
	}))
}

// refused expects no connection, and returns why.
func refused(t *testing.T, cfg amqp.Config) error {
	t.Helper()
	err := amqp.WithConnection(soon(t), cfg, func(*amqp.Conn) error {
		t.Error("the connection was opened")
		return nil
	})
	require.Error(t, err)
	return err
}

func TestTLSVerifiesTheBroker(t *testing.T) {
	overTLS(t, func(t *testing.T, node *rabbit.Node, cfg amqp.Config) {
		t.Run("by name", func(t *testing.T) {
			cfg := cfg
			cfg.Login, cfg.Password = "guest", "guest"
			opens(t, cfg)
		})
		t.Run("by the address that was dialled", func(t *testing.T) {
			cfg := cfg
			cfg.TLS = &tls.Config{RootCAs: node.Certificates.CA}
			opens(t, cfg)
			assert.Empty(t, cfg.TLS.ServerName, "the caller's configuration is not touched")
		})
		t.Run("TLS 1.2", func(t *testing.T) {
			cfg := cfg
			cfg.TLS = node.Certificates.Config()
			cfg.TLS.MaxVersion = tls.VersionTLS12
			opens(t, cfg)
		})
		t.Run("unless told not to", func(t *testing.T) {
			cfg := cfg
			cfg.TLS = &tls.Config{InsecureSkipVerify: true}
			opens(t, cfg)
		})
		t.Run("another authority", func(t *testing.T) {
			cfg := cfg
			cfg.TLS = &tls.Config{RootCAs: node.Certificates.OtherCA, ServerName: "localhost"}
			var unknown x509.UnknownAuthorityError
			require.ErrorAs(t, refused(t, cfg), &unknown)
		})
		t.Run("another name", func(t *testing.T) {
			cfg := cfg
			cfg.TLS = &tls.Config{RootCAs: node.Certificates.CA, ServerName: "another.example"}
			var name x509.HostnameError
			require.ErrorAs(t, refused(t, cfg), &name)
		})
	})
}

func TestTLSLoginByCertificate(t *testing.T) {
	overTLS(t, func(t *testing.T, node *rabbit.Node, cfg amqp.Config) {
		cfg.Auth = []amqp.Mechanism{amqp.External}
		t.Run("with one", func(t *testing.T) {
			cfg := cfg
			cfg.TLS = node.Certificates.ClientConfig()
			opens(t, cfg)
			users, err := node.Ctl(t.Context(), "list_users")
			require.NoError(t, err)
			assert.Contains(t, users, "tlsuser")
		})
		t.Run("without", func(t *testing.T) {
			requireException(t, refused(t, cfg), amqp.AccessRefused, "EXTERNAL")
		})
		t.Run("or else by password", func(t *testing.T) {
			cfg := cfg
			cfg.Auth = []amqp.Mechanism{amqp.AMQPlain}
			opens(t, cfg)
		})
	})
}

func TestTLSMeetsPlainTCP(t *testing.T) {
	overTLS(t, func(t *testing.T, node *rabbit.Node, cfg amqp.Config) {
		t.Run("a plain client at a TLS port", func(t *testing.T) {
			cfg := cfg
			cfg.TLS = nil
			assert.ErrorContains(t, refused(t, cfg), "TLS")
		})
		t.Run("a TLS client at a plain port", func(t *testing.T) {
			cfg := cfg
			cfg.Port = node.AMQPPort()
			assert.ErrorContains(t, refused(t, cfg), "TLS")
		})
	})
}

// What a broker with a bad certificate is, needs no broker to find out.
func TestTLSRefusesBadCertificates(t *testing.T) {
	certs, err := rabbit.NewCertificates()
	require.NoError(t, err)
	for name, c := range map[string]struct {
		cert tls.Certificate
		want string
	}{
		"expired":    {certs.Expired, "expired"},
		"wrong host": {certs.WrongHost, "wrong.example"},
		"no server":  {certs.Client, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := server(t, func(conn net.Conn) {
				tlsConn := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{c.cert}})
				_ = tlsConn.HandshakeContext(context.Background()) // the client refuses it
			})
			cfg.TLS = certs.Config()
			assert.ErrorContains(t, refused(t, cfg), c.want)
		})
	}
}
