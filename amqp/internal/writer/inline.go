package writer

// CommitAlone is Commit for a caller who will wait for the answer to what it
// appended and believes to be the only one. When nothing else is buffered and
// nobody writes, it hands the bytes to the socket itself, which saves the hop
// to the flusher; it never waits for the socket.
func (w *Writer) CommitAlone(buf []byte) {
	if w.kicked || !w.mayInline() {
		w.Commit(buf)
		return
	}
	w.writeInline(buf)
	w.mu.Unlock()
}

// commitFull is Commit for the caller who has filled the buffer. It hands the
// bytes to the socket itself: while one processor adds as fast as it can, another
// that takes the buffer and the lock away from it costs both more than the write.
func (w *Writer) commitFull(buf []byte) {
	if w.collect != nil {
		buf = w.collect(buf)
	}
	w.fulls.Add(1)
	w.writeInline(buf)
	w.mu.Unlock()
}

// Flush writes what is buffered and what was put off, itself where it can. It never
// waits for the socket.
func (w *Writer) Flush() {
	w.mu.Lock()
	switch {
	case w.err != nil:
		w.mu.Unlock()
	case w.mayInline():
		w.flushInline()
		w.mu.Unlock()
	default:
		w.Commit(w.buf)
	}
}

func (w *Writer) flushInline() {
	buf := w.buf
	if w.collect != nil {
		buf = w.collect(buf)
	}
	if len(buf) == 0 {
		w.buf = buf
		return
	}
	w.writeInline(buf)
}

// mayInline tells whether the order of bytes lets a caller write. The lock is held.
func (w *Writer) mayInline() bool {
	return !w.writing && len(w.rest) == 0 && len(w.large) == 0 && w.inline.able()
}

// writeInline swaps the buffers and writes what the socket takes at once. The
// lock is held before and after, and not in between.
func (w *Writer) writeInline(buf []byte) {
	w.buf, w.spare, w.urgent = w.spare, nil, false
	w.take()
	n := w.inline.try(buf)
	w.mu.Lock()
	w.putBack(buf)
	if n < len(buf) {
		w.rest, w.spare = buf[n:], nil
	}
	if w.napping && w.mayNap() {
		return
	}
	if len(w.rest) > 0 || len(w.buf) > 0 || w.kicked || w.closing {
		w.wake() // also if it was kicked: it may have come and gone meanwhile
	}
}
