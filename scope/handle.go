package scope

import (
	"context"
	"errors"
	"slices"
)

// A Handle is a scope in the hands of whoever makes it: what [Run] keeps to itself. It is for types that are valid only
// inside of a callback and embed the callback's [*Scope], a connection say, whose owner must be able to end the scope
// when the connection dies. Programs that only run tasks want [Run].
type Handle struct{ scope Scope }

// Open makes a scope in ctx. It must be followed by [Handle.Run], exactly once, or its context leaks.
//
// The scope ends with ctx and, if outer is not nil, with outer's context as well, also if ctx is not derived from it,
// with the cause of the one that ended first. Both count as the caller's cancellation, as in [Run]: the scope returns
// the cause, and outer's Run then leaves it out as the echo of its own failure.
func Open(ctx context.Context, outer *Scope) *Handle {
	h := &Handle{scope: Scope{caller: ctx, children: 1}} // the first child is the body
	s := &h.scope
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	if s.outer = outer; outer != nil && ctx != outer.ctx {
		s.mu.Lock()
		s.join()
		s.mu.Unlock()
	}
	return h
}

// Scope is the scope, to be embedded in what the body is given.
func (h *Handle) Scope() *Scope { return &h.scope }

// OnEnd has f called, on a goroutine of its own, when the scope's context ends before Run returns; [context.Cause] says
// why it did. It must be called before Run, and once. Run waits for f, which must not call the Handle.
func (h *Handle) OnEnd(f func()) {
	s := &h.scope
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onEnd = f
	s.whenOver(f)
}

// Interrupt says that what the scope stands on has died: it cancels everything in the scope, with cause as the
// [context.Cause]. It does not wait. The cause is not a failure of the scope, since whoever was told already may have
// dealt with it: the owner decides, see [Handle.Run]. Interrupt does nothing once Run has returned.
func (h *Handle) Interrupt(cause error) {
	if cause == nil {
		cause = context.Canceled
	}
	s := &h.scope
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = cause
	}
	s.stop(byInterrupt, cause)
}

// Run runs body in the scope and returns when it and all tasks have returned, with the same rules as the function
// [Run]. When echoed is true, the body or a task returned an error that was left out because it only echoed the
// interruption: its work was cut short, so that the owner must return the interruption's cause.
func (h *Handle) Run(body func() error) (err error, echoed bool) {
	s := &h.scope
	returned := false
	defer func() {
		if returned {
			return
		}
		// Not recovered, so that the panic goes on with its own stack.
		s.leaveBody(errBodyGone)
		s.wait()
		_, _ = s.end()
	}()
	err = body()
	returned = true
	s.leaveBody(err)
	s.wait()
	return s.end()
}

// leaveBody takes the body off the count and remembers whether the caller's cancellation came before.
func (s *Scope) leaveBody(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.fail(err)
	}
	s.catchUp()
	s.cut = s.ctx.Err() != nil && s.stopper == byCaller
	s.bodyLeft = true
	s.children--
}

// end puts the result together, after the last child has left, and releases the context.
func (s *Scope) end() (err error, echoed bool) {
	s.vigil.end()
	defer s.errands.Wait() // without the lock, which they may take
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.words != nil {
		s.errs = slices.Insert(s.errs, 0, s.words)
	}
	if s.cut || s.echoed && s.stopper == byCaller {
		if cause := context.Cause(s.ctx); !containsAny(s.errs, cause) {
			s.errs = slices.Insert(s.errs, 0, cause)
		}
	}
	s.letGo()
	s.cancel(ErrEnded)
	s.tellInner()
	if len(s.errs) == 1 {
		return s.errs[0], s.told
	}
	return errors.Join(s.errs...), s.told
}
