package api_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/leveret-mq/leveret/amqp"
)

// What programs outside are compiled against: names, signatures and fields that stay as they are. Others may be added.

type ctx = context.Context

var (
	_ func(ctx, amqp.Config, func(*amqp.Conn) error) error             = amqp.WithConnection
	_ func(ctx, amqp.Config, func(*amqp.Channel) error) error          = amqp.WithChannel
	_ func(ctx, amqp.Config, amqp.Retry, func(*amqp.Conn) error) error = amqp.Supervise
	_ func(string) (amqp.Config, error)                                = amqp.ParseURI
	_ func(amqp.OutboxOptions) *amqp.Outbox                            = amqp.NewOutbox
	_ func(time.Duration) string                                       = amqp.TTL

	_ fmt.Stringer   = amqp.Config{}
	_ fmt.GoStringer = amqp.Config{}
)

var _ = amqp.Config{
	Host: "localhost", Port: 5672, Endpoints: []string{"second:5672"}, Login: "guest", Password: "guest", VirtualHost: "/",
	TLS:         &tls.Config{MinVersion: tls.VersionTLS12},
	Credentials: func(ctx) (login, password string, err error) { return "", "", nil },
	Auth:        []amqp.Mechanism{amqp.Plain, amqp.AMQPlain, amqp.External},
	Insist:      false, ChannelMax: uint16(0), FrameMax: uint32(0), Heartbeat: time.Duration(0),
	ClientProperties: amqp.Table{}, ConnectionName: "", MaxMessageSize: int64(0), DialTimeout: time.Second, CloseTimeout: time.Second,
	Dial:   func(_ ctx, network, addr string) (net.Conn, error) { return nil, nil },
	Logger: (*slog.Logger)(nil), Trace: (*amqp.Trace)(nil),
}

var (
	_ func(*amqp.Conn, ctx, func(*amqp.Channel) error) error         = (*amqp.Conn).WithChannel
	_ func(*amqp.Conn, ctx, string, string) error                    = (*amqp.Conn).UpdateSecret
	_ func(*amqp.Conn) iter.Seq2[bool, string]                       = (*amqp.Conn).Blocked
	_ func(*amqp.Conn) amqp.Table                                    = (*amqp.Conn).ServerProperties
	_ func(*amqp.Conn) amqp.Tuning                                   = (*amqp.Conn).Tuning
	_ func(*amqp.Conn, ctx, string) (amqp.QueueStatus, error)        = (*amqp.Conn).QueueStatus
	_ func(*amqp.Conn, ctx, string) (bool, error)                    = (*amqp.Conn).ExchangeExists
	_ func(*amqp.Conn) net.Addr                                      = (*amqp.Conn).LocalAddr
	_ func(*amqp.Conn) net.Addr                                      = (*amqp.Conn).RemoteAddr
	_ func(*amqp.Conn) amqp.Stats                                    = (*amqp.Conn).Stats
	_                                                                = amqp.Tuning{ChannelMax: uint16(0), FrameMax: uint32(0), Heartbeat: time.Second}
	_ func(*amqp.Conn) ctx                                           = (*amqp.Conn).Context
	_ func(*amqp.Conn, func(ctx) error)                              = (*amqp.Conn).Go
	_ func(*amqp.Conn, func(ctx, func()) error) error                = (*amqp.Conn).Start
	_ func(*amqp.Conn, error)                                        = (*amqp.Conn).Cancel
	_ func(*amqp.Channel) uint16                                     = (*amqp.Channel).ID
	_ func(*amqp.Channel, ctx, amqp.Queue) (amqp.QueueStatus, error) = (*amqp.Channel).QueueDeclare
	_ func(*amqp.Channel, ctx, amqp.QueueDelete) (int, error)        = (*amqp.Channel).QueueDelete
	_ func(*amqp.Channel, ctx, amqp.Binding) error                   = (*amqp.Channel).QueueBind
	_ func(*amqp.Channel, ctx, amqp.Binding) error                   = (*amqp.Channel).QueueUnbind
	_ func(*amqp.Channel, ctx, amqp.QueuePurge) (int, error)         = (*amqp.Channel).QueuePurge
	_ func(*amqp.Channel, ctx, amqp.Exchange) error                  = (*amqp.Channel).ExchangeDeclare
	_ func(*amqp.Channel, ctx, amqp.ExchangeDelete) error            = (*amqp.Channel).ExchangeDelete
	_ func(*amqp.Channel, ctx, amqp.ExchangeBinding) error           = (*amqp.Channel).ExchangeBind
	_ func(*amqp.Channel, ctx, amqp.ExchangeBinding) error           = (*amqp.Channel).ExchangeUnbind
	_ func(*amqp.Channel, ctx, amqp.Topology) error                  = (*amqp.Channel).Declare
)

