//go:build unix

package main

import (
	"fmt"
	"slices"
	"time"
)

// Mode is one line of work that all clients do in turn.
type Mode struct {
	Name    string
	Job     Job
	Clients []string // those that can do it; nil: all
	Orders  orders   // of the null broker
	Rabbit  bool     // on RabbitMQ, instead
	Prefill int      // messages put into each queue before, on RabbitMQ
	Procs   int      // GOMAXPROCS of the clients; 0: left alone
	Turns   int      // in a round, each so much shorter; 0: one. For what differs from process to process
	Targets []Target
	Chart   bool // in the SVG
}

// goOnly are the clients that are Go programs, goAndRaw those and the floor.
var (
	goOnly   = []string{leveret, amqp091}
	goAndRaw = []string{leveret, amqp091, floor}
)

var bodies = []struct {
	name string
	size int
}{{"16B", 16}, {"1KiB", 1 << 10}, {"4KiB", 4 << 10}, {"64KiB", 64 << 10}, {"1MiB", 1 << 20}}

// modes are all there are, in the order of the table.
func modes() []Mode {
	var all []Mode
	all = append(all, publishModes()...)
	all = append(all, confirmModes()...)
	all = append(all, consumeModes()...)
	all = append(all, flatModes()...)
	all = append(all, sizeModes()...)
	all = append(all, rabbitModes()...)
	for i := range all {
		m := &all[i]
		j := &m.Job
		if j.Kind == "latency" || j.Kind == "waiters" && j.Goroutines <= 1 {
			m.Turns = 3
		}
		j.Connections, j.Channels, j.Goroutines = max(j.Connections, 1), max(j.Channels, 1), max(j.Goroutines, 1)
		m.Orders.body, m.Orders.props = j.Body, j.Props
		if m.Targets == nil {
			// Nothing may be worse than with the official client.
			m.Targets = []Target{{rate, amqp091, 1, atLeast}}
		}
	}
	return all
}

// variants are a mode in every size, with and without properties, encrypted,
// and on one processor.
func variants(name string, job Job, targets func(size int) []Target) (all []Mode) {
	for _, b := range bodies {
		j := job
		j.Body = b.size
		m := Mode{Name: name + "/" + b.name, Job: j, Chart: b.size == 16 || b.size == 64<<10}
		if targets != nil {
			m.Targets = targets(b.size)
		}
		all = append(all, m)
		if b.size <= 4<<10 {
			j.Props = true
			all = append(all, Mode{Name: name + "/" + b.name + "/properties", Job: j})
		}
	}
	small, large := job, job
	small.Body, large.Body = 16, 64<<10
	one := Mode{Name: name + "/16B/one-processor", Job: small, Procs: 1}
	small.TLS, large.TLS = true, true
	return append(all, one,
		Mode{Name: name + "/16B/tls", Job: small, Clients: goAndRaw},
		Mode{Name: name + "/64KiB/tls", Job: large, Clients: goAndRaw})
}

func isLarge(size int) bool { return size >= 64<<10 }

func largeTargets() []Target {
	return []Target{{rate, amqp091, 1, atLeast}, {rate, rabbitmqC, 1, atLeast}, {allocs, "", 2, atMost}}
}

func publishModes() []Mode {
	all := variants("null/publish", Job{Kind: "publish"}, func(size int) []Target {
		switch {
		case size == 16:
			return []Target{{rate, amqp091, 60, atLeast}, {rate, floor, 0.6, atLeast}, {allocs, "", 0.005, atMost}}
		case isLarge(size):
			return largeTargets()
		}
		return nil
	})
	for _, g := range []int{8, 64} {
		all = append(all,
			Mode{Name: fmt.Sprintf("null/publish/16B/%d-goroutines-1-channel", g), Job: Job{Kind: "publish", Body: 16, Goroutines: g}, Clients: goOnly},
			Mode{Name: fmt.Sprintf("null/publish/16B/%d-goroutines-%d-channels", g, g), Job: Job{Kind: "publish", Body: 16, Goroutines: g, Channels: g}, Clients: goOnly})
	}
	return append(all, Mode{Name: "null/publish/16B/10-connections", Job: Job{Kind: "publish", Body: 16, Connections: 10}, Clients: goAndRaw})
}

