package amqp_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/leveret-mq/leveret/amqp"
)

func TestReplyCodesHaveTheirNames(t *testing.T) {
	for code, want := range map[amqp.ReplyCode]string{
		amqp.ContentTooLarge: "311 CONTENT_TOO_LARGE", amqp.NoRoute: "312 NO_ROUTE", amqp.NoConsumers: "313 NO_CONSUMERS",
		amqp.ConnectionForced: "320 CONNECTION_FORCED", amqp.InvalidPath: "402 INVALID_PATH", amqp.AccessRefused: "403 ACCESS_REFUSED",
		amqp.NotFound: "404 NOT_FOUND", amqp.ResourceLocked: "405 RESOURCE_LOCKED", amqp.PreconditionFailed: "406 PRECONDITION_FAILED",
		amqp.FrameError: "501 FRAME_ERROR", amqp.SyntaxError: "502 SYNTAX_ERROR", amqp.CommandInvalid: "503 COMMAND_INVALID",
		amqp.ChannelError: "504 CHANNEL_ERROR", amqp.UnexpectedFrame: "505 UNEXPECTED_FRAME", amqp.ResourceError: "506 RESOURCE_ERROR",
		amqp.NotAllowed: "530 NOT_ALLOWED", amqp.NotImplemented: "540 NOT_IMPLEMENTED", amqp.InternalError: "541 INTERNAL_ERROR",
		999: "999",
	} {
		assert.Equal(t, want, code.Error())
	}
}

func TestErrorsAreFoundByCodeAndByWhatEnded(t *testing.T) {
	channel := &amqp.Error{Code: amqp.NotFound, Text: "NOT_FOUND - no queue 'q'", ClassID: 50, MethodID: 10}
	connection := &amqp.Error{Code: amqp.ConnectionForced, Text: "bye", Connection: true}
	assert.Equal(t, "the broker closed the channel: 404 NOT_FOUND - no queue 'q' (at queue.declare)", channel.Error())
	assert.Equal(t, "the broker closed the connection: 320 bye", connection.Error())
	assert.Contains(t, (&amqp.Error{Code: 1, ClassID: 99, MethodID: 98}).Error(), "99/98")

	err := fmt.Errorf("wrapped: %w", channel)
	assert.ErrorIs(t, err, amqp.NotFound)
	assert.ErrorIs(t, err, amqp.ErrChannelClosed)
	assert.NotErrorIs(t, err, amqp.ErrConnectionClosed)
	assert.NotErrorIs(t, err, amqp.AccessRefused)
	var said *amqp.Error
	assert.True(t, errors.As(err, &said) && said == channel)
	assert.ErrorIs(t, connection, amqp.ErrConnectionClosed)
	assert.NotErrorIs(t, connection, amqp.ErrChannelClosed)
}

func TestPublishErrorSaysWhichAndHow(t *testing.T) {
	err := &amqp.PublishError{Exchange: "x", RoutingKey: "k", Sequence: 7, Err: amqp.ErrNacked}
	assert.Equal(t, `message 7 to exchange "x" with routing key "k": the broker refused the message`, err.Error())
	assert.ErrorIs(t, err, amqp.ErrNacked)
	err = &amqp.PublishError{Sequence: 1, Err: amqp.ErrReturned, Return: &amqp.Return{ReplyCode: amqp.NoRoute, ReplyText: "NO_ROUTE"}}
	assert.ErrorContains(t, err, "312 NO_ROUTE")
}
