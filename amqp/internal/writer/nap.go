package writer

import "time"

// napTime is how long the flusher leaves those alone who write what they have
// filled. When they stop, what is left in the buffer lies there for at most twice
// as long, or twice the millisecond that is the least for which an idle Go program
// sleeps.
const napTime = 500 * time.Microsecond

// nap enters the critical section when those who fill buffers have stopped. It
// reports false, and does not, when somebody waits for what is there. To settle
// instead, which is to look again and again, takes half as much processor time as
// they do.
func (w *Writer) nap() bool {
	w.mu.Lock()
	for flood := true; flood && w.mayNap(); {
		fulls := w.fulls.Load()
		select {
		case <-w.kick: // for what is looked at after the nap anyway
		default:
		}
		w.napping = true
		w.mu.Unlock()
		w.sleep()
		w.mu.Lock()
		w.napping = false
		flood = w.fulls.Load() != fulls
	}
	if w.urgent {
		w.mu.Unlock()
		return false
	}
	return true
}

// mayNap tells whether nothing that is there needs the flusher. The lock is held.
func (w *Writer) mayNap() bool {
	return len(w.buf) < w.goal() && !w.urgent && !w.closing && w.err == nil && len(w.rest) == 0 && len(w.large) == 0
}

// sleep returns after napTime, or when the flusher is woken.
func (w *Writer) sleep() {
	if w.alarm == nil {
		w.alarm = time.NewTimer(napTime)
	} else {
		w.alarm.Reset(napTime)
	}
	select {
	case <-w.alarm.C:
	case <-w.kick:
		w.alarm.Stop()
	case <-w.done:
		w.alarm.Stop()
	}
}
