// Package scope is structured concurrency: goroutines that cannot outlive the block of code that started them.
//
// # From a nursery to a scope
//
// In Python's trio no task runs on its own. A nursery is a block, tasks are started in it, and the block does not end
// before they have. [Run] is that block, [Scope] the nursery:
//
//	async with trio.open_nursery() as nursery:     err := scope.Run(ctx, func(s *scope.Scope) error {
//	    nursery.start_soon(watch)                      s.Go(watch)
//	    addr = await nursery.start(listen)             if err := s.Start(listen); err != nil { … }
//	    await work(addr)                               return work(s.Context(), addr)
//	                                               })
//
// What this buys: when Run has returned, everything that it began is over, and every error has been heard. A function
// that needs goroutines is again a function. Only a function that is handed a *Scope can leave anything running, and
// its signature says so.
//
// # What ends a scope
//
//   - All children return nil, the body and the tasks: so does Run. The body's return alone ends nothing.
//   - A child fails: the scope's context is cancelled with that error as its cause, the others wind up, and Run returns
//     all failures, joined. Errors that only echo the cancellation are left out.
//   - The caller's ctx ends: the children wind up, and Run returns its cause.
//   - [Scope.Cancel]: with an error that is a failure, with nil an early end without one.
//   - The body panics: the tasks are cancelled and waited for, and the panic goes on. A task's panic is a crash.
//
// Compared with [golang.org/x/sync/errgroup], on which the package stands: the wait cannot be forgotten, the body is a
// child, all errors count and not only the first, and [Scope.Start] waits until a task is ready.
//
// # Deadlines
//
// A deadline belongs around the scope, where it bounds the children together and the wait for them:
//
//	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
//	defer cancel()
//	err := scope.Run(ctx, …)
//
// [Shield] is for the clean-up that must happen although the deadline has passed.
//
// # Who needs the rest
//
// [ForEach] is a parallel range over an iterator. [Open] and [Handle] are for authors of types that live in a callback
// and embed its scope.
package scope
