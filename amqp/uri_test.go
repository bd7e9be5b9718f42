package amqp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// The examples are those of the appendix of RabbitMQ's URI specification.
func TestParseURIByTheSpecification(t *testing.T) {
	for uri, want := range map[string]amqp.Config{
		"amqp://user:pass@host:10000/vhost":             {Login: "user", Password: "pass", Host: "host", Port: 10000, VirtualHost: "vhost"},
		"amqp://user%61:%61pass@ho%61st:10000/v%2fhost": {Login: "usera", Password: "apass", Host: "hoast", Port: 10000, VirtualHost: "v/host"},
		"amqp://":                      {},
		"amqp://:@/":                   {},
		"amqp://user@":                 {Login: "user"},
		"amqp://user:pass@":            {Login: "user", Password: "pass"},
		"amqp://host":                  {Host: "host"},
		"amqp://:10000":                {Port: 10000},
		"amqp:///vhost":                {VirtualHost: "vhost"},
		"amqp://host/":                 {Host: "host"},
		"amqp://host/%2F":              {Host: "host", VirtualHost: "/"},
		"amqp://host/%2f":              {Host: "host", VirtualHost: "/"},
		"amqp://[::1]":                 {Host: "::1"},
		"AMQP://host":                  {Host: "host"},
		"amqp://[::1]:10/v":            {Host: "::1", Port: 10, VirtualHost: "v"},
		"amqp://u:p@[::1]/v":           {Login: "u", Password: "p", Host: "::1", VirtualHost: "v"},
		"amqp://[fe80::1%25eth0]:5672": {Host: "fe80::1%eth0", Port: 5672},
		"amqp://u:a@b@host":            {Login: "u", Password: "a@b", Host: "host"},
		"amqp://u:a:b@host":            {Login: "u", Password: "a:b", Host: "host"},
		"amqp://u:p%231%2F2%3F+@host":  {Login: "u", Password: "p#1/2?+", Host: "host"},
		"amqp://host:65535/a%40b":      {Host: "host", Port: 65535, VirtualHost: "a@b"},
	} {
		got, err := amqp.ParseURI(uri)
		if assert.NoError(t, err, uri) {
			assert.Equal(t, want, got, uri)
		}
	}
}

func TestParseURIQuery(t *testing.T) {
	cfg, err := amqp.ParseURI("amqp://host?heartbeat=10&connection_timeout=1500&channel_max=7&frame_max=9000" +
		"&auth_mechanism=external&auth_mechanism=AMQPLAIN&connection_name=a+b%26c")
	require.NoError(t, err)
	assert.Equal(t, amqp.Config{
		Host: "host", Heartbeat: 10 * time.Second, DialTimeout: 1500 * time.Millisecond, ChannelMax: 7, FrameMax: 9000,
		Auth: []amqp.Mechanism{amqp.External, amqp.AMQPlain}, ConnectionName: "a b&c",
	}, cfg)

	cfg, err = amqp.ParseURI("amqp://host/v?heartbeat=0")
	require.NoError(t, err)
	assert.Negative(t, cfg.Heartbeat, "none, and not the broker's proposal")
	assert.Equal(t, "v", cfg.VirtualHost)

	cfg, err = amqp.ParseURI("amqps://host?verify=verify_none&server_name_indication=name")
	require.NoError(t, err)
	require.NotNil(t, cfg.TLS)
	assert.True(t, cfg.TLS.InsecureSkipVerify)
	assert.Equal(t, "name", cfg.TLS.ServerName)

	cfg, err = amqp.ParseURI("amqps://host?verify=verify_peer")
	require.NoError(t, err)
	assert.False(t, cfg.TLS.InsecureSkipVerify)
}

