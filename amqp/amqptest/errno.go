//go:build !plan9

package amqptest

import "syscall"

// What a peer that has gone makes of a read and of a write.
const (
	errReset      = syscall.ECONNRESET
	errBrokenPipe = syscall.EPIPE
)
