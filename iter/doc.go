// Package iter bridges goroutines that produce to `for range` loops that consume.
//
// A channel does that, too, but one item at a time, with a bound at which the producer waits. The producer here is one
// that must never wait, the reader of a network connection that serves many consumers, and what it reads it reads in
// bursts. It pushes each burst into a [Stream] in one step; a loop takes over all that has come in one step, and claims
// item after item from it without a lock: a few nanoseconds each, and no allocation.
//
//	s := iter.NewStream[Message]()
//	go func() { s.End(read(conn, s.Push)) }()   // one side
//	for msg := range s.All() { … }              // the other
//	return s.Err()
//
// # The end of a stream
//
// A stream ends for a reason, which [Stream.Err] tells. [Stream.End] lets the loops take what is buffered;
// [Stream.Stop] ends them at once, and [Stream.Drain] returns what they did not take, to be given back.
//
// # Loops
//
// The loop's own goroutine does all the work; no other is started, so that a break leaks nothing. A break loses nothing
// either: the next loop continues where the last one stopped. Several loops share a stream, each item going to one of
// them; those that wait are served first come, first served. [Batches] ranges over slices, [Merge] over several
// streams.
//
// # A bound
//
// A stream does not bound what is pushed: often the protocol does. Where it does not, the producer counts what it has
// pushed and stops at its bound, until the hook of [Stream.OnSwap] tells it that a loop has taken over all of that.
// A producer can do without a goroutine, and then without a bound: the hook of [Stream.OnLook] produces on the loop's,
// when the loop looks for more.
package iter
