package rabbit

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
)

// process is a child that dies with this process.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child is gone and waited for
}

// startProcess starts cmd in a session of its own, so that an interrupt at the
// terminal reaches the tests first. Where the kernel can, it kills the child
// when the thread that started it ends; therefore a goroutine holds that
// thread until the child is gone.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	cmd.SysProcAttr = childAttributes()
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in cmd.ProcessState
		}
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, err
	}
	return p, nil
}

// alive tells whether the child has not ended yet.
func (p *process) alive() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the child at once and waits for it.
func (p *process) kill() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it fails only when the child is gone
	<-p.done
}

// watchdogScript kills the broker and its epmd and removes their directory as
// soon as its input ends, which it does when the process at the other end is
// gone, however it went.
const watchdogScript = `
while read -r word pid; do
	case $word in
	broker) broker=$pid ;;
	epmd) epmd=$pid ;;
	done) exit 0 ;;
	esac
done
kill -9 $broker $epmd
for try in 1 2 3 4 5; do # the broker may write a last file as it dies
	rm -rf "$1" && break
	sleep 1
done`

// watchdog stands guard over a node's processes.
type watchdog struct {
	process *process
	orders  *os.File
}

func startWatchdog(dir string) (*watchdog, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", watchdogScript, "watchdog", dir)
	cmd.Stdin = r
	cmd.SysProcAttr = ownSession()
	dog := &watchdog{process: &process{cmd: cmd, done: make(chan struct{})}, orders: w}
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, err
	}
	go func() {
		defer close(dog.process.done)
		_ = cmd.Wait()
	}()
	return dog, nil
}

// watch names the process that plays role ("broker" or "epmd"), or none.
func (d *watchdog) watch(role string, p *process) error {
	pid := ""
	if p.alive() {
		pid = strconv.Itoa(p.cmd.Process.Pid)
	}
	_, err := fmt.Fprintln(d.orders, role, pid)
	return err
}

// dismiss ends the watch: everything is stopped.
func (d *watchdog) dismiss() {
	_, _ = fmt.Fprintln(d.orders, "done") // it fails only when the watchdog is gone
	_ = d.orders.Close()
	<-d.process.done
}
