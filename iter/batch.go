package iter

import "time"

// Batches ranges over the stream's items in slices: up to size of them, at least one, or those that came within wait of
// the first. Without a wait (zero or less) a batch is what is there. A size below one counts as one. Each slice is the
// loop's own to keep.
//
// When the stream ends, what is left comes as a last batch, smaller perhaps. After Stop that is only what had been
// taken for a batch already.
func Batches[T any](s *Stream[T], size int, wait time.Duration) Seq[[]T] {
	return func(yield func([]T) bool) {
		b := batcher[T]{loop: loop[T]{stream: s}, size: max(size, 1), wait: wait}
		b.loop.enter()
		defer b.loop.leave()
		defer b.stop()
		for b.loop.await(nil) {
			batch, more := b.next()
			if len(batch) > 0 && !yield(batch) || !more {
				return
			}
		}
	}
}

type batcher[T any] struct {
	loop  loop[T]
	size  int
	wait  time.Duration
	timer *time.Timer // nil until a batch waits
}

// next collects one batch, and reports false when the stream is over.
func (b *batcher[T]) next() (batch []T, more bool) {
	var deadline <-chan time.Time
	for {
		batch = b.claim(batch)
		if len(batch) == b.size {
			return batch, true
		}
		patient := b.wait > 0 && len(batch) > 0
		found := b.loop.look(patient)
		if found == ready {
			continue
		}
		if found == over || !patient {
			return batch, found != over
		}
		if deadline == nil {
			deadline = b.start()
		}
		select {
		case <-b.loop.link.waiter:
		case <-deadline:
			b.loop.unqueue()
			return batch, true
		}
	}
}

func (b *batcher[T]) claim(batch []T) []T {
	if batch == nil {
		batch = make([]T, 0, min(b.size, max(1, b.loop.chunk.left())))
	}
	return b.loop.chunk.claim(batch, b.size-len(batch))
}

// start starts the timer.
func (b *batcher[T]) start() <-chan time.Time {
	if b.timer == nil {
		b.timer = time.NewTimer(b.wait)
	} else {
		b.timer.Reset(b.wait)
	}
	return b.timer.C
}

func (b *batcher[T]) stop() {
	if b.timer != nil {
		b.timer.Stop()
	}
}