func TestParseURIReadsCertificates(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key)
	cfg, err := amqp.ParseURI("amqps://host?cacertfile=" + cert + "&certfile=" + cert + "&keyfile=" + key)
	require.NoError(t, err)
	assert.Len(t, cfg.TLS.Certificates, 1)
	assert.NotNil(t, cfg.TLS.RootCAs)

	for uri, says := range map[string]string{
		"amqps://host?cacertfile=" + dir + "/none":          "cacertfile",
		"amqps://host?cacertfile=" + key:                    "no certificate in",
		"amqps://host?certfile=" + cert:                     "certfile and keyfile go together",
		"amqps://host?keyfile=" + key:                       "certfile and keyfile go together",
		"amqps://host?certfile=" + key + "&keyfile=" + cert: "certfile and keyfile",
		"amqp://host?certfile=" + cert + "&keyfile=" + key:  "amqps",
		"amqps://host?verify=yes":                           "verify_peer nor verify_none",
	} {
		_, err := amqp.ParseURI(uri)
		require.ErrorContains(t, err, says, uri)
	}
}

func writeCertificate(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	}
}

// What is wrong is said, and the password is not, wherever it ends up when its
// special characters are not escaped.
func TestParseURIErrors(t *testing.T) {
	for uri, says := range map[string]string{
		"":                                           "neither amqp:// nor amqps://",
		"host":                                       "neither amqp:// nor amqps://",
		"http://u:hunter2@host":                      "neither amqp:// nor amqps://",
		"amqp:u:hunter2@host":                        "neither amqp:// nor amqps://",
		"amqp://u:hunter2@host:port":                 "port is not a number",
		"amqp://u:hunter2@host:0":                    "port is not a number",
		"amqp://u:hunter2@host:65536":                "port is not a number",
		"amqp://u:hunter2@host:-1":                   "port is not a number",
		"amqp://u:hunter2@host:1:2":                  "port is not a number",
		"amqp://u:hunter2@::1":                       "port is not a number",
		"amqp://u:hunter2@[::1":                      "closing ]",
		"amqp://u:hunter2@[::1]5672":                 "neither :port nor /",
		"amqp://u:hunter2%@host":                     "password has a %",
		"amqp://u:hunter2%zz@host":                   "password has a %",
		"amqp://u%:hunter2@host":                     "user name has a %",
		"amqp://u:hunter2@ho%st":                     "host has a %",
		"amqp://u:hunter2@host/%":                    "virtual host has a %",
		"amqp://u:hunter2@host/a/b":                  "written %2F",
		"amqp://u:hunter2@host/v#x":                  "written %23",
		"amqp://u:hunter2 @host":                     "written %20",
		"amqp://u:hunter2@host\n":                    "written %20",
		"amqp://u:hunter2@host?heartbeat":            "heartbeat",
		"amqp://u:hunter2@host?heartbeat=1.5":        "whole number",
		"amqp://u:hunter2@host?heartbeat=-1":         "whole number",
		"amqp://u:hunter2@host?heartbeat=65536":      "whole number",
		"amqp://u:hunter2@host?frame_max=4294967296": "whole number",
		"amqp://u:hunter2@host?channel_max=70000":    "whole number",
		"amqp://u:hunter2@host?auth_mechanism=SCRAM": "none of plain, amqplain and external",
		"amqp://u:hunter2@host?hartbeat=1":           "hartbeat: unknown",
		"amqp://u:hunter2@host?a=%":                  "query",
		"amqp://u:hunter2@host?verify=verify_none":   "amqps",
		// A password of which a part is taken for something else.
		"amqp://u:#hunter2@host":           "%23",
		"amqp://u:/hunter2@host":           "%2F",
		"amqp://u:1/hunter2@host":          "%2F",
		"amqp://u:1/hunter2@host/v":        "%2F",
		"amqp://u:?hunter2@host":           "%3F",
		"amqp://u:1?hunter2@host":          "%3F",
		"amqp://u:1?hunter2=3@host/v":      "%3F",
		"amqp://u:hunter2/@host":           "%2F",
		"amqp://u:hunter2?@host":           "%3F",
		"amqp://u:p@hunter2/x@host":        "%40",
		"amqp://u:p@ss/hunter2@host":       "%40",
		"amqp://u:p@ss/hunter2@host/":      "%40",
		"amqp://u@corp.com:1/hunter2@host": "%40",
		"amqp://u:p@ss/hunter2@host?a=b":   "%40",
		"amqp://u:p@ss/1?hunter2@host":     "%40",
		"amqp://u:p@ss?hunter2@host":       "%40",
	} {
		_, err := amqp.ParseURI(uri)
		if assert.Error(t, err, uri) {
			assert.Contains(t, err.Error(), says, uri)
			assert.Contains(t, err.Error(), "amqp: URI: ")
			assert.NotContains(t, err.Error(), "hunter2", uri)
		}
	}
}

