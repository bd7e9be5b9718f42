// Outbox is a web service that must not lose an order. Its handler answers 202 when
// the broker has confirmed the order, and 503 when that did not happen in time;
// connections are lost and made again beneath it. Here a customer orders, and
// somebody pulls the cable meanwhile.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/examples/internal/demo"
	"github.com/leveret-mq/leveret/scope"
)

const queue = "orders"

func main() { demo.Main(service) }

func service(ctx context.Context, cfg amqp.Config) error {
	outbox := amqp.NewOutbox(amqp.OutboxOptions{Mandatory: true})
	web := httptest.NewServer(takeOrder(outbox))
	defer web.Close()
	var plug cable
	cfg.Dial = plug.dial

	return scope.Run(ctx, func(s *scope.Scope) error {
		s.Go(func(ctx context.Context) error {
			return amqp.Supervise(ctx, cfg, amqp.Retry{OnRetry: tell}, func(conn *amqp.Conn) error {
				// This runs on every connection: what is declared here is declared again.
				if err := declare(conn); err != nil {
					return err
				}
				return outbox.Run(conn)
			})
		})
		for i := range 6 {
			if i == 3 {
				plug.pull()
			}
			if err := order(s.Context(), web.URL, fmt.Sprintf("%d carrots", i+1)); err != nil {
				return err
			}
		}
		s.Cancel(nil) // ends Supervise
		return nil
	})
}

// takeOrder is the handler. Nothing in it knows of connections.
func takeOrder(outbox *amqp.Outbox) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		msg := amqp.Message{Properties: amqp.Properties{DeliveryMode: amqp.Persistent}, Body: body}
		if err := outbox.Publish(ctx, "", queue, msg); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}
}

func declare(conn *amqp.Conn) error {
	ctx := conn.Context()
	return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: queue, Durable: true})
		return err
	})
}

func tell(_ int, delay time.Duration, cause error) {
	fmt.Printf("lost the connection, next try in %v: %v\n", delay.Round(time.Millisecond), cause)
}

// order is the customer.
func order(ctx context.Context, url, what string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(what))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	fmt.Printf("ordered %s: %s\n", what, resp.Status)
	return resp.Body.Close()
}

// cable is the network connection, for whoever wants to pull it.
type cable struct{ plugged atomic.Pointer[net.Conn] }

func (c *cable) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil {
		c.plugged.Store(&nc)
	}
	return nc, err
}

func (c *cable) pull() {
	if nc := c.plugged.Load(); nc != nil {
		fmt.Println("somebody pulls the cable")
		_ = (*nc).Close()
	}
}
