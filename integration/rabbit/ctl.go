package rabbit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Ctl runs rabbitmqctl on the node and returns what it printed. A call takes
// about 0.3 s; where there is a method for the same, it is faster.
func (n *Node) Ctl(ctx context.Context, args ...string) (string, error) {
	return n.tool(ctx, "rabbitmqctl", append([]string{"--quiet"}, args...)...)
}

// Drain puts the node into maintenance mode: listeners shut, and every client
// is sent away with a 320. It is the fastest way to make clients reconnect.
func (n *Node) Drain(ctx context.Context) error {
	return n.sendAway(ctx, "rabbitmq-upgrade", "drain")
}

// sendAway runs a tool that closes connections. One that goes by itself meanwhile
// stops it half-way, so it is run again.
func (n *Node) sendAway(ctx context.Context, tool string, args ...string) (err error) {
	for range 5 {
		_, err = n.tool(ctx, tool, args...)
		if err == nil || !strings.Contains(err.Error(), "{:normal,") && !strings.Contains(err.Error(), "{:noproc,") {
			return err
		}
	}
	return err
}

// Revive ends a [Node.Drain].
func (n *Node) Revive(ctx context.Context) error {
	_, err := n.tool(ctx, "rabbitmq-upgrade", "revive")
	return err
}

// SetMemoryWatermark sets the share of the machine's memory above which
// publishers are blocked: 0.0001 blocks them, 0.4 is the default.
func (n *Node) SetMemoryWatermark(ctx context.Context, fraction float64) error {
	_, err := n.Ctl(ctx, "set_vm_memory_high_watermark", fmt.Sprintf("%.6f", fraction))
	return err
}

// CloseAllConnections makes the broker close every connection with a 320.
func (n *Node) CloseAllConnections(ctx context.Context, reason string) error {
	return n.sendAway(ctx, "rabbitmqctl", "--quiet", "close_all_connections", reason)
}

// CloseConnectionOf makes the broker close the connection that list_connections
// shows with this pid, with a 320. One that has ended already is no error.
func (n *Node) CloseConnectionOf(ctx context.Context, pid, reason string) error {
	return n.sendAway(ctx, "rabbitmqctl", "--quiet", "close_connection", pid, reason)
}

// bootLimit is how long a node listens at most before its applications count as
// running.
const bootLimit = 30 * time.Second

// tool runs one of RabbitMQ's tools. It tries again while the node, which listens, has
// not come up as a whole.
func (n *Node) tool(ctx context.Context, name string, args ...string) (out string, err error) {
	if !n.Private() {
		return "", ErrNotPrivate
	}
	for began := time.Now(); ; {
		out, err = n.toolOnce(ctx, name, args...)
		if err == nil || !strings.Contains(err.Error(), "requires the 'rabbit' app to be running") || time.Since(began) > bootLimit {
			return out, err
		}
		select {
		case <-ctx.Done():
			return out, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (n *Node) toolOnce(ctx context.Context, name string, args ...string) (string, error) {
	cmd := n.command(filepath.Join(n.installed.scripts, name), args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := startProcess(cmd)
	if err != nil {
		return "", fmt.Errorf("rabbit: %s: %w", name, err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.kill()
		err = context.Cause(ctx)
	}
	text := strings.TrimSpace(out.String())
	if err == nil && !cmd.ProcessState.Success() {
		err = errors.New(cmd.ProcessState.String())
	}
	if err != nil {
		return text, fmt.Errorf("rabbit: %s %s: %w: %s", name, strings.Join(args, " "), err, text)
	}
	return text, nil
}