func confirmModes() []Mode {
	all := variants("null/confirm", Job{Kind: "confirm", Window: 1000}, func(size int) []Target {
		switch {
		case size == 16:
			return []Target{{rate, amqp091, 30, atLeast}, {rate, floor, 0.6, atLeast}, {allocs, "", 0.005, atMost}}
		case isLarge(size):
			return largeTargets()
		}
		return nil
	})
	few := []Target{{rate, amqp091, 4, atLeast}, {allocs, "", 0.01, atMost}}
	lone := []Target{{p50, amqp091, 1, atMost}, {p50, floor, 1.5, atMost}, {allocs, "", 0.01, atMost}}
	tail := []Target{{p99, amqp091, 1.2, atMost}, {p999, amqp091, 1.2, atMost}}
	return append(all,
		Mode{Name: "null/waiters/64", Job: Job{Kind: "waiters", Body: 16, Goroutines: 64}, Clients: goOnly, Targets: few, Chart: true},
		Mode{Name: "null/waiters/64/one-processor", Job: Job{Kind: "waiters", Body: 16, Goroutines: 64}, Clients: goOnly, Procs: 1},
		Mode{Name: "null/lone/16B", Job: Job{Kind: "waiters", Body: 16}, Targets: append(lone, tail...)},
		Mode{Name: "null/lone/1KiB", Job: Job{Kind: "waiters", Body: 1 << 10}, Targets: lone[:2]},
		Mode{Name: "null/lone/64KiB", Job: Job{Kind: "waiters", Body: 64 << 10}, Targets: lone[:1]},
		Mode{Name: "null/lone/16B/one-processor", Job: Job{Kind: "waiters", Body: 16}, Targets: lone[:1], Procs: 1},
		Mode{Name: "null/lone/16B/tls", Job: Job{Kind: "waiters", Body: 16, TLS: true}, Targets: lone[:1], Clients: goAndRaw})
}

func consumeModes() []Mode {
	all := variants("null/consume", Job{Kind: "consume", NoAck: true}, func(size int) []Target {
		switch {
		case size == 16:
			return []Target{{rate, amqp091, 18, atLeast}, {rate, rabbitmqC, 2, atLeast}, {rate, floor, 0.5, atLeast}, {allocs, "", 0.05, atMost}}
		case size == 4<<10:
			return []Target{{rate, amqp091, 1, atLeast}, {allocs, "", 0.1, atMost}}
		case isLarge(size):
			return largeTargets()
		}
		return nil
	})
	all = append(all, variants("null/ack", Job{Kind: "consume", Prefetch: -1}, func(size int) []Target {
		switch {
		case size == 16:
			return []Target{{rate, amqp091, 35, atLeast}, {rate, floor, 0.5, atLeast}, {allocs, "", 0.05, atMost}}
		case isLarge(size):
			return largeTargets()
		}
		return nil
	})...)
	for _, p := range []int{10, 100, 1000} {
		all = append(all, Mode{Name: fmt.Sprintf("null/ack/16B/prefetch-%d", p), Job: Job{Kind: "consume", Body: 16, Prefetch: p}, Orders: orders{honour: true}})
	}
	return append(all,
		Mode{Name: "null/consume/16B/10x10", Job: Job{Kind: "consume", Body: 16, NoAck: true, Connections: 10, Channels: 10}, Clients: goAndRaw},
		Mode{Name: "null/ack/16B/10x10", Job: Job{Kind: "consume", Body: 16, Prefetch: -1, Connections: 10, Channels: 10}, Clients: goAndRaw},
		Mode{Name: "null/consume/16B/slow", Job: Job{Kind: "consume", Body: 16, NoAck: true, Work: 5 * time.Microsecond, Messages: 500_000}, Orders: orders{count: 500_000}, Clients: goOnly,
			Targets: []Target{{rss, amqp091, 1, atMost}}},
		Mode{Name: "null/consume/16B/2M-messages", Job: Job{Kind: "consume", Body: 16, NoAck: true, Messages: 2_000_000}, Orders: orders{count: 2_000_000}, Clients: goOnly,
			Targets: []Target{{collections, amqp091, 0.1, atMost}, {allocated, amqp091, 0.1, atMost}}})
}

// flatModes show that a message costs the same whatever else there is. The
// comparison is with the mode of the smallest size.
func flatModes() (all []Mode) {
	const noise = 1.25
	flat := func(name string, sizes []int, m func(size int) Mode) {
		first := fmt.Sprintf("%s/%d", name, sizes[0])
		for i, size := range sizes {
			one := m(size)
			one.Name = fmt.Sprintf("%s/%d", name, size)
			if i > 0 {
				one.Targets = []Target{{cost, first, noise, atMost}}
			}
			all = append(all, one)
		}
	}
	channels := []int{1, 100, 2000}
	flat("null/flat/publish-channels", channels, func(n int) Mode {
		return Mode{Job: Job{Kind: "publish", Body: 16, Channels: n}, Clients: goAndRaw}
	})
	// The bound shows what a goroutine of the program's for each channel costs.
	withBound := append(slices.Clone(goAndRaw), bound)
	flat("null/flat/consume-channels", channels, func(n int) Mode {
		return Mode{Job: Job{Kind: "consume", Body: 16, NoAck: true, Channels: n}, Clients: withBound}
	})
	flat("null/flat/ack-channels", channels, func(n int) Mode {
		return Mode{Job: Job{Kind: "consume", Body: 16, Prefetch: -1, Channels: n}, Clients: withBound}
	})
	outstanding := []int{10, 1000, 100_000}
	flat("null/flat/unconfirmed", outstanding, func(n int) Mode {
		return Mode{Job: Job{Kind: "confirm", Body: 16, Window: n + 1000}, Orders: orders{lag: n}, Clients: goOnly}
	})
	flat("null/flat/unacknowledged", outstanding, func(n int) Mode {
		return Mode{Job: Job{Kind: "consume", Body: 16, Prefetch: -1, Hold: n}, Clients: goOnly}
	})
	return all
}

