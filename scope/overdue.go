package scope

import (
	"sync"
	"time"
)

// Overdue has tell called when d has passed since the scope's context ended and [Handle.Run] has still not returned:
// with whether the body is still running, and how many tasks are. A goroutine that heeds no context can't be ended from
// outside, so whoever waits for it should at least be told. While tell returns false, it is called again every d.
//
// Overdue must be called before Run, and once. Run does not return during a call of tell.
func (h *Handle) Overdue(d time.Duration, tell func(body bool, tasks int) (done bool)) {
	s := &h.scope
	v := &vigil{scope: s, after: d, tell: tell}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vigil = v
	s.whenOver(v.begin)
}

// vigil is what waits for a scope that should have ended.
type vigil struct {
	scope *Scope
	after time.Duration
	tell  func(body bool, tasks int) bool

	mu    sync.Mutex // above the scope's
	timer *time.Timer
	over  bool
}

func (v *vigil) begin() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.over {
		v.timer = time.AfterFunc(v.after, v.look)
	}
}

func (v *vigil) look() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.over {
		return
	}
	if body, tasks := v.scope.present(); !v.tell(body, tasks) {
		v.timer.Reset(v.after)
	}
}

// end is called before the scope's context is ended for good.
func (v *vigil) end() {
	if v == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.over = true
	if v.timer != nil {
		v.timer.Stop()
	}
}

// present tells who has not left.
func (s *Scope) present() (body bool, tasks int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bodyLeft {
		return false, s.children
	}
	return true, s.children - 1
}
