package amqptest

import (
	"fmt"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// An exception is the broker's refusal: it closes the channel, or the connection when its code is a hard one.
type exception struct {
	code   uint16
	text   string
	method wire.MethodID // what the client asked for; zero when a frame, not a method, is at fault
}

// hard tells the codes that close the whole connection from those that close a channel.
func (e *exception) hard() bool {
	switch e.code {
	case contentTooLarge, noRoute, noConsumers, accessRefused, notFound, resourceLocked, preconditionFailed:
		return false
	}
	return true
}

// Reply codes of the protocol, and the names that RabbitMQ puts before its texts.
const (
	contentTooLarge    = 311
	noRoute            = 312
	noConsumers        = 313
	connectionForced   = 320
	invalidPath        = 402
	accessRefused      = 403
	notFound           = 404
	resourceLocked     = 405
	preconditionFailed = 406
	frameError         = 501
	syntaxError        = 502
	commandInvalid     = 503
	channelError       = 504
	unexpectedFrame    = 505
	resourceError      = 506
	notAllowed         = 530
	notImplemented     = 540
	internalError      = 541
)

var codeNames = map[uint16]string{
	contentTooLarge: "CONTENT_TOO_LARGE", noRoute: "NO_ROUTE", noConsumers: "NO_CONSUMERS",
	connectionForced: "CONNECTION_FORCED", invalidPath: "INVALID_PATH", accessRefused: "ACCESS_REFUSED",
	notFound: "NOT_FOUND", resourceLocked: "RESOURCE_LOCKED", preconditionFailed: "PRECONDITION_FAILED",
	frameError: "FRAME_ERROR", syntaxError: "SYNTAX_ERROR", commandInvalid: "COMMAND_INVALID",
	channelError: "CHANNEL_ERROR", unexpectedFrame: "UNEXPECTED_FRAME", resourceError: "RESOURCE_ERROR",
	notAllowed: "NOT_ALLOWED", notImplemented: "NOT_IMPLEMENTED", internalError: "INTERNAL_ERROR",
}

// fail makes an exception whose text begins with the name of its code, as RabbitMQ's do.
func fail(code uint16, format string, args ...any) *exception {
	return &exception{code: code, text: codeNames[code] + " - " + fmt.Sprintf(format, args...)}
}

func noQueue(vhost, name string) *exception {
	return fail(notFound, "no queue '%s' in vhost '%s'", name, vhost)
}

func noExchange(vhost, name string) *exception {
	return fail(notFound, "no exchange '%s' in vhost '%s'", name, vhost)
}

// clip shortens a reply text to what a short string of the protocol holds.
func clip(text string) string {
	if len(text) > 255 {
		return text[:252] + "..."
	}
	return text
}
