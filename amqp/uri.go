package amqp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// ParseURI reads an address such as
// amqps://user:password@host:5671/vhost?heartbeat=10, as RabbitMQ's URI
// specification has it. A part that is left out or empty has its default; in
// particular a virtual host of "" means "/". Characters with a meaning of
// their own are written percent-encoded: a password p#1/2@3 as p%231%2F2%403, a
// virtual host a@b as a%40b.
//
// The query may hold heartbeat (seconds), connection_timeout (milliseconds),
// channel_max, frame_max, auth_mechanism (plain, amqplain or external; may be
// repeated), connection_name, and for amqps: cacertfile, certfile, keyfile
// (PEM files, read here), verify (verify_peer or verify_none) and
// server_name_indication.
//
// No error shows the password.
// https://www.rabbitmq.com/docs/uri-spec
// https://www.rabbitmq.com/docs/uri-query-parameters
func ParseURI(uri string) (Config, error) {
	var cfg Config
	if err := parseURI(&cfg, uri); err != nil {
		return Config{}, fmt.Errorf("amqp: URI: %w", err)
	}
	return cfg, nil
}

func parseURI(cfg *Config, uri string) error {
	if strings.ContainsAny(uri, " \t\r\n") {
		return errors.New("it holds white space, which is written %20")
	}
	scheme, rest, ok := strings.Cut(uri, "://")
	switch strings.ToLower(scheme) {
	case "amqp":
	case "amqps":
		cfg.TLS = new(tls.Config)
	default:
		ok = false
	}
	if !ok {
		return errors.New("it starts with neither amqp:// nor amqps://")
	}
	if strings.Contains(rest, "#") {
		return errors.New("it holds a #, which is written %23")
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, vhost, _ := strings.Cut(rest, "/")
	if strings.Contains(vhost, "@") || !strings.Contains(authority, "@") && strings.Contains(query, "@") {
		// Most likely the rest of a password, which must not be shown, nor be dialled.
		return errors.New("an @ behind the host is written %40; so is one in a user name or password, where a / is written %2F, and a ? %3F")
	}
	if strings.Contains(vhost, "/") {
		return errors.New("a / in the virtual host, or in a password, is written %2F")
	}
	var err error
	if cfg.VirtualHost, err = unescape("virtual host", vhost); err != nil {
		return err
	}
	if err := parseAuthority(cfg, authority); err != nil {
		return err
	}
	return parseQuery(cfg, query)
}

func parseAuthority(cfg *Config, authority string) (err error) {
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		login, password, _ := strings.Cut(authority[:at], ":")
		if cfg.Login, err = unescape("user name", login); err != nil {
			return err
		}
		if cfg.Password, err = unescape("password", password); err != nil {
			return err
		}
		authority = authority[at+1:]
	}
	host, port := authority, ""
	if strings.HasPrefix(authority, "[") {
		end := strings.IndexByte(authority, ']')
		if end < 0 {
			return errors.New("the IPv6 address has no closing ]")
		}
		host, port = authority[1:end], authority[end+1:]
		if port != "" && port[0] != ':' {
			return errors.New("after the IPv6 address comes neither :port nor /")
		}
		port = strings.TrimPrefix(port, ":")
	} else if before, after, ok := strings.Cut(authority, ":"); ok {
		host, port = before, after
	}
	if cfg.Host, err = unescape("host", host); err != nil {
		return err
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			// The text is not shown: it is the rest of a password when a / in one was not escaped.
			return errors.New("the port is not a number from 1 to 65535 (an IPv6 address is written in [], a / in a password %2F)")
		}
		cfg.Port = int(n)
	}
	return nil
}

func unescape(what, s string) (string, error) {
	out, err := url.PathUnescape(s)
	if err != nil {
		return "", fmt.Errorf("the %s has a %% that is not followed by two hexadecimal digits; a %% itself is written %%25", what)
	}
	return out, nil
}

func parseQuery(cfg *Config, query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("the query after ? is malformed")
	}
	var files tlsFiles
	for key, all := range values {
		for _, value := range all {
			if err := setQuery(cfg, &files, key, value); err != nil {
				if strings.Contains(query, "@") {
					// Most likely the rest of a password, which must not be shown.
					return errors.New("a query parameter is unknown or wrong; a ? in a password is written %3F, and an @ %40")
				}
				return fmt.Errorf("query parameter %s: %w", key, err)
			}
		}
	}
	return files.apply(cfg)
}

func setQuery(cfg *Config, files *tlsFiles, key, value string) error {
	number := func(bits int) (uint64, error) {
		n, err := strconv.ParseUint(value, 10, bits)
		if err != nil {
			return 0, fmt.Errorf("%q is not a whole number that fits", value)
		}
		return n, nil
	}
	switch key {
	case "heartbeat":
		n, err := number(16)
		cfg.Heartbeat = time.Duration(n) * time.Second
		if n == 0 {
			cfg.Heartbeat = -1
		}
		return err
	case "connection_timeout":
		n, err := number(31)
		cfg.DialTimeout = time.Duration(n) * time.Millisecond
		return err
	case "channel_max":
		n, err := number(16)
		cfg.ChannelMax = uint16(n)
		return err
	case "frame_max":
		n, err := number(32)
		cfg.FrameMax = uint32(n)
		return err
	case "connection_name":
		cfg.ConnectionName = value
		return nil
	case "auth_mechanism":
		return addMechanism(cfg, value)
	}
	return files.set(cfg, key, value)
}

func addMechanism(cfg *Config, name string) error {
	for _, m := range []Mechanism{Plain, AMQPlain, External} {
		if strings.EqualFold(m.Name(), name) {
			cfg.Auth = append(cfg.Auth, m)
			return nil
		}
	}
	return fmt.Errorf("%q is none of plain, amqplain and external", name)
}

// tlsFiles are the query parameters of amqps, which work together.
type tlsFiles struct{ ca, cert, key string }

func (f *tlsFiles) set(cfg *Config, key, value string) error {
	known := key == "cacertfile" || key == "certfile" || key == "keyfile" || key == "verify" || key == "server_name_indication"
	switch {
	case !known:
		return errors.New("unknown; see ParseURI for those that are known")
	case cfg.TLS == nil:
		return errors.New("it goes with amqps:// only")
	}
	switch key {
	case "cacertfile":
		f.ca = value
	case "certfile":
		f.cert = value
	case "keyfile":
		f.key = value
	case "server_name_indication":
		cfg.TLS.ServerName = value
	case "verify":
		if value != "verify_peer" && value != "verify_none" {
			return fmt.Errorf("%q is neither verify_peer nor verify_none", value)
		}
		cfg.TLS.InsecureSkipVerify = value == "verify_none" // #nosec G402 -- asked for by name
	}
	return nil
}

func (f *tlsFiles) apply(cfg *Config) error {
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return fmt.Errorf("query parameter cacertfile: %w", err)
		}
		cfg.TLS.RootCAs = x509.NewCertPool()
		if !cfg.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("query parameter cacertfile: no certificate in %s", f.ca)
		}
	}
	if (f.cert == "") != (f.key == "") {
		return errors.New("the query parameters certfile and keyfile go together")
	}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return fmt.Errorf("query parameters certfile and keyfile: %w", err)
		}
		cfg.TLS.Certificates = []tls.Certificate{pair}
	}
	return nil
}
