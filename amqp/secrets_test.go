package amqp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// Passwords and tokens are in no log, error or trace, whatever goes wrong.

const planted = "s3cr3t-hare"

// requireHidden looks for the secret, as it is and as fmt prints bytes.
func requireHidden(t testing.TB, text string) {
	t.Helper()
	bytes := strings.Trim(fmt.Sprintf("%d", []byte(planted)), "[]")
	for _, form := range []string{planted, fmt.Sprintf("%x", planted), fmt.Sprintf("%X", planted), bytes, strings.ReplaceAll(bytes, " ", ", ")} {
		require.NotContains(t, text, form)
	}
}

// show prints things in all the ways that leak.
func show(things ...any) string {
	var b strings.Builder
	for _, v := range things {
		fmt.Fprintf(&b, "%v %+v %#v %s %q\n", v, v, v, v, v)
	}
	return b.String()
}

// showError prints an error and all that it wraps.
func showError(err error) string {
	if err == nil {
		return ""
	}
	var text strings.Builder
	text.WriteString(show(err))
	switch e := err.(type) { //nolint:errorlint // one level after the other
	case interface{ Unwrap() error }:
		text.WriteString(showError(e.Unwrap()))
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			text.WriteString(showError(one))
		}
	}
	return text.String()
}

// tapped has everything that the client tells written to a book.
func (w *world) tapped() *logged {
	b := w.log()
	note := func(things ...any) { _, _ = b.Write([]byte(show(things...))) }
	w.cfg.Trace = &amqp.Trace{
		DialStart:     func(addr string) { note(addr) },
		DialDone:      func(addr string, err error) { note(addr, showError(err)) },
		Closed:        func(c *amqp.Conn, err error) { note(c, c.ServerProperties(), c.Stats(), showError(err)) },
		ChannelClosed: func(ch *amqp.Channel, err error) { note(ch.ID(), showError(err)) },
		Retry:         func(_ int, _ time.Duration, cause error) { note(showError(cause)) },
	}
	return b
}

func TestSecretsAreToldToNobody(t *testing.T) {
	on := func(method string, do amqptest.Action) func(*world) {
		return func(w *world) { w.broker.On(method, func(*amqptest.Event) amqptest.Action { return do }) }
	}
	for name, wrong := range map[string]func(w *world){
		"nothing":                 func(*world) {},
		"the login":               func(w *world) { w.cfg.Login = "nobody" },
		"no mechanism":            func(w *world) { w.cfg.Auth = []amqp.Mechanism{amqp.External} },
		"the virtual host":        func(w *world) { w.cfg.VirtualHost = "none" },
		"the port":                func(w *world) { w.cfg.Port = -1 },
		"TLS":                     func(w *world) { w.cfg.TLS = &tls.Config{} },
		"a broker that is down":   func(w *world) { w.broker.Close() },
		"a broker that is silent": func(w *world) { w.broker.Stall() },
		"a network that fails": func(w *world) {
			w.cfg.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no") }
		},
		"hung up at the login":        on("connection.start-ok", amqptest.Sever()),
		"closed at the login":         on("connection.start-ok", amqptest.CloseConnection(403, "ACCESS_REFUSED")),
		"nonsense at the login":       on("connection.start-ok", amqptest.Reply([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))),
		"a wrong answer to the login": on("connection.start-ok", amqptest.Reply(amqptest.MethodFrame(0, 10, 41, []byte{0}))),
		"hung up at the tuning":       on("connection.tune-ok", amqptest.Sever()),
		"hung up at the opening":      on("connection.open", amqptest.Sever()),
		"a secret that is refused":    on("connection.update-secret", amqptest.CloseConnection(530, "NOT_ALLOWED")),
		"a secret that is lost":       on("connection.update-secret", amqptest.Drop()),
		"hung up at the secret":       on("connection.update-secret", amqptest.Sever()),
		"nonsense after the secret":   on("connection.update-secret", amqptest.Reply(amqptest.Frame(9, 0, nil))),
	} {
		for _, way := range []string{"Password", "Credentials", "Credentials that fail"} {
			t.Run(name+" by "+way, func(t *testing.T) {
				bubble(t, func(w *world) {
					b := w.tapped()
					w.cfg.Password = planted
					w.cfg.Login = "hare"
					if way != "Password" {
						w.cfg.Password = ""
						w.cfg.Credentials = func(context.Context) (string, string, error) {
							if way == "Credentials" {
								return w.cfg.Login, planted, nil
							}
							return w.cfg.Login, planted, errors.New("the vault is locked")
						}
					}
					w.cfg.DialTimeout, w.cfg.CloseTimeout = time.Second, time.Second
					wrong(w)
					err := amqp.Supervise(context.Background(), w.cfg, amqp.Retry{Attempts: 2}, func(conn *amqp.Conn) error {
						brief, cancel := context.WithTimeout(conn.Context(), time.Second)
						defer cancel()
						token := planted + strings.Repeat("x", 200<<10) // larger than a frame
						requireHidden(w, showError(conn.UpdateSecret(brief, token, "too large")))
						err := conn.UpdateSecret(brief, planted, "refreshed")
						requireHidden(w, showError(err))
						return errors.Join(err, conn.WithChannel(brief, func(*amqp.Channel) error { return nil }))
					})
					requireHidden(w, showError(err)+show(w.cfg, &w.cfg, struct{ C amqp.Config }{w.cfg}))
					told := strings.Join(b.lines(), "\n")
					requireHidden(w, told)
					if name == "nothing" && way != "Credentials that fail" {
						require.NoError(w, err)
						require.NotEmpty(w, told)
					}
					w.broker.Resume()
				}, amqptest.WithUser("hare", planted))
			})
		}
	}
}

// However wrong a URI is put together, its password is not in the error: no piece of it, if it fell apart.
func TestURIWithAPasswordThatFallsApart(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	specials := []string{"@", "/", "?", "#", "%", "%zz", ":", "[", "]", "&", "=", ";", " ", "%40", "\\", "?x=", "&heartbeat="}
	failed := 0
	for range 20_000 {
		var password strings.Builder
		for range 2 + r.IntN(4) {
			password.WriteString("qz" + specials[r.IntN(len(specials))])
		}
		uri := "amqp" + strings.Repeat("s", r.IntN(2)) + "://user:" + password.String() + "qz@host" + []string{"", ":5672", "/", "/v", "?heartbeat=x"}[r.IntN(5)]
		cfg, err := amqp.ParseURI(uri)
		if err != nil {
			failed++
			require.NotContains(t, showError(err), "qz", uri)
		} else {
			require.NotContains(t, show(cfg), "qz", uri)
		}
	}
	assert.Greater(t, failed, 1000)
}
