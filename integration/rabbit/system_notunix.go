//go:build !unix

package rabbit

import (
	"errors"
	"os"
	"syscall"
)

const canRun = false

func ownSession() *syscall.SysProcAttr { return nil }

func terminate(*os.Process) error { return errors.ErrUnsupported }
func suspend(*os.Process) error   { return errors.ErrUnsupported }
func resume(*os.Process) error    { return errors.ErrUnsupported }
