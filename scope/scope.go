package scope

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/errgroup"
)

// ErrEnded says that a scope is over: Start returns it when there is no scope left to start the task in,
// and it is the [context.Cause] of a scope's context once Run has returned without a failure.
var ErrEnded = errors.New("scope: the scope has ended")

var (
	errBodyGone = errors.New("scope: the body panicked or called runtime.Goexit")
	errTaskGone = errors.New("scope: a task called runtime.Goexit (a test's FailNow or SkipNow, perhaps)")
)

// Run calls body with a new scope and returns when body and every task that was started in the scope have returned.
//
// The body runs on the caller's goroutine and is a child of the scope like the tasks: the first error, the body's or a
// task's, cancels the scope's context with that error as its cause. The body's nil return cancels nothing; Run waits.
//
// Run returns all failures, in the order in which they happened: one as it is, several joined by [errors.Join].
// Errors that only echo the cancellation are left out, see [Scope.Cancel]. When ctx is cancelled before the body has
// returned, Run returns [context.Cause] of ctx even if the body returned nil, since its work may have been cut short;
// when ctx is cancelled later, only if a task's error echoes it.
//
// When the body panics or calls [runtime.Goexit], the tasks are cancelled and waited for, and the panic goes on up with
// its own stack. A task's panic crashes the process, see [Scope.Go]. A deadline goes around the scope, into ctx.
func Run(ctx context.Context, body func(*Scope) error) error {
	h := Open(ctx, nil)
	err, _ := h.Run(func() error { return body(&h.scope) })
	return err
}

// A Scope is the block of code in which tasks live: none of them outlives it. It is made by [Run] or [Open], and its
// methods may be called from any goroutine.
type Scope struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	caller context.Context // what ctx is derived from
	outer  *Scope          // nil, or the scope whose end ends this one although caller may not be derived from it
	unhook func() bool     // nil, or lets go of caller
	vigil  *vigil          // nil, or what tells when the scope does not end
	onEnd  func()          // nil, or what is called when ctx ends
	inner  inner

	errands sync.WaitGroup // the scope's own goroutines, which none of a program's tasks is

	tasks errgroup.Group // the goroutines; their errors are collected below, since all of them count

	mu       sync.Mutex // below the locks of contexts: nothing that a context calls synchronously takes it
	children int        // the body and the tasks that have not left; 0: the scope has ended, for good
	stopper  stopper    // who ended ctx first
	bodyLeft bool
	begun    bool    // inner scopes, vigil and onEnd know that ctx has ended
	adopted  bool    // outer tells when its context has ended
	hooked   bool    // the scope hears when its caller's context has ended
	cut      bool    // the caller's cancellation came before the body returned
	echoed   bool    // an error was left out because it only echoed the end of ctx
	told     bool    // an error was left out because it only echoed the interruption
	broken   error   // the cause of the first Interrupt
	words    error   // an echo that wraps the cause in words of its own
	errs     []error // the failures, in order
}

// stopper is who ended a scope's context. While that context lives it is byCaller, which costs nothing to record.
type stopper uint8

const (
	byCaller    stopper = iota // or by the outer scope
	byItself                   // a failure, or Cancel
	byInterrupt                // the owner, because what the scope stands on has died
)

// Context is the context of the scope's tasks. It ends with the first failure, with Cancel, with the context that the
// scope was made with, and when Run returns; [context.Cause] says which.
func (s *Scope) Context() context.Context { return s.ctx }

// Go starts task on its own goroutine. It never blocks. A non-nil error of task's cancels the scope and comes out of
// Run. Tasks may start further tasks, also after the body has returned; once Run has returned, Go does nothing. A task
// that is started in a cancelled scope runs and finds ctx cancelled.
//
// A panic in task crashes the process, on task's own stack. Carrying it over to Run would be worse in four ways: it
// would come late, after every sibling has wound up; its stack would be a value in another goroutine's report; tools
// that collect crashes would be shown the wrong place; and if a sibling never ends, because of the state that the
// panic left behind, it would not come at all.
//
// A task that calls [runtime.Goexit] fails the scope.
func (s *Scope) Go(task func(ctx context.Context) error) {
	s.launch(task, nil)
}

