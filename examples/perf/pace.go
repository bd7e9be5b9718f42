package main

import (
	"context"
	"time"
)

// pace spreads events over time. Who was held up catches up.
type pace struct {
	rate  float64 // events a second; 0: no limit
	began time.Time
	n     int
}

// wait returns when the next event is due.
func (p *pace) wait(ctx context.Context) error {
	if p.rate == 0 {
		return ctx.Err()
	}
	if p.n == 0 {
		p.began = time.Now()
	}
	due := p.began.Add(time.Duration(float64(p.n) / p.rate * float64(time.Second)))
	p.n++
	early := time.Until(due)
	if early <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(early)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
