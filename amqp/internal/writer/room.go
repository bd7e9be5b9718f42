package writer

import "context"

// TryBeginRoom is BeginRoom that reports false where that would wait.
func (w *Writer) TryBeginRoom() (buf []byte, ok bool) {
	w.mu.Lock()
	if w.err == nil && !w.closing && !w.full() {
		return w.buf, true
	}
	w.mu.Unlock()
	return nil, false
}

// BeginRoom is Begin for messages: while more than Limit bytes are waiting to
// be written it waits, until ctx ends.
func (w *Writer) BeginRoom(ctx context.Context) ([]byte, error) {
	w.mu.Lock()
	for w.refusal() == nil && w.full() {
		w.waiting++
		w.mu.Unlock()
		select {
		case <-w.room:
		case <-w.done:
		case <-ctx.Done():
			w.mu.Lock()
			w.waiting--
			w.Abort()
			return nil, context.Cause(ctx)
		}
		w.mu.Lock()
		w.waiting--
	}
	if err := w.refusal(); err != nil {
		w.mu.Unlock()
		return nil, err
	}
	return w.buf, nil
}

// passBaton lets the next of those who wait for room look. One baton is enough:
// whoever took it passes it on when it leaves the critical section.
func (w *Writer) passBaton() {
	if w.waiting > 0 && !w.full() {
		select {
		case w.room <- struct{}{}:
		default:
		}
	}
}

// full tells whether as much is waiting as may be.
func (w *Writer) full() bool { return len(w.buf)+w.copied >= w.limit }
