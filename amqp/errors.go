package amqp

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// ReplyCode is the number by which a broker names an exception. It is an
// error itself, so that errors.Is(err, amqp.NotFound) finds it in whatever a
// call or a scope returned.
type ReplyCode uint16

// The reply codes of AMQP 0-9-1. Those below 500, ConnectionForced and
// InvalidPath apart, close a channel; the others close the connection.
const (
	ContentTooLarge    ReplyCode = 311 // RabbitMQ says PreconditionFailed of too large a message
	NoRoute            ReplyCode = 312 // of a Return: no queue takes the mandatory message
	NoConsumers        ReplyCode = 313 // of a Return: no consumer takes the immediate message
	ConnectionForced   ReplyCode = 320 // an operator, or a node that shuts down, closed the connection
	InvalidPath        ReplyCode = 402 // an unknown virtual host, to brokers other than RabbitMQ
	AccessRefused      ReplyCode = 403 // the login is refused, or has not the right; or an exclusive consumer is in the way
	NotFound           ReplyCode = 404 // there is no such queue or exchange, or its node is down
	ResourceLocked     ReplyCode = 405 // the queue is exclusive to another connection
	PreconditionFailed ReplyCode = 406 // it is there and differs, is in use, or the delivery tag is unknown
	FrameError         ReplyCode = 501 // a frame that can't be read
	SyntaxError        ReplyCode = 502 // a method that can't be read
	CommandInvalid     ReplyCode = 503 // a method that fits not here, or an unknown kind of exchange
	ChannelError       ReplyCode = 504 // a channel that is not open, or that is open already
	UnexpectedFrame    ReplyCode = 505 // a frame in the middle of another message
	ResourceError      ReplyCode = 506 // the broker has too little of something
	NotAllowed         ReplyCode = 530 // a virtual host that may not be used, or a limit on connections or channels
	NotImplemented     ReplyCode = 540 // RabbitMQ can't do that
	InternalError      ReplyCode = 541 // a mishap at the broker, or what RabbitMQ 4.3 does not permit any more
)

var replyNames = map[ReplyCode]string{
	ContentTooLarge: "CONTENT_TOO_LARGE", NoRoute: "NO_ROUTE", NoConsumers: "NO_CONSUMERS",
	ConnectionForced: "CONNECTION_FORCED", InvalidPath: "INVALID_PATH", AccessRefused: "ACCESS_REFUSED",
	NotFound: "NOT_FOUND", ResourceLocked: "RESOURCE_LOCKED", PreconditionFailed: "PRECONDITION_FAILED",
	FrameError: "FRAME_ERROR", SyntaxError: "SYNTAX_ERROR", CommandInvalid: "COMMAND_INVALID",
	ChannelError: "CHANNEL_ERROR", UnexpectedFrame: "UNEXPECTED_FRAME", ResourceError: "RESOURCE_ERROR",
	NotAllowed: "NOT_ALLOWED", NotImplemented: "NOT_IMPLEMENTED", InternalError: "INTERNAL_ERROR",
}

// Error gives the code and its name, "404 NOT_FOUND".
func (c ReplyCode) Error() string {
	if name, ok := replyNames[c]; ok {
		return strconv.Itoa(int(c)) + " " + name
	}
	return strconv.Itoa(int(c))
}

// Error is an exception of the broker's: what it said in connection.close or
// channel.close. Unwrap gives the code, and errors.Is also finds
// ErrConnectionClosed or ErrChannelClosed in it, by what it ended.
type Error struct {
	Code     ReplyCode // why, as a number
	Text     string    // why, in the broker's words
	ClassID  uint16    // class of the method that caused it; 0: none in particular
	MethodID uint16    // that method
	// Connection tells that the whole connection was closed, not one channel.
	Connection bool
}

// Error says what was closed, why, and at which method.
func (e *Error) Error() string {
	what := "channel"
	if e.Connection {
		what = "connection"
	}
	at := ""
	if e.ClassID != 0 || e.MethodID != 0 {
		at = " (at " + e.method().String() + ")"
	}
	return fmt.Sprintf("the broker closed the %s: %d %s%s", what, uint16(e.Code), e.Text, at)
}

// Unwrap gives the reply code.
func (e *Error) Unwrap() error { return e.Code }

// Is reports whether target is the sentinel of what the exception ended.
func (e *Error) Is(target error) bool {
	return e.Connection && target == ErrConnectionClosed || !e.Connection && target == ErrChannelClosed
}

func (e *Error) method() wire.MethodID {
	return wire.MethodID(uint32(e.ClassID)<<16 | uint32(e.MethodID))
}

// What errors.Is finds in the errors of this package, beside the ReplyCode of
// an Error.
var (
	// ErrConnectionClosed: the connection is gone. The error around it says
	// why: the broker's Error, or what the network did.
	ErrConnectionClosed = errors.New("connection closed")
	// ErrChannelClosed: the channel is gone, or its scope has ended.
	ErrChannelClosed = errors.New("channel closed")
	// ErrConsumerCancelled: the broker ended the consumer by basic.cancel,
	// since its queue was deleted or became unavailable.
	ErrConsumerCancelled = errors.New("consumer cancelled by the broker")
	// ErrHeartbeatTimeout: nothing came from the broker for two heartbeat
	// intervals, or it took nothing of what was sent.
	ErrHeartbeatTimeout = errors.New("heartbeat timeout")
	// ErrEmptyQueue: Get found no message.
	ErrEmptyQueue = errors.New("the queue is empty")
	// ErrNoChannel: as many channels are open as the connection may have.
	ErrNoChannel = errors.New("no channel number is free")
	// ErrMessageTooLarge: a body exceeds Config.MaxMessageSize.
	ErrMessageTooLarge = errors.New("message too large")
	// ErrSlowConsumer: a consumer without a prefetch was so far behind, while
	// calls waited for answers that come after its messages, that the
	// connection was ended.
	ErrSlowConsumer = errors.New("consumer too slow")
	// ErrAlreadySettled: the message was acknowledged, rejected or given
	// back before, or was delivered to a no-ack consumer. Nothing was sent.
	ErrAlreadySettled = errors.New("delivery already settled")
	// ErrNacked: the broker refused the message (basic.nack).
	ErrNacked = errors.New("the broker refused the message")
	// ErrReturned: no queue took the mandatory message (basic.return).
	ErrReturned = errors.New("the message was returned as unroutable")
	// ErrUnconfirmed: whether the broker has the message is not known, since
	// the channel or the connection ended before the confirm.
	ErrUnconfirmed = errors.New("the outcome of the message is unknown")
	// ErrProtocol: the peer broke the protocol.
	ErrProtocol = errors.New("protocol violation")
)

// protocolError says what was seen.
func protocolError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// joinCause adds the cause of a scope's end to the errors inside it, unless
// one of them carries it already.
func joinCause(err, cause error) error {
	switch {
	case cause == nil || err != nil && errors.Is(err, cause):
		return err
	case err == nil:
		return cause
	}
	return errors.Join(cause, err)
}