// Cancel ends the scope's context, so that its tasks and its body wind up; it does not wait for them. A cause that is
// not nil is a failure of the scope like a task's error: it is the [context.Cause] and comes out of Run. Cancel(nil)
// ends the scope early without an error. The first cause stays that of the context; a later one that is a failure of
// its own is joined to what Run returns. Cancel does nothing once Run has returned.
//
// After the context has ended, an error says nothing new if all that it wraps is the cause itself or the context's
// error: it echoes the cancellation and is left out. An error that wraps a failure, too, is kept whole.
func (s *Scope) Cancel(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.children == 0:
	case cause == nil:
		s.stop(byItself, context.Canceled)
	case !containsAny(s.errs, cause):
		s.fail(cause)
	}
}

// launch starts task unless the scope has ended, and gives its error to report, or to the scope if report is nil.
//
// A task is counted twice: in children until it has reported, and in the group until its goroutine is done. The group
// can therefore not be added to at zero once the body has left, which is what its Wait asks for.
func (s *Scope) launch(task func(context.Context) error, report func(error)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.children == 0 {
		return false
	}
	s.children++
	s.tasks.Go(func() error {
		s.perform(task, report)
		return nil
	})
	return true
}

// perform runs task. A panic is raised again where it stands, with its stack below it: the task must not count as gone,
// or Run could return and the program exit before the crash is reported.
func (s *Scope) perform(task func(context.Context) error, report func(error)) {
	err := errTaskGone
	defer func() {
		if v := recover(); v != nil {
			panic(v)
		}
		if report != nil {
			report(err)
			err = nil
		}
		s.leave(err)
	}()
	err = task(s.ctx)
}

// leave takes one child off the count, with its error.
func (s *Scope) leave(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.fail(err)
	}
	s.children--
}

// wait returns when all tasks have left. A task that is gone without having left is panicking.
func (s *Scope) wait() {
	_ = s.tasks.Wait()
	s.mu.Lock()
	crashing := s.children > 0
	s.mu.Unlock()
	if crashing {
		select {}
	}
}

// fail adds err to the failures, the first of which ends the context, or leaves it out as an echo. The lock is held.
func (s *Scope) fail(err error) {
	s.catchUp()
	if s.ctx.Err() != nil && s.isEcho(err) {
		s.echoed = true
		if s.broken != nil && (s.stopper == byInterrupt || contains(err, s.broken)) {
			s.told = true
		}
		s.keepWords(err)
		return
	}
	s.errs = append(s.errs, err)
	s.stop(byItself, err)
}

// keepWords keeps the first echo that says more than the cause it wraps: it stands for the cause in what Run returns, so
// that "set up billing: " in front of a reason is not lost. The lock is held.
func (s *Scope) keepWords(err error) {
	if s.stopper == byItself || s.words != nil {
		return
	}
	if cause := context.Cause(s.ctx); contains(err, cause) && !same(err, cause) {
		s.words = err
	}
}

// stop ends the context, if nobody has yet. The lock is held.
func (s *Scope) stop(by stopper, cause error) {
	s.catchUp()
	if s.ctx.Err() != nil {
		return
	}
	s.cancel(cause)
	s.begin()
	if same(context.Cause(s.ctx), cause) { // else the caller's cancellation came between
		s.stopper = by
	}
}

// catchUp ends the context if the caller's or the outer scope's has ended and the news is still on its way: a context
// from outside the standard library and AfterFunc both tell it through a goroutine. The lock is held.
func (s *Scope) catchUp() {
	switch {
	case s.ctx.Err() != nil:
	case s.caller.Err() != nil:
		s.cancel(context.Cause(s.caller))
		s.begin()
	case s.outer != nil && s.outer.ctx.Err() != nil:
		s.cancel(context.Cause(s.outer.ctx))
		s.begin()
	}
}