func sizeModes() []Mode {
	return []Mode{
		{Name: "null/size/connection", Job: Job{Kind: "connections", Connections: 500}, Clients: goOnly,
			Targets: []Target{{memoryOf, "", 20 << 10, atMost}, {goroutines, "", 3, atMost}}},
		{Name: "null/size/2000-channels-with-a-range", Job: Job{Kind: "ranges", Channels: 2000, AtOnce: true}, Orders: orders{count: -1}, Clients: goOnly,
			Targets: []Target{{memoryOf, amqp091, 0.5, atMost}, {goroutines, amqp091, 1, atMost}}},
		{Name: "null/open/500-connections", Job: Job{Kind: "connections", Connections: 500}, Clients: goAndRaw},
		{Name: "null/open/2000-channels-in-a-row", Job: Job{Kind: "channels", Channels: 2000}, Clients: goAndRaw},
		{Name: "null/open/2000-channels-at-once", Job: Job{Kind: "channels", Channels: 2000, AtOnce: true}, Clients: goAndRaw},
	}
}

func rabbitModes() []Mode {
	const lean = 0.5 // of the official client's CPU
	all := []Mode{
		{Name: "rabbit/publish/16B", Job: Job{Kind: "publish", Body: 16}, Chart: true,
			Targets: []Target{{rate, amqp091, 1, atLeast}, {cpu, amqp091, 0.1, atMost}, {cpu, rabbitmqC, 1, atMost}}},
		{Name: "rabbit/publish/1KiB", Job: Job{Kind: "publish", Body: 1 << 10}},
		{Name: "rabbit/confirm/16B", Job: Job{Kind: "confirm", Body: 16, Window: 1000}, Chart: true,
			Targets: []Target{{rate, amqp091, 1.15, atLeast}, {cpu, amqp091, lean, atMost}, {cpu, rabbitmqC, 1, atMost}}},
		{Name: "rabbit/confirm/1KiB", Job: Job{Kind: "confirm", Body: 1 << 10, Window: 1000}},
		{Name: "rabbit/waiters/64", Job: Job{Kind: "waiters", Body: 16, Goroutines: 64}, Clients: goOnly,
			Targets: []Target{{rate, amqp091, 1, atLeast}, {cpu, amqp091, lean, atMost}}},
		{Name: "rabbit/lone/16B", Job: Job{Kind: "waiters", Body: 16},
			Targets: []Target{{p50, amqp091, 1, atMost}, {cpu, amqp091, 1, atMost}}},
		{Name: "rabbit/consume/16B", Job: Job{Kind: "consume", Body: 16, NoAck: true}, Chart: true,
			Targets: []Target{{rate, amqp091, 1, atLeast}, {cpu, amqp091, lean, atMost}, {cpu, rabbitmqC, 1, atMost}}},
	}
	for _, p := range []int{10, 100, 1000} {
		all = append(all, Mode{Name: fmt.Sprintf("rabbit/ack/16B/prefetch-%d", p), Job: Job{Kind: "consume", Body: 16, Prefetch: p}, Chart: true,
			Targets: []Target{{rate, amqp091, 2, atLeast}, {rate, floor, 0.9, atLeast}, {rate, rabbitmqC, 1, atLeast}, {cpu, amqp091, lean, atMost}, {cpu, rabbitmqC, 1, atMost}}})
	}
	all = append(all,
		Mode{Name: "rabbit/ack/1KiB/prefetch-100", Job: Job{Kind: "consume", Body: 1 << 10, Prefetch: 100}},
		Mode{Name: "rabbit/ack/16B/10x10", Job: Job{Kind: "consume", Body: 16, Prefetch: 100, Connections: 10, Channels: 10}, Clients: goAndRaw,
			Targets: []Target{{rate, amqp091, 1, atLeast}, {rate, "rabbit/ack/16B/prefetch-100", 1, atLeast}}},
		Mode{Name: "rabbit/latency/1000-a-second", Job: Job{Kind: "latency", Body: 16, Prefetch: 100, Rate: 1000}, Clients: goAndRaw,
			Targets: []Target{{p50, amqp091, 1, atMost}, {p99, amqp091, 1.2, atMost}, {p999, amqp091, 1.2, atMost}}},
		Mode{Name: "rabbit/open/500-connections", Job: Job{Kind: "connections", Connections: 500}, Clients: goAndRaw,
			Targets: []Target{{duration, floor, 1.1, atMost}}},
		Mode{Name: "rabbit/open/2000-channels-in-a-row", Job: Job{Kind: "channels", Channels: 2000}, Clients: goAndRaw,
			Targets: []Target{{duration, floor, 1.1, atMost}}},
		Mode{Name: "rabbit/open/2000-channels-at-once", Job: Job{Kind: "channels", Channels: 2000, AtOnce: true}, Clients: goAndRaw,
			Targets: []Target{{duration, floor, 1.1, atMost}}})
	for i := range all {
		m := &all[i]
		m.Rabbit = true
		if m.Job.Kind == "consume" {
			m.Prefill = 100_000
		}
	}
	return all
}
