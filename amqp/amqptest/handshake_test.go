package amqptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

func TestWrongProtocolHeader(t *testing.T) {
	for _, header := range []string{"HTTP/1.1", "AMQP\x00\x00\x09\x00", "AMQP\x00\x01\x00\x00"} {
		c := dialRaw(t, memoryBroker(t))
		c.write([]byte(header))
		answer, err := io.ReadAll(c.nc)
		require.NoError(t, err)
		assert.Equal(t, wire.ProtocolHeader[:], answer)
	}
}

func TestLoginRefused(t *testing.T) {
	const text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
	b := memoryBroker(t)
	for _, who := range [][2]string{{"guest", "wrong"}, {"nobody", "guest"}, {"", ""}} {
		c := dialRaw(t, b)
		c.startOk(who[0], who[1])
		c.refusedConnection(403, text)
	}
	c := dialRaw(t, b)
	c.caps = nil // a client that would not understand it sees the connection end
	c.startOk("guest", "wrong")
	require.ErrorIs(t, c.closed(), io.EOF)
}

func TestMechanisms(t *testing.T) {
	b := memoryBroker(t, WithMechanisms("AMQPLAIN", "RABBIT-CR-DEMO"), WithUser("bob", "secret"))
	begin := func(mechanism string, response []byte) *testClient {
		c := dialRaw(t, b)
		c.write(wire.ProtocolHeader[:])
		assert.Equal(t, "AMQPLAIN RABBIT-CR-DEMO", expect[*wire.ConnectionStart](c).Mechanisms)
		c.send(0, &wire.ConnectionStartOk{Mechanism: mechanism, Response: response, Locale: "en_US",
			ClientProperties: wire.Table{"capabilities": allCapabilities}})
		return c
	}
	login, err := wire.AppendTable(nil, wire.Table{"LOGIN": "bob", "PASSWORD": "secret"})
	require.NoError(t, err)
	expect[*wire.ConnectionTune](begin("AMQPLAIN", login[4:]))
	expect[*wire.ConnectionClose](begin("AMQPLAIN", []byte("garbage")))
	for password, ok := range map[string]bool{"secret": true, "wrong": false} {
		c := begin("RABBIT-CR-DEMO", []byte("bob"))
		assert.Equal(t, "Please tell me your password", string(expect[*wire.ConnectionSecure](c).Challenge))
		c.send(0, &wire.ConnectionSecureOk{Response: []byte("My password is " + password)})
		_, tuned := c.receive().method.(*wire.ConnectionTune)
		assert.Equal(t, ok, tuned)
	}
	require.ErrorIs(t, begin("PLAIN", []byte("\x00guest\x00guest")).closed(), errReset) // not offered
	assert.PanicsWithValue(t, `amqptest: no mechanism "FOO"`, func() { WithMechanisms("FOO") })
}

func TestTuning(t *testing.T) {
	b := memoryBroker(t, WithTuning(5, 8192, 7*time.Second))
	tuned := func(ok wire.ConnectionTuneOk) *testClient {
		c := dialRaw(t, b)
		c.startOk("guest", "guest")
		assert.Equal(t, &wire.ConnectionTune{ChannelMax: 5, FrameMax: 8192, Heartbeat: 7}, expect[*wire.ConnectionTune](c))
		c.send(0, &ok)
		return c
	}
	for _, bad := range []wire.ConnectionTuneOk{{ChannelMax: 6, FrameMax: 8192}, {ChannelMax: 0, FrameMax: 8192},
		{ChannelMax: 5, FrameMax: 8193}, {ChannelMax: 5, FrameMax: 0}, {ChannelMax: 5, FrameMax: 4095}} {
		require.ErrorIs(t, tuned(bad).closed(), errReset, "%+v", bad)
	}
	c := tuned(wire.ConnectionTuneOk{ChannelMax: 2, FrameMax: 4096, Heartbeat: 0})
	c.send(0, &wire.ConnectionOpen{VirtualHost: "/"})
	expect[*wire.ConnectionOpenOk](c)
	c.max = 4096
	c.openChannel(1)
	c.openChannel(2)
	c.declare("q", nil)
	c.publish("q", string(make([]byte, 10000)))
	c.send(1, &wire.BasicGet{Queue: "q", NoAck: true})
	expectFrames(t, c, 4096)
	c.send(3, &wire.ChannelOpen{})
	c.refusedConnection(530, "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)")
	c = tuned(wire.ConnectionTuneOk{ChannelMax: 2, FrameMax: 4096})
	c.send(0, &wire.ConnectionOpen{VirtualHost: "/"})
	expect[*wire.ConnectionOpenOk](c)
	c.send(3, &wire.ChannelOpen{})
	c.refusedConnection(530, "NOT_ALLOWED - channel number 3 is above the negotiated channel_max (2)")
}

// expectFrames reads a get-ok with its message of 10000 bytes, and checks that no frame is larger than agreed.
func expectFrames(t *testing.T, c *testClient, frameMax int) {
	t.Helper()
	for left := 10000; left > 0; {
		h, payload, err := c.frame()
		require.NoError(t, err)
		require.LessOrEqual(t, len(payload)+wire.FrameOverhead, frameMax)
		if h.Type == wire.FrameBody {
			left -= len(payload)
		}
	}
}