func TestConfigStringIsAnAddress(t *testing.T) {
	for _, cfg := range []amqp.Config{
		{},
		{Login: "a b@c:d/e?f%g#h+", Host: "host", Port: 1, VirtualHost: "/a?b#c%d e@"},
		{Host: "::1", Login: "ü"},
		{Host: "fe80::1%eth0"},
		{Host: "a%b/c?d#e@f[g] h"},
	} {
		back, err := amqp.ParseURI(cfg.String())
		require.NoError(t, err, cfg.String())
		assert.Equal(t, cfg.String(), back.String())
		if cfg.Host != "" {
			assert.Equal(t, cfg.Host, back.Host)
		}
		if cfg.Login != "" {
			assert.Equal(t, cfg.Login, back.Login)
		}
		if cfg.VirtualHost != "" {
			assert.Equal(t, cfg.VirtualHost, back.VirtualHost)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	for _, uri := range []string{
		"amqp://user:pass@host:10000/vhost", "amqps://[::1]:1/%2F?heartbeat=1&verify=verify_none", "amqp://:@/",
		"amqp://u:p@h?auth_mechanism=plain&connection_name=x", "amqp://%zz", "amqp://[", "amqp://a?b=c;d", "amqp://@@@", "amqp://u:/@", "amqp://u@a%2Fb",
	} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		if readsFiles(uri) {
			return
		}
		cfg, err := amqp.ParseURI(uri)
		if err != nil || cfg.Login == "" {
			return // a password without a login can't be shown
		}
		// What was accepted is shown as an address that means the same.
		back, err := amqp.ParseURI(cfg.String())
		if err != nil || back.String() != cfg.String() {
			t.Errorf("%q becomes %q, which is %q, %v", uri, cfg, back, err)
		}
	})
}

// readsFiles tells whether the query may name files, which a fuzzer has better not open.
func readsFiles(uri string) bool {
	_, query, _ := strings.Cut(uri, "?")
	values, _ := url.ParseQuery(query)
	for key := range values {
		if strings.HasSuffix(key, "file") {
			return true
		}
	}
	return false
}

// FuzzParseURIShowsNoPassword has a password stand where one does, with anything around it: no error shows it.
func FuzzParseURIShowsNoPassword(f *testing.F) {
	for _, around := range [][3]string{
		{"", "", "host"}, {"#", "/", "host"}, {"a/b", "?c=d", "host/v"}, {"%", "%zz", "host:1"}, {":", ":", "[::1]:x"}, {" ", "&", "host?a=b"},
	} {
		f.Add(around[0], around[1], around[2])
	}
	f.Fuzz(func(t *testing.T, before, behind, tail string) {
		if strings.Contains(before+behind, "@") {
			return // where the password ends is anybody's guess then
		}
		uri := "amqps://user:" + before + "hunter2" + behind + "@" + tail
		if readsFiles(uri) {
			return
		}
		cfg, err := amqp.ParseURI(uri)
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", uri, err)
		}
		if shown := cfg.String(); err == nil && strings.Contains(cfg.Password, "hunter2") && strings.Contains(shown, "hunter2") {
			t.Errorf("%q is shown as %q", uri, shown)
		}
	})
}
