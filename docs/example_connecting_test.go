package docs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// With TLS, the certificate is checked by an authority of one's own, or else by those of the system.
func Example_tls() {
	web := httptest.NewTLSServer(nil) // which has a certificate
	defer web.Close()
	authorities := x509.NewCertPool()
	authorities.AddCert(web.Certificate())
	broker := amqptest.NewBroker(amqptest.WithTLS(&tls.Config{Certificates: web.TLS.Certificates}), amqptest.WithLogger(quiet))
	defer broker.Close()
	cfg, err := amqp.ParseURI(broker.URI())
	if err != nil {
		fmt.Println(err)
		return
	}
	nothing := func(*amqp.Conn) error { return nil }
	cfg.TLS = &tls.Config{}
	fmt.Println("without the authority:", amqp.WithConnection(context.Background(), cfg, nothing) == nil)
	cfg.TLS = &tls.Config{RootCAs: authorities}
	fmt.Println("with it:", amqp.WithConnection(context.Background(), cfg, nothing) == nil)
	// Output:
	// without the authority: false
	// with it: true
}

// A token is asked for at every connect, and renewed while the connection lives.
func Example_tokens() {
	broker := amqptest.NewBroker(amqptest.WithUser("service", "token 1"))
	defer broker.Close()
	issued := 0
	issue := func(context.Context) (string, error) {
		issued++
		return fmt.Sprint("token ", issued), nil
	}
	work := func(ctx context.Context, _ *amqp.Conn) error {
		return broker.Wait(ctx, func() bool { return broker.Connections()[0].LastSecret != "" }) // "token 2", or a later one
	}
	ctx, cfg, renewal := context.Background(), amqp.Config{Dial: broker.Dial}, 50*time.Millisecond

	cfg.Credentials = func(ctx context.Context) (login, password string, err error) {
		token, err := issue(ctx)
		return "service", token, err
	}
	err := amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
		defer conn.Cancel(nil) // the task ends with the body
		conn.Go(func(ctx context.Context) error {
			for {
				select {
				case <-time.After(renewal): // well before the token expires
				case <-ctx.Done():
					return context.Cause(ctx)
				}
				token, err := issue(ctx)
				if err == nil {
					err = conn.UpdateSecret(ctx, token, "the old one expires")
				}
				if err != nil {
					return err
				}
			}
		})
		return work(ctx, conn)
	})
	fmt.Println(err)
	// Output: <nil>
}
