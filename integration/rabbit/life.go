package rabbit

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Private tells whether the node is a process of ours, rather than the broker
// that AMQP_URL names.
func (n *Node) Private() bool { return n.external == nil }

// Stop ends the node in good order, by force when ctx ends first, and removes
// its files. The error is about the order alone: the node is gone afterwards.
// Stopping a stopped node, or the broker of AMQP_URL, does nothing.
func (n *Node) Stop(ctx context.Context) error {
	if !n.Private() {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	err := n.shutDown(ctx)
	n.discard()
	return err
}

// Kill ends the broker as kill -9 does. Its files stay for [Node.Restart].
func (n *Node) Kill() error {
	if !n.Private() {
		return ErrNotPrivate
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broker.kill()
	return n.forget()
}

// Restart stops the broker in good order, if it runs, and starts it again on
// the same ports and files.
func (n *Node) Restart(ctx context.Context) error {
	if !n.Private() {
		return ErrNotPrivate
	}
	n.mu.Lock()
	if n.dog == nil {
		n.mu.Unlock()
		return errors.New("rabbit: the node was stopped for good")
	}
	err := n.shutDown(ctx)
	n.mu.Unlock()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return n.launch(ctx)
}

// Pause freezes the broker (SIGSTOP): the kernel goes on accepting
// connections and taking bytes for it, and nothing is answered. On Linux it
// returns when the broker stands still.
func (n *Node) Pause() error { return n.signal(suspend) }

// Continue ends a [Node.Pause].
func (n *Node) Continue() error { return n.signal(resume) }

func (n *Node) signal(send func(*os.Process) error) error {
	if !n.Private() {
		return ErrNotPrivate
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.broker.alive() {
		return errors.New("rabbit: the broker is not running")
	}
	return send(n.broker.cmd.Process)
}

// shutDown ends the broker, politely until ctx ends or stopLimit has gone.
// The caller holds mu.
func (n *Node) shutDown(ctx context.Context) error {
	if !n.broker.alive() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	err := errors.Join(resume(n.broker.cmd.Process), terminate(n.broker.cmd.Process))
	if err == nil {
		select {
		case <-n.broker.done:
		case <-ctx.Done():
			err = fmt.Errorf("rabbit: the broker did not stop by itself: %w", context.Cause(ctx))
		}
	}
	n.broker.kill()
	return errors.Join(err, n.forget())
}

// forget tells the watchdog that the broker is gone, before its process id can
// mean another process.
func (n *Node) forget() error {
	if n.dog == nil {
		return nil
	}
	return n.dog.watch("broker", nil)
}

// discard ends all that is left of the node and removes its files. The caller
// holds mu.
func (n *Node) discard() {
	n.broker.kill()
	n.epmd.kill()
	if n.dog != nil {
		n.dog.dismiss()
		n.dog = nil
	}
	_ = os.RemoveAll(n.dir) // what is left in the temporary directory harms nobody
}

// remove is discard for a node that never came to be.
func (n *Node) remove() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.discard()
}
