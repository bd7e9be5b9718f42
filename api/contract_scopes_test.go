package api_test

import (
	"context"
	"iter"
	"net"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/amqp/rpc"
	xiter "github.com/leveret-mq/leveret/iter"
	"github.com/leveret-mq/leveret/scope"
)

// The packages around amqp.
var (
	_ func(ctx, func(*scope.Scope) error) error                                                            = scope.Run
	_ func(*scope.Scope) ctx                                                                               = (*scope.Scope).Context
	_ func(*scope.Scope, func(ctx) error)                                                                  = (*scope.Scope).Go
	_ func(*scope.Scope, func(ctx, func()) error) error                                                    = (*scope.Scope).Start
	_ func(*scope.Scope, error)                                                                            = (*scope.Scope).Cancel
	_ func(ctx, time.Duration, func(ctx) error) error                                                      = scope.Shield
	_ func(ctx, int, iter.Seq2[string, int], func(ctx, string, int) error) error                           = scope.ForEach[string, int]
	_ func(ctx, *amqp.Channel, func(*rpc.Client) error) error                                              = rpc.WithClient
	_ func(*rpc.Client, ctx, string, string, amqp.Message) ([]byte, *amqp.Envelope, error)                 = (*rpc.Client).Call
	_ func(ctx, *amqp.Channel, string, int, func(ctx, []byte, *amqp.Envelope) (amqp.Message, error)) error = rpc.Serve

	// The scopes that everything lives in.
	_ = []func(*scope.Scope){
		func(s *scope.Scope) { _ = amqp.Conn{Scope: s} }, func(s *scope.Scope) { _ = amqp.Channel{Scope: s} },
		func(s *scope.Scope) { _ = amqp.Consumer{Scope: s} }, func(s *scope.Scope) { _ = amqp.Publisher{Scope: s} },
	}

	// Their names for a loop are the standard library's types.
	_ iter.Seq[int]          = xiter.Seq[int](nil)
	_ iter.Seq2[int, string] = xiter.Seq2[int, string](nil)

	_                                                                           = func() *amqptest.Broker { return amqptest.NewBroker() }
	_ func(*amqptest.Broker) string                                             = (*amqptest.Broker).URI
	_ func(*amqptest.Broker, context.Context, string, string) (net.Conn, error) = (*amqptest.Broker).Dial
	_ func(*amqptest.Broker)                                                    = (*amqptest.Broker).Close
)

// The faults that amqptest makes.
func _(b *amqptest.Broker) {
	b.Block("reason")
	b.Unblock()
	b.CloseConnections(320, "text")
	b.Sever()
	b.Stall()
	b.Resume()
	b.NackNext(1)
	b.CancelConsumers("queue")
}
