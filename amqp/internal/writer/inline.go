package writer

// CommitAlone is Commit for a caller who will wait for the answer to what it
// appended and believes to be the only one. When nothing else is buffered and
// nobody writes, it hands the bytes to the socket itself, which saves the hop
// to the flusher; it never waits for the socket.
func (w *Writer) CommitAlone(buf []byte) {
	if !w.inline.able() || w.writing || w.kicked || len(w.rest) > 0 || len(w.large) > 0 {
		w.Commit(buf)
		return
	}
	w.buf, w.spare = w.spare, nil
	w.take()
	n := w.inline.try(buf)
	w.mu.Lock()
	w.putBack(buf)
	if n < len(buf) {
		w.rest, w.spare = buf[n:], nil
	}
	if len(w.rest) > 0 || len(w.buf) > 0 || w.kicked || w.closing {
		w.kicked = false // the flusher may have come and gone meanwhile
		w.Commit(w.buf)
		return
	}
	w.Abort()
}
