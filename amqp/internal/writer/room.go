package writer

import "context"

// BeginRoom is Begin for messages: while more than Limit bytes are waiting to
// be written it waits, until ctx ends.
func (w *Writer) BeginRoom(ctx context.Context) ([]byte, error) {
	w.mu.Lock()
	if w.err == nil && !w.closing && len(w.buf) < w.limit {
		return w.buf, nil
	}
	return w.waitRoom(ctx)
}

func (w *Writer) waitRoom(ctx context.Context) ([]byte, error) {
	for w.refusal() == nil && len(w.buf) >= w.limit {
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
	if w.waiting > 0 && len(w.buf) < w.limit {
		select {
		case w.room <- struct{}{}:
		default:
		}
	}
}
