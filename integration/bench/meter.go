//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Result is what a child process measured. Figures that a kind does not have
// are zero.
type Result struct {
	Messages int64   // or connections, or channels
	Seconds  float64 // from the first to the last of them
	CPU      float64 // seconds of this process, user and system
	Mallocs  uint64
	Bytes    uint64 // allocated
	GCs      uint32
	Syscalls uint64 // reads and writes; Linux alone
	PeakRSS  int64  // bytes

	// Latencies in seconds.
	P50, P99, P999 float64

	// What is held at the end, beyond what was at the start.
	Heap, Stack int64
	Goroutines  int
}

// meter is the clock and the counters of a job.
type meter struct {
	*Job
	over atomic.Bool   // enough: stop at the next message
	done chan struct{} // closed with over

	total    atomic.Int64
	stopping sync.Once
	ending   sync.Once
	began    time.Time
	at       reading
	res      Result

	mu        sync.Mutex
	latencies []time.Duration
}

// reading is what the counters show at one time.
type reading struct {
	mem        runtime.MemStats
	goroutines int
	cpu        time.Duration
	calls      uint64
}

func newMeter(j *Job) *meter {
	if j.MemProfile != "" {
		runtime.MemProfileRate = 1
	}
	return &meter{Job: j, done: make(chan struct{})}
}

func (r *reading) take() error {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return err
	}
	r.cpu = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	r.calls = 0
	// Absent on other systems, and then not told.
	if f, err := os.Open("/proc/self/io"); err == nil {
		var ignored, reads, writes uint64
		if _, err := fmt.Fscanf(f, "rchar: %d\nwchar: %d\nsyscr: %d\nsyscw: %d", &ignored, &ignored, &reads, &writes); err == nil {
			r.calls = reads + writes
		}
		f.Close()
	}
	return nil
}

// start starts the clock, when everything is set up.
func (m *meter) start() error {
	if m.CPUProfile != "" {
		f, err := os.Create(m.CPUProfile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
	}
	runtime.GC()
	if err := m.at.take(); err != nil {
		return err
	}
	m.at.mem, m.at.goroutines = memory(), runtime.NumGoroutine() // last, as to read the rest allocates
	m.began = time.Now()
	if m.Messages == 0 {
		time.AfterFunc(time.Duration(m.Seconds*float64(time.Second)), m.enough)
	}
	return nil
}

// enough has everybody stop.
func (m *meter) enough() {
	m.ending.Do(func() {
		m.over.Store(true)
		close(m.done)
	})
}

// stop stops the clock, the first time it is called.
func (m *meter) stop() {
	m.stopping.Do(func() {
		m.enough()
		m.res.Seconds = time.Since(m.began).Seconds()
		var now reading
		now.mem = memory()
		if err := now.take(); err != nil {
			panic(err) // it worked at the start
		}
		pprof.StopCPUProfile()
		m.writeMemProfile()
		m.res.CPU = (now.cpu - m.at.cpu).Seconds()
		m.res.Syscalls = now.calls - m.at.calls
		m.res.Mallocs = now.mem.Mallocs - m.at.mem.Mallocs
		m.res.Bytes = now.mem.TotalAlloc - m.at.mem.TotalAlloc
		m.res.GCs = now.mem.NumGC - m.at.mem.NumGC
	})
}

// writeMemProfile tells who allocated, and what of that is in use.
func (m *meter) writeMemProfile() {
	if m.MemProfile == "" {
		return
	}
	f, err := os.Create(m.MemProfile)
	if err == nil {
		err = errors.Join(pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
	}
	if err != nil {
		progress("%v\n", err)
	}
}

func memory() (s runtime.MemStats) {
	runtime.ReadMemStats(&s)
	return s
}

// weigh notes what the process holds, when nothing happens. Twice, since a
// finalizer may keep something through the first collection.
func (m *meter) weigh() {
	runtime.GC()
	runtime.GC()
	m.writeMemProfile()
	now := memory()
	m.res.Heap = int64(now.HeapAlloc) - int64(m.at.mem.HeapAlloc)
	m.res.Stack = int64(now.StackInuse) - int64(m.at.mem.StackInuse)
	m.res.Goroutines = runtime.NumGoroutine() - m.at.goroutines
}

// result completes the figures.
func (m *meter) result() Result {
	m.res.Messages = m.total.Load()
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) == nil {
		m.res.PeakRSS = u.Maxrss * maxrssUnit
	}
	if n := len(m.latencies); n > 0 {
		slices.Sort(m.latencies)
		at := func(q float64) float64 { return m.latencies[min(int(q*float64(n)), n-1)].Seconds() }
		m.res.P50, m.res.P99, m.res.P999 = at(0.50), at(0.99), at(0.999)
	}
	return m.res
}

// tally counts for one goroutine, so that the counter which all share is not
// part of what is measured.
type tally struct {
	m         *meter
	n         int64
	latencies []time.Duration
}

const (
	tallyEvery = 64
	tallyBody  = 16 << 10 // from here on counting is nothing, and a second has few messages
)

// more counts a message and tells whether another is wanted.
func (t *tally) more() bool {
	t.n++
	if t.n >= tallyEvery || t.m.Messages > 0 || t.m.Body >= tallyBody {
		t.flush()
	}
	return !t.m.over.Load()
}

func (t *tally) flush() {
	total := t.m.total.Add(t.n)
	t.n = 0
	if t.m.Messages > 0 && total >= int64(t.m.Messages) {
		t.m.enough()
	}
}

// newTally is for a goroutine that notes latencies: there is room for them, as
// they are not the client's allocations.
func newTally(m *meter) *tally {
	return &tally{m: m, latencies: make([]time.Duration, 0, 1<<18/m.Goroutines)}
}

// took notes how long a message took.
func (t *tally) took(d time.Duration) { t.latencies = append(t.latencies, d) }

// end hands over what was counted.
func (t *tally) end() {
	t.flush()
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	t.m.latencies = append(t.m.latencies, t.latencies...)
}

// spend keeps the CPU busy, as a handler does.
func spend(d time.Duration) {
	if d > 0 {
		for began := time.Now(); time.Since(began) < d; {
		}
	}
}
