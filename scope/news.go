package scope

import "context"

// How a scope hears that its context has ended. What ends it through the scope itself, it knows. The end of an outer
// scope is told by that one, and the caller's by a hook on the caller's context, which is what takes memory: it is left
// out where the outer scope would hear of the same end. A thousand consumers in one scope cost one hook.

// inner are the scopes that a scope tells when its context ends, guarded by its lock.
type inner struct {
	first      *Scope
	prev, next *Scope // beside this scope, among those of its outer one: guarded by that one's lock
}

// whenOver has the scope hear of the end of its context, for the sake of f, which is called now if it has already. The
// lock is held.
func (s *Scope) whenOver(f func()) {
	if s.begun {
		s.errands.Go(f)
		return
	}
	s.listen()
}

// listen has the scope hear of the end of its caller's context. The lock is held. Locks are taken from the inside out.
func (s *Scope) listen() {
	if s.hooked || s.children == 0 || s.caller.Done() == nil {
		return
	}
	s.hooked = true
	if !s.outer.endsWith(s.caller) {
		s.errands.Add(1)
		s.unhook = context.AfterFunc(s.caller, func() {
			defer s.errands.Done()
			s.follow()
		})
	} else if !s.adopted {
		s.join()
	}
}

// join has the outer scope tell of its end. The lock is held.
func (s *Scope) join() {
	o := s.outer
	o.mu.Lock()
	o.listen()
	over := o.ctx.Err() != nil
	if !over {
		s.adopted = true
		if s.inner.next = o.inner.first; s.inner.next != nil {
			s.inner.next.inner.prev = s
		}
		o.inner.first = s
	}
	o.mu.Unlock()
	if over {
		s.catchUp()
		s.begin()
	}
}

// letGo is for a scope that nobody has to tell anything any more. The lock is held.
func (s *Scope) letGo() {
	if s.unhook != nil && s.unhook() {
		s.errands.Done()
	}
	s.release()
}

// release undoes join. The lock is held.
func (s *Scope) release() {
	if !s.adopted {
		return
	}
	o := s.outer
	o.mu.Lock()
	defer o.mu.Unlock()
	prev, next := s.inner.prev, s.inner.next
	if prev != nil {
		prev.inner.next = next
	} else {
		o.inner.first = next
	}
	if next != nil {
		next.inner.prev = prev
	}
}

// tellInner tells the inner scopes that this one's context has ended. The lock is held.
func (s *Scope) tellInner() {
	for i := s.inner.first; i != nil; i = i.inner.next {
		i.errands.Go(i.follow)
	}
}

// endsWith tells whether the end of ctx is known to end s as well, and s to hear of it.
func (s *Scope) endsWith(ctx context.Context) bool {
	for ; s != nil; s = s.outer {
		if ctx == s.ctx || ctx == s.caller {
			return true
		}
	}
	return false
}

// follow is called, on its own goroutine mostly, when the outer scope's or the caller's context has ended.
func (s *Scope) follow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.catchUp()
	if s.ctx.Err() != nil {
		s.begin()
	}
}

// begin starts what is to be done when the context has ended. The lock is held.
func (s *Scope) begin() {
	if s.begun || s.children == 0 {
		return
	}
	s.begun = true
	s.tellInner()
	if s.vigil != nil {
		s.errands.Go(s.vigil.begin)
	}
	if s.onEnd != nil {
		s.errands.Go(s.onEnd)
	}
}
