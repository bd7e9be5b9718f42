package main

import (
	"sync"
	"time"
)

// recorder is one goroutine's histogram since it was collected last.
type recorder struct {
	mu sync.Mutex
	h  histogram
}

func (r *recorder) record(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.record(d)
}

// recorders are those of one kind of measurement.
type recorders struct {
	mu    sync.Mutex
	all   []*recorder
	total histogram
}

func (rs *recorders) add() *recorder {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := new(recorder)
	rs.all = append(rs.all, r)
	return r
}

// collect returns what was recorded since the last time.
func (rs *recorders) collect() *histogram {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	latest := new(histogram)
	for _, r := range rs.all {
		r.mu.Lock()
		latest.add(&r.h)
		r.h = histogram{}
		r.mu.Unlock()
	}
	rs.total.add(latest)
	return latest
}

// stopwatch measures from a message's publishing to its confirm.
type stopwatch struct {
	to   *recorder
	mu   sync.Mutex
	ring []lap
}

type lap struct {
	sequence uint64
	began    time.Time
}

// newStopwatch is for so many messages at once.
func newStopwatch(to *recorder, window int) *stopwatch {
	return &stopwatch{to: to, ring: make([]lap, 4*window+1)}
}

func (s *stopwatch) start(sequence uint64) {
	if sequence == 0 {
		return // it will not be confirmed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ring[sequence%uint64(len(s.ring))] = lap{sequence, time.Now()}
}

// stop leaves out a message that was overtaken by four windows of others.
func (s *stopwatch) stop(sequence uint64) {
	s.mu.Lock()
	l := s.ring[sequence%uint64(len(s.ring))]
	s.mu.Unlock()
	if l.sequence == sequence {
		s.to.record(time.Since(l.began))
	}
}