func TestVirtualHosts(t *testing.T) {
	b := memoryBroker(t, WithVHosts("one"), WithUser("bob", "bob", Permission{VHost: "one", Configure: ".*", Write: ".*", Read: ".*"}))
	open := func(user, vhost string) *testClient {
		c := dialRaw(t, b)
		c.startOk(user, user)
		expect[*wire.ConnectionTune](c)
		c.send(0, &wire.ConnectionTuneOk{ChannelMax: 10, FrameMax: 131072})
		c.send(0, &wire.ConnectionOpen{VirtualHost: vhost})
		return c
	}
	open("guest", "two").refusedConnection(530, "NOT_ALLOWED - vhost two not found")
	open("bob", "/").refusedConnection(530, "NOT_ALLOWED - access to vhost '/' refused for user 'bob'")
	root := dial(t, b)
	root.declare("q", nil)
	c := open("bob", "one")
	expect[*wire.ConnectionOpenOk](c)
	c.openChannel(1)
	c.send(1, &wire.QueueDeclare{Queue: "q", Passive: true})
	c.refused(404, "NOT_FOUND - no queue 'q' in vhost 'one'")
}

func TestPermissions(t *testing.T) {
	b := memoryBroker(t, WithUser("bob", "bob", Permission{VHost: "/", Configure: "^bob-", Write: `^(bob-|amq\.topic)`, Read: "^bob-"}))
	dial(t, b).declare("q", nil)
	c := dialRaw(t, b)
	c.login("bob", "bob", "/", 0)
	c.openChannel(1)
	c.declare("bob-q", nil)
	for _, tt := range []struct {
		method wire.Method
		what   string
	}{
		{&wire.QueueDeclare{Queue: "q"}, "queue 'q'"},
		{&wire.QueueDelete{Queue: "q"}, "queue 'q'"},
		{&wire.QueuePurge{Queue: "q"}, "queue 'q'"},
		{&wire.BasicGet{Queue: "q"}, "queue 'q'"},
		{&wire.BasicConsume{Queue: "q"}, "queue 'q'"},
		{&wire.QueueBind{Queue: "bob-q", Exchange: "amq.topic"}, "exchange 'amq.topic'"},
		{&wire.QueueBind{Queue: "q", Exchange: "bob-x"}, "queue 'q'"},
		{&wire.ExchangeDeclare{Exchange: "x", Type: "direct"}, "exchange 'x'"},
		{&wire.ExchangeDelete{Exchange: "x"}, "exchange 'x'"},
		{&wire.QueueDeclare{Queue: "bob-d", Arguments: wire.Table{"x-dead-letter-exchange": "x"}}, "exchange 'x'"},
	} {
		c.send(1, tt.method)
		c.refused(403, "ACCESS_REFUSED - access to "+tt.what+" in vhost '/' refused for user 'bob'")
	}
	c.publishTo("amq.topic", "k", nil)
	c.nothing()
	c.publishTo("", "bob-q", nil)
	c.refused(403, "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'bob'")
}

func TestUpdateSecret(t *testing.T) {
	b := memoryBroker(t)
	c := dial(t, b)
	c.send(0, &wire.ConnectionUpdateSecret{NewSecret: []byte("new"), Reason: "because"})
	expect[*wire.ConnectionUpdateSecretOk](c)
	assert.Equal(t, "new", b.Connections()[0].LastSecret)
}

func TestTLSAndExternal(t *testing.T) {
	certificate, pool := selfSigned(t, "bob")
	b := NewBroker(WithUser("bob", "unused"), WithTLS(&tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequestClientCert}))
	defer b.Close()
	assert.Contains(t, b.URI(), "amqps://")
	for name, certificates := range map[string][]tls.Certificate{"with": {certificate}, "without": nil} {
		inner, err := b.Dial(t.Context(), "", "")
		require.NoError(t, err)
		outer, err := net.Dial("tcp", b.listener.Addr().String())
		require.NoError(t, err)
		for _, nc := range []net.Conn{inner, outer} {
			c := newClient(t, tls.Client(nc, &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: certificates}))
			c.write(wire.ProtocolHeader[:])
			assert.Equal(t, "PLAIN AMQPLAIN EXTERNAL", expect[*wire.ConnectionStart](c).Mechanisms)
			c.send(0, &wire.ConnectionStartOk{Mechanism: "EXTERNAL", Locale: "en_US", ClientProperties: wire.Table{"capabilities": allCapabilities}})
			_, tuned := c.receive().method.(*wire.ConnectionTune)
			assert.Equal(t, name == "with", tuned)
		}
	}
	plain, err := net.Dial("tcp", b.listener.Addr().String())
	require.NoError(t, err)
	c := newClient(t, plain)
	c.write(wire.ProtocolHeader[:]) // a plain client on a TLS port
	require.Error(t, c.closed())
}

// selfSigned makes a certificate for localhost that is its own authority.
func selfSigned(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
