package amqptest

import "errors"

var (
	errReset      = errors.New("connection reset by peer")
	errBrokenPipe = errors.New("broken pipe")
)
