package scope

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

var errNotStarted = errors.New("scope: the task returned without having started")

// Start starts task like [Scope.Go] and returns when task has called started, which says that whatever the caller must
// be able to rely on is in place: the listener is bound, the consumer is subscribed.
//
// If task returns before that, Start returns its error, and the scope does not see it; a nil error becomes one that says
// so. From started on, task's error belongs to the scope. To call started again does nothing.
//
// Start has no ctx of its own: when the scope is cancelled, so is task's ctx, and Start still waits for task to call
// started or to return, so that its caller always knows which of the two happened. Once Run has returned, Start starts
// nothing and returns an error that wraps [ErrEnded].
func (s *Scope) Start(task func(ctx context.Context, started func()) error) error {
	verdict := make(chan error, 1)
	var given atomic.Bool
	started := func() {
		if given.CompareAndSwap(false, true) {
			verdict <- nil
		}
	}
	report := func(err error) {
		switch {
		case !given.CompareAndSwap(false, true):
			s.report(err)
		case err == nil:
			verdict <- errNotStarted
		default:
			verdict <- err
		}
	}
	if !s.launch(func(ctx context.Context) error { return task(ctx, started) }, report) {
		return s.endedError()
	}
	return <-verdict
}

// report gives the scope the error of a child that is still counted.
func (s *Scope) report(err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail(err)
}

// endedError is ErrEnded, with the reason if the scope was cancelled.
func (s *Scope) endedError() error {
	cause := context.Cause(s.ctx)
	if cause == nil || same(cause, ErrEnded) {
		return ErrEnded
	}
	return fmt.Errorf("%w: %w", ErrEnded, cause)
}
