package rabbit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Cluster is several nodes that share a cookie, an epmd, and what is declared on
// any of them.
type Cluster struct {
	Nodes []*Node
}

// StartCluster starts a cluster of so many nodes, which takes about 15 seconds
// for three. ctx bounds the start alone. A minority that loses sight of the
// others pauses.
func StartCluster(ctx context.Context, size int, opts Options) (*Cluster, error) {
	installed, err := find()
	if err != nil {
		return nil, fmt.Errorf("rabbit: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return onFreePorts(func() (*Cluster, error) { return startCluster(ctx, size, opts, installed) })
}

func startCluster(ctx context.Context, size int, opts Options, installed installation) (_ *Cluster, err error) {
	c := &Cluster{}
	defer func() {
		if err != nil {
			c.discard()
			for _, n := range c.Nodes {
				err = n.ports.blame(err)
			}
		}
	}()
	for range size {
		n, err := newMember(opts, installed)
		if err != nil {
			return nil, err
		}
		c.Nodes = append(c.Nodes, n)
	}
	if err := c.prepare(); err != nil {
		return nil, err
	}
	// The first is there for the others to join: nodes that all start at once may
	// each find nobody, and wait for nothing.
	first := c.Nodes[0]
	if err := first.launch(ctx); err != nil {
		return nil, err
	}
	joining, joinCtx := errgroup.WithContext(ctx)
	for _, n := range c.Nodes[1:] {
		n.epmd = first.epmd
		joining.Go(func() error { return n.launch(joinCtx) })
	}
	if err := joining.Wait(); err != nil {
		return nil, err
	}
	if err := c.awaitAll(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// newMember makes a node that is not started yet.
func newMember(opts Options, installed installation) (_ *Node, err error) {
	n := &Node{opts: opts, installed: installed}
	if n.dir, err = os.MkdirTemp("", "rabbit-*"); err != nil {
		return nil, fmt.Errorf("rabbit: %w", err)
	}
	n.name = "n" + strings.TrimPrefix(filepath.Base(n.dir), "rabbit-") + "@localhost"
	if n.ports, err = freePorts(); err == nil {
		n.dog, err = startWatchdog(n.dir)
	}
	if err != nil {
		n.remove()
		return nil, fmt.Errorf("rabbit: %w", err)
	}
	return n, nil
}

// prepare gives the nodes what they share, and their configuration.
func (c *Cluster) prepare() error {
	var formation strings.Builder
	formation.WriteString("cluster_formation.peer_discovery_backend = classic_config\n")
	formation.WriteString("cluster_partition_handling = pause_minority\n")
	for i, n := range c.Nodes {
		fmt.Fprintf(&formation, "cluster_formation.classic_config.nodes.%d = %s\n", i+1, n.name)
	}
	for _, n := range c.Nodes {
		n.ports.epmd = c.Nodes[0].ports.epmd
		n.opts.Config += formation.String()
		if err := n.writeConfig(); err != nil {
			return fmt.Errorf("rabbit: %w", err)
		}
		cookie := filepath.Join(n.dir, "home", ".erlang.cookie")
		if err := os.WriteFile(cookie, []byte(filepath.Base(c.Nodes[0].dir)), 0o400); err != nil {
			return fmt.Errorf("rabbit: %w", err)
		}
	}
	return nil
}

// awaitAll returns when every node has joined.
func (c *Cluster) awaitAll(ctx context.Context) error {
	_, err := c.Nodes[0].Ctl(ctx, "await_online_nodes", strconv.Itoa(len(c.Nodes)), "--timeout", "60")
	return err
}

// Leader is the node that leads a queue, as a node that is up tells it.
func (c *Cluster) Leader(ctx context.Context, vhost, queue string) (*Node, error) {
	up := c.anyUp()
	if up == nil {
		return nil, errors.New("rabbit: every node of the cluster is down")
	}
	out, err := up.Ctl(ctx, "list_queues", "-p", vhost, "--no-table-headers", "name", "leader")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		name, leader, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if name != queue {
			continue
		}
		for _, n := range c.Nodes {
			if n.name == leader {
				return n, nil
			}
		}
		return nil, fmt.Errorf("rabbit: queue %q has the leader %q, which is no node of the cluster", queue, leader)
	}
	return nil, fmt.Errorf("rabbit: no queue is called %q: %s", queue, out)
}

func (c *Cluster) anyUp() *Node {
	for _, n := range c.Nodes {
		n.mu.Lock()
		up := n.broker.alive()
		n.mu.Unlock()
		if up {
			return n
		}
	}
	return nil
}

// Stop ends all nodes in good order, by force when ctx ends first, and removes
// their files.
func (c *Cluster) Stop(ctx context.Context) error {
	var stopping errgroup.Group
	for _, n := range c.Nodes {
		stopping.Go(func() error {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.shutDown(ctx)
		})
	}
	err := stopping.Wait()
	c.discard()
	return err
}

// discard ends all that is left. The epmd is the first node's.
func (c *Cluster) discard() {
	for _, n := range c.Nodes {
		n.remove()
	}
}
