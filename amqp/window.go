package amqp

// window keeps something for each of the latest sequence numbers: those from
// base up to next. What is older and still open is kept apart, so that one
// number which stays open for months costs one entry, and not one for each that
// came after it.
type window[T any] struct {
	base, next uint64
	ring       []T // by number modulo its length, a power of two; zero outside of the window
	old        map[uint64]T
	open       int // entries of the ring that are not done
}

const (
	firstRing = 16
	// sparse is the size from which a ring that is mostly done is emptied
	// into old rather than doubled.
	sparse = 4096
)

func (w *window[T]) at(n uint64) *T { return &w.ring[n&uint64(len(w.ring)-1)] }

// reserve makes room for n more numbers. isOpen tells what has to be kept when
// the window moves on without its older part.
func (w *window[T]) reserve(n uint64, isOpen func(T) bool) {
	if w.next-w.base+n <= uint64(len(w.ring)) {
		return
	}
	if len(w.ring) >= sparse && w.open < len(w.ring)/4 {
		w.retire(isOpen)
		if n <= uint64(len(w.ring)) {
			return
		}
	}
	size := max(uint64(len(w.ring)), firstRing)
	for size < w.next-w.base+n {
		size *= 2
	}
	bigger := make([]T, size)
	for i := w.base; i < w.next; i++ {
		bigger[i&(size-1)] = *w.at(i)
	}
	w.ring = bigger
}

// retire moves what is open out of the ring, and the window past it.
func (w *window[T]) retire(isOpen func(T) bool) {
	if w.old == nil {
		w.old = make(map[uint64]T)
	}
	for i := w.base; i < w.next; i++ {
		if v := *w.at(i); isOpen(v) {
			w.old[i] = v
		}
	}
	clear(w.ring)
	w.base, w.open = w.next, 0
}
