package otelamqp

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"

	"github.com/leveret-mq/leveret/amqp"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// setServer notes the node that took the last connection.
func (in *Instrumentation) setServer(addr string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		host, port = "localhost", "5672" // what an empty Config connects to
	}
	attrs := []attribute.KeyValue{semconv.ServerAddress(host)}
	if n, err := strconv.Atoi(port); err == nil && n != 0 {
		attrs = append(attrs, semconv.ServerPort(n))
	}
	in.server.Store(&attrs)
}

// with puts attributes behind those of the server.
func (in *Instrumentation) with(attrs ...attribute.KeyValue) []attribute.KeyValue {
	return append(attrs, *in.server.Load()...)
}

// destination joins the names that say where a message goes.
func destination(names ...string) string {
	var parts []string
	for _, name := range names {
		if name != "" && (len(parts) == 0 || parts[len(parts)-1] != name) {
			parts = append(parts, name)
		}
	}
	if len(parts) == 0 {
		return defaultExchange
	}
	return strings.Join(parts, ":")
}

// defaultExchange is what the conventions call an exchange that has no name.
const defaultExchange = "amq.default"

// message are the attributes of a message's properties.
func message(p *amqp.Properties) (attrs []attribute.KeyValue) {
	if p.MessageID != "" {
		attrs = append(attrs, semconv.MessagingMessageID(p.MessageID))
	}
	if p.CorrelationID != "" {
		attrs = append(attrs, semconv.MessagingMessageConversationID(p.CorrelationID))
	}
	return attrs
}

// named are the errors that have a word of their own. The first that fits is it.
var named = []struct {
	err  error
	name string
}{
	{amqp.ErrNacked, "nacked"}, {amqp.ErrReturned, "returned"}, {amqp.ErrUnconfirmed, "unconfirmed"}, {amqp.Drop, "drop"},
	{errPanic, "panic"}, {context.DeadlineExceeded, "timeout"}, {context.Canceled, "canceled"},
}

// errPanic stands for the end of a handler that did not return.
var errPanic = errors.New("the handler panicked")

// errorType classifies an error by few values.
func errorType(err error) attribute.KeyValue {
	for _, n := range named {
		if errors.Is(err, n.err) {
			return semconv.ErrorTypeKey.String(n.name)
		}
	}
	if code, ok := errors.AsType[amqp.ReplyCode](err); ok {
		return semconv.ErrorTypeKey.String(strconv.Itoa(int(code)))
	}
	switch {
	case errors.Is(err, amqp.ErrConnectionClosed):
		return semconv.ErrorTypeKey.String("connection_closed")
	case errors.Is(err, amqp.ErrChannelClosed):
		return semconv.ErrorTypeKey.String("channel_closed")
	}
	return semconv.ErrorType(err)
}