var (
	_ = amqp.Queue{Name: "", Passive: false, Durable: false, Exclusive: false, AutoDelete: false, NoWait: false, Arguments: amqp.Table{}}
	_ = amqp.QueueStatus{Name: "", Messages: int(0), Consumers: int(0)}
	_ = amqp.QueueDelete{Name: "", IfUnused: false, IfEmpty: false, NoWait: false}
	_ = amqp.QueuePurge{Name: "", NoWait: false}
	_ = amqp.Binding{Queue: "", Exchange: "", RoutingKey: "", NoWait: false, Arguments: amqp.Table{}}
	_ = amqp.Exchange{
		Name: "", Kind: amqp.Direct, Passive: false, Durable: false, AutoDelete: false, Internal: false, NoWait: false, Arguments: amqp.Table{},
	}
	_ = amqp.ExchangeDelete{Name: "", IfUnused: false, NoWait: false}
	_ = amqp.ExchangeBinding{Destination: "", Source: "", RoutingKey: "", NoWait: false, Arguments: amqp.Table{}}
	_ = amqp.Topology{
		Exchanges: []amqp.Exchange{}, Queues: []amqp.Queue{}, Bindings: []amqp.Binding{}, ExchangeBindings: []amqp.ExchangeBinding{},
	}
)

// Messages out.
var (
	_ func(*amqp.Channel, ctx, string, string, amqp.Message) error                       = (*amqp.Channel).Publish
	_ func(*amqp.Channel, ctx) error                                                     = (*amqp.Channel).Confirm
	_ func(*amqp.Channel) iter.Seq2[[]byte, *amqp.Return]                                = (*amqp.Channel).Returns
	_ func(*amqp.Channel, ctx, amqp.PublisherOptions, func(*amqp.Publisher) error) error = (*amqp.Channel).WithPublisher
	_ func(*amqp.Channel, ctx, func() error) error                                       = (*amqp.Channel).WithTx
	_ func(*amqp.Publisher, ctx, string, string, amqp.Message) (amqp.Receipt, error)     = (*amqp.Publisher).Publish
	_ func(*amqp.Publisher, ctx) error                                                   = (*amqp.Publisher).Wait
	_ func(amqp.Receipt, ctx) error                                                      = amqp.Receipt.Wait
	_ func(*amqp.Outbox, ctx, string, string, amqp.Message) error                        = (*amqp.Outbox).Publish
	_ func(*amqp.Outbox, *amqp.Conn) error                                               = (*amqp.Outbox).Run
	_                                                                                    = amqp.PublisherOptions{MaxInFlight: int(0), Mandatory: false, OnFailure: func(*amqp.PublishError) error { return nil }}
	_ error                                                                              = &amqp.PublishError{Exchange: "", RoutingKey: "", Sequence: uint64(0), Return: (*amqp.Return)(nil), Err: nil}
	_                                                                                    = amqp.Return{ReplyCode: amqp.NoRoute, ReplyText: "", Exchange: "", RoutingKey: "", Properties: amqp.Properties{}}
	_                                                                                    = amqp.Retry{Min: 0, Max: 0, Attempts: int(0), OnRetry: func(attempt int, delay time.Duration, cause error) {}}
	_                                                                                    = amqp.OutboxOptions{}
	_                                                                                    = amqp.Message{Properties: amqp.Properties{}, Body: []byte{}, Mandatory: false, Immediate: false}
)

var _ = amqp.Properties{
	ContentType: "", ContentEncoding: "", Headers: amqp.Table{}, DeliveryMode: amqp.Persistent, Priority: uint8(0), CorrelationID: "",
	ReplyTo: "", Expiration: "", MessageID: "", Timestamp: time.Time{}, Type: "", UserID: "", AppID: "", ClusterID: "",
}

type handler = func(ctx, []byte, *amqp.Envelope) error

