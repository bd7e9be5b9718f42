package amqptest

import "time"

// An alarmClock calls a function under the broker's lock, once, at a time that can be moved.
// It is guarded by that lock: a call that was moved or stopped does not happen.
type alarmClock struct {
	broker *Broker
	ring   func()
	timer  *time.Timer
	round  int // tells a call that was in flight when the clock was moved
}

func (a *alarmClock) init(b *Broker, ring func()) { a.broker, a.ring = b, ring }

func (a *alarmClock) set(after time.Duration) {
	a.stop()
	round := a.round
	a.timer = time.AfterFunc(after, func() {
		a.broker.lock()
		defer a.broker.unlock()
		if a.round == round {
			a.timer = nil
			a.ring()
		}
	})
}

func (a *alarmClock) stop() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
		a.round++
	}
}

func (a *alarmClock) running() bool { return a.timer != nil }
