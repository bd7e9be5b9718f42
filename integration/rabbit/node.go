package rabbit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// startLimit bounds a start whose ctx has no nearer deadline, and stopLimit an end
// in good order. Both take seconds, on a machine that has nothing else to do.
const (
	startLimit = 5 * time.Minute
	stopLimit  = 2 * time.Minute
)

// Options say what a node is to have. The zero value is a plain broker.
type Options struct {
	Management bool     // the management plugin, for statistics and fast control over HTTP
	TLS        bool     // a TLS listener and the EXTERNAL mechanism, with fresh certificates
	Plugins    []string // further plugins, by name
	Config     string   // further lines of rabbitmq.conf
}

// Node is a RabbitMQ broker. Its methods may be called from several
// goroutines, but those that start, stop and signal it make sense one at a
// time.
type Node struct {
	// Certificates are those of the TLS listener; nil without Options.TLS.
	Certificates *Certificates

	opts      Options
	name      string // the Erlang node
	dir       string // all its files
	installed installation
	ports     ports
	external  *url.URL // the broker that AMQP_URL names, instead of a process
	manager   *url.URL // the management API, with its login; nil without

	mu     sync.Mutex // guards what follows
	broker *process
	epmd   *process
	dog    *watchdog
}

// ErrNotPrivate is the error of what only a private node can do, when AMQP_URL
// names the broker.
var ErrNotPrivate = errors.New("rabbit: the broker of AMQP_URL is not ours to start, stop or signal")

// Open returns the broker to test with: the one that AMQP_URL names, whatever
// opts say, or else a private node as [Start] makes it.
func Open(ctx context.Context, opts Options) (*Node, error) {
	raw := os.Getenv("AMQP_URL")
	if raw == "" {
		return Start(ctx, opts)
	}
	n := &Node{name: "external"}
	var err error
	if n.external, err = url.Parse(raw); err != nil {
		return nil, fmt.Errorf("rabbit: AMQP_URL: %w", err)
	}
	if raw := os.Getenv("AMQP_MANAGEMENT_URL"); raw != "" {
		if n.manager, err = url.Parse(raw); err != nil {
			return nil, fmt.Errorf("rabbit: AMQP_MANAGEMENT_URL: %w", err)
		}
	}
	return n, nil
}

// Start starts a private node and returns when it accepts connections, which
// takes about five seconds. ctx bounds the start alone: the node runs until
// [Node.Stop], or until this process ends.
func Start(ctx context.Context, opts Options) (*Node, error) {
	installed, err := find()
	if err != nil {
		return nil, fmt.Errorf("rabbit: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return onFreePorts(func() (*Node, error) { return startOnce(ctx, opts, installed) })
}

func startOnce(ctx context.Context, opts Options, installed installation) (_ *Node, err error) {
	n := &Node{opts: opts, installed: installed}
	if n.dir, err = os.MkdirTemp("", "rabbit-*"); err != nil {
		return nil, fmt.Errorf("rabbit: %w", err)
	}
	n.name = "n" + strings.TrimPrefix(filepath.Base(n.dir), "rabbit-") + "@localhost"
	if n.ports, err = freePorts(); err != nil {
		n.remove()
		return nil, err
	}
	defer func() {
		if err != nil {
			n.remove()
			err = n.ports.blame(err)
		}
	}()
	if opts.Management {
		n.manager = &url.URL{Scheme: "http", Host: loopback(n.ports.management), User: url.UserPassword("guest", "guest")}
	}
	if err = n.writeConfig(); err != nil {
		return nil, fmt.Errorf("rabbit: %w", err)
	}
	if n.dog, err = startWatchdog(n.dir); err != nil {
		return nil, fmt.Errorf("rabbit: watchdog: %w", err)
	}
	if err = n.launch(ctx); err != nil {
		return nil, err
	}
	if opts.TLS {
		if err = n.NewUser(ctx, "tlsuser", ""); err == nil {
			err = n.Permit(ctx, "tlsuser", "/", Everything)
		}
		if err != nil {
			return nil, err
		}
	}
	return n, nil
}

// launch starts epmd, if it is not running, and the broker, and waits until
// the broker listens.
func (n *Node) launch(ctx context.Context) (err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.epmd.alive() {
		cmd := n.command(n.installed.epmd, "-port", strconv.Itoa(n.ports.epmd), "-address", "127.0.0.1")
		if n.epmd, err = n.run("epmd", cmd); err != nil {
			return err
		}
		if err := n.listening(ctx, n.epmd, n.ports.epmd); err != nil {
			return err
		}
	}
	cmd := n.command(filepath.Join(n.installed.scripts, "rabbitmq-server"))
	if n.broker, err = n.run("broker", cmd); err != nil {
		return err
	}
	for _, port := range n.listeners() {
		if err := n.listening(ctx, n.broker, port); err != nil {
			return err
		}
	}
	return nil
}

// command prepares one of the node's programs, with its output in the node's
// directory.
func (n *Node) command(file string, args ...string) *exec.Cmd {
	cmd := exec.Command(file, args...)
	cmd.Env = n.environ()
	cmd.Dir = n.dir
	return cmd
}

// run starts cmd under the watchdog's eyes.
func (n *Node) run(role string, cmd *exec.Cmd) (*process, error) {
	out, err := os.OpenFile(n.output(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("rabbit: %w", err)
	}
	defer out.Close() // the child has its own
	cmd.Stdout, cmd.Stderr = out, out
	p, err := startProcess(cmd)
	if err != nil {
		return nil, fmt.Errorf("rabbit: %s: %w", role, err)
	}
	if err := n.dog.watch(role, p); err != nil {
		p.kill()
		return nil, fmt.Errorf("rabbit: watchdog: %w", err)
	}
	return p, nil
}

func (n *Node) output() string { return filepath.Join(n.dir, "output") }

// listeners are the ports that a started broker has open.
func (n *Node) listeners() []int {
	ports := []int{n.ports.amqp}
	if n.opts.TLS {
		ports = append(ports, n.ports.tls)
	}
	if n.opts.Management {
		ports = append(ports, n.ports.management)
	}
	return ports
}

// listening waits until p listens on port.
func (n *Node) listening(ctx context.Context, p *process, port int) error {
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", loopback(port))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return fmt.Errorf("rabbit: node did not start: %w\n%s", context.Cause(ctx), n.lastOutput())
		case <-p.done:
			return fmt.Errorf("rabbit: %s ended at its start: %v\n%s", filepath.Base(p.cmd.Path), p.cmd.ProcessState, n.lastOutput())
		}
	}
}

// lastOutput is the end of what the broker printed.
func (n *Node) lastOutput() string {
	text, err := os.ReadFile(n.output())
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(text[max(0, len(text)-4096):]))
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
