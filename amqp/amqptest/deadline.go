package amqptest

import (
	"sync"
	"time"
)

// A deadline wakes those who wait for a condition when its time has come. It is guarded by the condition's lock.
type deadline struct {
	changed *sync.Cond
	passed  bool
	timer   *time.Timer
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func (d *deadline) set(t time.Time) {
	d.changed.L.Lock()
	defer d.changed.L.Unlock()
	d.stop()
	wait := time.Until(t)
	d.passed = !t.IsZero() && wait <= 0
	if !t.IsZero() && wait > 0 {
		var timer *time.Timer
		timer = time.AfterFunc(wait, func() {
			d.changed.L.Lock()
			defer d.changed.L.Unlock()
			if d.timer == timer {
				d.passed = true
				d.changed.Broadcast()
			}
		})
		d.timer = timer
	}
	d.changed.Broadcast()
}
