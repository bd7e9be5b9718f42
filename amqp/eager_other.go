//go:build !unix

package amqp

import "net"

// eager is for systems where a read can't be tried.
type eager struct{}

func (*eager) init(net.Conn) {}

func (*eager) able() bool { return false }

func (*eager) read([]byte) int { return 0 }
