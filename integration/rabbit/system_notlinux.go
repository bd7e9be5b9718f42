//go:build !linux

package rabbit

import "syscall"

func childAttributes() *syscall.SysProcAttr { return ownSession() }
