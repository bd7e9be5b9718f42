package amqptest

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"regexp"
	"strings"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// A Permission lets a user into a virtual host. Each pattern is a regular expression for the names of queues and
// exchanges: Configure to declare and delete, Write to publish and bind, Read to consume and bind from.
// An empty pattern matches nothing but the empty name.
type Permission struct {
	VHost                  string
	Configure, Write, Read string
}

type operation int

const (
	configure operation = iota
	write
	read
)

type user struct {
	Name, Password string
	all            bool
	permissions    map[string][3]*regexp.Regexp // by virtual host
}

func newUser(name, password string, permissions []Permission) *user {
	u := &user{Name: name, Password: password, all: len(permissions) == 0, permissions: map[string][3]*regexp.Regexp{}}
	for _, p := range permissions {
		u.permissions[p.VHost] = [3]*regexp.Regexp{wholeName(p.Configure), wholeName(p.Write), wholeName(p.Read)}
	}
	return u
}

func wholeName(pattern string) *regexp.Regexp {
	if pattern == "" {
		pattern = "^$" // what RabbitMQ makes of no pattern
	}
	return regexp.MustCompile(pattern)
}

func (u *user) mayEnter(vhost string) bool {
	_, ok := u.permissions[vhost]
	return u.all || ok
}

// may checks the user's right to do something with a queue or an exchange.
func (c *conn) may(op operation, what, name string) *exception {
	if c.user.all {
		return nil
	}
	known := name
	if what == "exchange" && name == "" {
		known = "amq.default" // as which the default exchange appears in permissions
	}
	if c.user.permissions[c.vhost.name][op].MatchString(known) {
		return nil
	}
	return fail(accessRefused, "access to %s refused for user '%s'", subject(what, known, c.vhost.name), c.user.Name)
}

// mayLook checks that a passive declaration is permitted.
func (c *conn) mayLook(what, name string) (e *exception) {
	if !c.broker.cfg.version.passiveNeedsRight {
		return nil
	}
	for _, op := range []operation{read, write, configure} {
		if e = c.may(op, what, name); e == nil {
			break
		}
	}
	return e
}

// mechanisms are the ways to log in: each takes the response of connection.start-ok.
var mechanisms map[string]func(*conn, []byte) *exception

func init() {
	mechanisms = map[string]func(*conn, []byte) *exception{
		"PLAIN": plain, "AMQPLAIN": amqplain, "EXTERNAL": external, "RABBIT-CR-DEMO": challenge,
	}
}

func (c *conn) login(mechanism, name, password string) *exception {
	if u := c.broker.users[name]; u == nil || u.Password != password {
		return c.loginFailed(mechanism)
	}
	return c.loggedIn(name)
}

func plain(c *conn, response []byte) *exception {
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 {
		return c.loginFailed("PLAIN")
	}
	return c.login("PLAIN", string(parts[1]), string(parts[2]))
}

// amqplain reads a table without the length that tables have elsewhere.
func amqplain(c *conn, response []byte) *exception {
	t, _, err := wire.DecodeTable(append(binary.BigEndian.AppendUint32(nil, uint32(len(response))), response...))
	if err != nil {
		return c.loginFailed("AMQPLAIN")
	}
	name, _ := t["LOGIN"].(string)
	password, _ := t["PASSWORD"].(string)
	return c.login("AMQPLAIN", name, password)
}

// external takes the common name of the client's certificate.
func external(c *conn, _ []byte) *exception {
	secured, ok := c.nc.(*tls.Conn)
	if !ok {
		return c.loginFailed("EXTERNAL")
	}
	certificates := secured.ConnectionState().PeerCertificates
	if len(certificates) == 0 || c.broker.users[certificates[0].Subject.CommonName] == nil {
		return c.loginFailed("EXTERNAL")
	}
	return c.loggedIn(certificates[0].Subject.CommonName)
}

// challenge is RabbitMQ's demonstration of a mechanism that takes connection.secure.
func challenge(c *conn, response []byte) *exception {
	name := string(response)
	c.secret = func(answer []byte) (string, bool) {
		password, ok := strings.CutPrefix(string(answer), "My password is ")
		u := c.broker.users[name]
		return name, ok && u != nil && u.Password == password
	}
	c.stage = awaitSecureOk
	c.send(0, &wire.ConnectionSecure{Challenge: []byte("Please tell me your password")})
	return nil
}