// Messages in.
var (
	_ func(*amqp.Channel, ctx, amqp.Consume, func(*amqp.Consumer) error) error = (*amqp.Channel).WithConsumer
	_ func(*amqp.Channel, ctx, string, bool) ([]byte, *amqp.Envelope, error)   = (*amqp.Channel).Get
	_ func(*amqp.Channel, ctx, amqp.Qos) error                                 = (*amqp.Channel).Qos
	_ func(*amqp.Channel, ctx, bool) error                                     = (*amqp.Channel).Flow
	_ func(*amqp.Channel, ctx, bool) error                                     = (*amqp.Channel).Recover
	_ func(*amqp.Channel, bool) error                                          = (*amqp.Channel).RecoverAsync
	_ func(*amqp.Channel, uint64, bool) error                                  = (*amqp.Channel).Ack
	_ func(*amqp.Channel, uint64, bool, bool) error                            = (*amqp.Channel).Nack
	_ func(*amqp.Channel, uint64, bool) error                                  = (*amqp.Channel).Reject
	_ func(*amqp.Consumer) string                                              = (*amqp.Consumer).Tag
	_ func(*amqp.Consumer) iter.Seq2[[]byte, *amqp.Envelope]                   = (*amqp.Consumer).Messages
	_ func(*amqp.Consumer, int, time.Duration) iter.Seq[*amqp.Batch]           = (*amqp.Consumer).Batches
	_ func(*amqp.Consumer, int, handler) error                                 = (*amqp.Consumer).Process
	_ func(*amqp.Consumer) error                                               = (*amqp.Consumer).Err
	_ func(*amqp.Envelope) ctx                                                 = (*amqp.Envelope).Context
	_ func(*amqp.Envelope) error                                               = (*amqp.Envelope).Ack
	_ func(*amqp.Envelope) error                                               = (*amqp.Envelope).AckUpTo
	_ func(*amqp.Envelope, bool) error                                         = (*amqp.Envelope).Nack
	_ func(*amqp.Envelope, bool) error                                         = (*amqp.Envelope).Reject
	_ func(*amqp.Batch) iter.Seq2[[]byte, *amqp.Envelope]                      = (*amqp.Batch).All
	_ func(*amqp.Batch) int                                                    = (*amqp.Batch).Len
	_ func(*amqp.Batch) error                                                  = (*amqp.Batch).Ack
	_ func(*amqp.Batch, bool) error                                            = (*amqp.Batch).Nack
	_                                                                          = amqp.Qos{PrefetchCount: int(0), PrefetchSize: int(0), Global: false}
	_                                                                          = amqp.Consume{Queue: "", Tag: "", NoLocal: false, NoAck: false, Exclusive: false, NoWait: false, Prefetch: int(0), Arguments: amqp.Table{}}
	_                                                                          = amqp.Envelope{ConsumerTag: "", DeliveryTag: uint64(0), Exchange: "", RoutingKey: "", Redelivered: false, MessageCount: int(0), Properties: (*amqp.Properties)(nil)}
)

// Errors and constants.
var (
	_ error          = amqp.ReplyCode(0)
	_ error          = &amqp.Error{Code: amqp.NotFound, Text: "", ClassID: uint16(0), MethodID: uint16(0), Connection: false}
	_                = amqp.Decimal{Scale: uint8(0), Value: int32(0)}
	_ map[string]any = amqp.Table{}
	_ [2]uint8       = [...]uint8{amqp.Transient, amqp.Persistent}
	_                = []error{
		amqp.Drop, amqp.ErrConnectionClosed, amqp.ErrChannelClosed, amqp.ErrConsumerCancelled, amqp.ErrHeartbeatTimeout, amqp.ErrEmptyQueue,
		amqp.ErrNoChannel, amqp.ErrMessageTooLarge, amqp.ErrAlreadySettled, amqp.ErrNacked, amqp.ErrReturned, amqp.ErrUnconfirmed, amqp.ErrProtocol,
	}
)

func TestConstantsAreThoseOfTheProtocol(t *testing.T) {
	for want, have := range map[uint16]amqp.ReplyCode{
		311: amqp.ContentTooLarge, 312: amqp.NoRoute, 313: amqp.NoConsumers, 320: amqp.ConnectionForced, 402: amqp.InvalidPath,
		403: amqp.AccessRefused, 404: amqp.NotFound, 405: amqp.ResourceLocked, 406: amqp.PreconditionFailed, 501: amqp.FrameError,
		502: amqp.SyntaxError, 503: amqp.CommandInvalid, 504: amqp.ChannelError, 505: amqp.UnexpectedFrame, 506: amqp.ResourceError,
		530: amqp.NotAllowed, 540: amqp.NotImplemented, 541: amqp.InternalError,
	} {
		assert.Equal(t, want, uint16(have))
	}
	assert.Equal(t, []string{"direct", "fanout", "topic", "headers"}, []string{amqp.Direct, amqp.Fanout, amqp.Topic, amqp.Headers})
	assert.Equal(t, []uint8{1, 2}, []uint8{amqp.Transient, amqp.Persistent})
}
