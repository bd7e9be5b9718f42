//go:build unix

package main

import "fmt"

// figure is something that a Result says.
type figure struct {
	name string
	of   func(r Result) float64
	show func(v float64) string
}

// The figures that targets are about.
var (
	rate        = &figure{"messages a second", func(r Result) float64 { return float64(r.Messages) / r.Seconds }, count}
	cost        = &figure{"time a message", func(r Result) float64 { return r.Seconds / float64(r.Messages) }, span}
	duration    = &figure{"time in all", func(r Result) float64 { return r.Seconds }, span}
	cpu         = &figure{"CPU a message", func(r Result) float64 { return r.CPU / float64(r.Messages) }, span}
	allocs      = &figure{"allocations a message", func(r Result) float64 { return float64(r.Mallocs) / float64(r.Messages) }, plain}
	allocated   = &figure{"bytes allocated", func(r Result) float64 { return float64(r.Bytes) }, size}
	calls       = &figure{"system calls a message", func(r Result) float64 { return float64(r.Syscalls) / float64(r.Messages) }, plain}
	collections = &figure{"collections", func(r Result) float64 { return float64(r.GCs) }, plain}
	p50         = &figure{"p50", func(r Result) float64 { return r.P50 }, span}
	p99         = &figure{"p99", func(r Result) float64 { return r.P99 }, span}
	p999        = &figure{"p99.9", func(r Result) float64 { return r.P999 }, span}
	rss         = &figure{"peak memory", func(r Result) float64 { return float64(r.PeakRSS) }, size}
	memoryOf    = &figure{"heap and stacks of one", func(r Result) float64 { return float64(r.Heap+r.Stack) / float64(r.Messages) }, size}
	goroutines  = &figure{"goroutines of one", func(r Result) float64 { return float64(r.Goroutines) / float64(r.Messages) }, plain}
)

// The clients. A target compares ours with another one in the same mode, or
// with itself in another mode, which it names.
const (
	leveret   = "ours"
	amqp091   = "official"
	floor     = "raw"
	rabbitmqC = "rabbitmq-c"
	bound     = "bound" // see bounds
)

type direction bool

const (
	atLeast direction = true
	atMost  direction = false
)

// Target is a figure to reach: so many times the one of against.
type Target struct {
	figure  *figure
	against string // "": nothing, limit is the figure itself
	limit   float64
	is      direction
}

func (t Target) String() string {
	sign := "≤"
	if t.is == atLeast {
		sign = "≥"
	}
	if t.against == "" {
		return sign + " " + t.figure.show(t.limit)
	}
	return fmt.Sprintf("%s %g × %s", sign, t.limit, t.against)
}

// reached judges ours against a reference.
func (t Target) reached(ours, reference float64) bool {
	if t.is == atLeast {
		return ours >= t.limit*reference
	}
	return ours <= t.limit*reference
}

func count(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.3g M", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.3g k", v/1e3)
	}
	return plain(v)
}

func span(v float64) string {
	switch {
	case v >= 1:
		return fmt.Sprintf("%.3g s", v)
	case v >= 1e-3:
		return fmt.Sprintf("%.3g ms", v*1e3)
	case v >= 1e-6:
		return fmt.Sprintf("%.3g µs", v*1e6)
	}
	return fmt.Sprintf("%.3g ns", v*1e9)
}

func size(v float64) string {
	switch {
	case v >= 1<<20:
		return fmt.Sprintf("%.3g MiB", v/(1<<20))
	case v >= 1<<10:
		return fmt.Sprintf("%.3g KiB", v/(1<<10))
	}
	return fmt.Sprintf("%.3g B", v)
}

func plain(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
