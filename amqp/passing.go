package amqp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
)

// saying is a kind of exception: a code, and what the text that goes with it
// contains, since a broker uses one code for much that has nothing in common.
type saying struct {
	code ReplyCode
	text string
}

// passing are RabbitMQ's exceptions that need no change of the program to go
// away, among those whose codes usually do.
// https://www.rabbitmq.com/docs/clustering#node-failure
var passing = []saying{
	// The node of a classic queue.
	{NotFound, "is down or inaccessible"},
	{NotFound, "process is stopped by supervisor"},
	{NotFound, "has crashed and failed to restart"},
	{NotFound, "failed to perform operation on"},
	// The node has no replica of the stream that runs, or not yet.
	{PreconditionFailed, "does not have a running replica on the local node"},
	// A handler took longer than consumer_timeout. RabbitMQ 4.3 cancels the consumer instead.
	{PreconditionFailed, "delivery acknowledgement on channel"},
	// An exclusive queue and an exclusive consumer go with their connection.
	{ResourceLocked, "cannot obtain exclusive access"},
	{AccessRefused, "in exclusive use"},
	// The limit of a node, a virtual host, or a user.
	{NotAllowed, "connection limit"},
	// What RabbitMQ asks about permissions did not answer; or it found that a token
	// has expired, and the next connection asks Config.Credentials.
	{AccessRefused, "returned an error"},
	{NotAllowed, "returned an error"},
}

// staying are exceptions that stay, among those whose codes usually pass.
var staying = []saying{
	// A transient queue, say, that RabbitMQ 4.3 does not permit.
	{InternalError, "is deprecated"},
}

func (e *Error) isAmong(list []saying) bool {
	return slices.ContainsFunc(list, func(s saying) bool { return e.Code == s.code && strings.Contains(e.Text, s.text) })
}

// passes tells whether err is a refusal that may be none later.
func passes(err error) bool {
	var said *Error
	return errors.As(err, &said) && said.isAmong(passing) || errors.Is(err, ErrConsumerCancelled)
}

// isPermanent tells whether an attempt to connect would fail in the same way for
// ever.
func isPermanent(err error) bool {
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	refused := errors.Is(err, AccessRefused) || errors.Is(err, NotAllowed)
	return refused && !passes(err) || errors.As(err, &certificate) ||
		errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}

// isOwnFault tells whether a connection ended by something that body would do
// again.
func isOwnFault(lost error) bool {
	var said *Error
	if !errors.As(lost, &said) {
		return errors.Is(lost, ErrMessageTooLarge)
	}
	switch said.Code {
	case ConnectionForced, InternalError, ResourceError:
		return said.isAmong(staying)
	}
	return true
}
