package rabbit

import (
	"os"
	"syscall"
	"unsafe"
)

func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

// stoppedOrGone blocks until no thread of the child runs any more: SIGSTOP is
// an order, and a busy machine takes tens of milliseconds to carry it out. The
// child's end stays for its Wait to see.
func stoppedOrGone(p *os.Process) error {
	const byPID = 1 // P_PID of waitid(2)
	var info [128]byte
	for {
		_, _, err := syscall.Syscall6(syscall.SYS_WAITID, byPID, uintptr(p.Pid), uintptr(unsafe.Pointer(&info)),
			syscall.WSTOPPED|syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		switch err {
		case 0, syscall.ECHILD: // ECHILD: gone, and waited for
			return nil
		case syscall.EINTR:
		default:
			return os.NewSyscallError("waitid", err)
		}
	}
}
