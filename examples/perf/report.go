package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

// result is what the test has found, as it is printed and written as JSON.
type result struct {
	Options        options     `json:"options"`
	Seconds        float64     `json:"seconds"`
	Published      int64       `json:"published"`
	Confirmed      int64       `json:"confirmed"`
	Failed         int64       `json:"failed"` // nacked, or left unconfirmed
	Received       int64       `json:"received"`
	Foreign        int64       `json:"foreign"` // messages of others
	PublishedRate  float64     `json:"published_per_second"`
	ReceivedRate   float64     `json:"received_per_second"`
	Latency        percentiles `json:"latency_us"`
	ConfirmLatency percentiles `json:"confirm_latency_us"`
	Samples        []sample    `json:"samples"`
}

// percentiles are in microseconds.
type percentiles struct {
	Min  float64 `json:"min"`
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P75  float64 `json:"p75"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

// sample is what happened within about a second.
type sample struct {
	Second         float64     `json:"second"` // at its end
	Published      float64     `json:"published_per_second"`
	Confirmed      float64     `json:"confirmed_per_second"`
	Received       float64     `json:"received_per_second"`
	Latency        percentiles `json:"latency_us"`
	ConfirmLatency percentiles `json:"confirm_latency_us"`
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func (h *histogram) summary() percentiles {
	at := func(p float64) float64 { return microseconds(h.percentile(p)) }
	return percentiles{
		Min: microseconds(h.min), Mean: microseconds(h.mean()), P50: at(50), P75: at(75), P95: at(95), P99: at(99), P999: at(99.9),
		Max: microseconds(h.max),
	}
}

// totals add up the lanes.
func (r *run) totals() (published, confirmed, failed, received int64) {
	for _, l := range r.lanes {
		published += l.published.Load()
		confirmed += l.confirmed.Load()
		failed += l.failed.Load()
		received += l.received.Load()
	}
	return published, confirmed, failed, received
}

// watch prints a line a second until stop is closed, and one for the rest if that
// is long, or all there is.
func (r *run) watch(ctx context.Context, began time.Time, stop <-chan struct{}) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	last, p0, c0, r0 := began, int64(0), int64(0), int64(0)
	for over := false; !over; {
		select {
		case <-second.C:
		case <-stop:
			over = true
		case <-ctx.Done():
			return
		}
		now := time.Now()
		if over && len(r.samples) > 0 && now.Sub(last) < time.Second/2 {
			return
		}
		p, c, _, rec := r.totals()
		per := func(n, before int64) float64 { return float64(n-before) / now.Sub(last).Seconds() }
		s := sample{
			Second: now.Sub(began).Seconds(), Published: per(p, p0), Confirmed: per(c, c0), Received: per(rec, r0),
			Latency: r.transit.collect().summary(), ConfirmLatency: r.confirm.collect().summary(),
		}
		r.samples = append(r.samples, s)
		fmt.Println(s.line(r.opts.Confirm > 0))
		last, p0, c0, r0 = now, p, c, rec
	}
}

func (s *sample) line(confirms bool) string {
	line := fmt.Sprintf("%5.0f s   published %8.0f/s   received %8.0f/s   latency %s", s.Second, s.Published, s.Received, s.Latency.short())
	if confirms {
		line += fmt.Sprintf("   confirmed %8.0f/s   confirm latency %s", s.Confirmed, s.ConfirmLatency.short())
	}
	return line
}

// short is the median, 95th and 99th percentile, and the maximum.
func (p *percentiles) short() string {
	return fmt.Sprintf("%s/%s/%s/%s", nice(p.P50), nice(p.P95), nice(p.P99), nice(p.Max))
}

func nice(us float64) string {
	switch {
	case us >= 1e6:
		return fmt.Sprintf("%.2fs", us/1e6)
	case us >= 1e3:
		return fmt.Sprintf("%.1fms", us/1e3)
	}
	return fmt.Sprintf("%.0fµs", us)
}

// result sums up. Nothing runs any more.
func (r *run) result(took time.Duration) *result {
	r.transit.collect()
	r.confirm.collect()
	p, c, f, rec := r.totals()
	return &result{
		Options: r.opts, Seconds: took.Seconds(), Published: p, Confirmed: c, Failed: f, Received: rec, Foreign: r.foreign.Load(),
		PublishedRate: float64(p) / took.Seconds(), ReceivedRate: float64(rec) / took.Seconds(),
		Latency: r.transit.total.summary(), ConfirmLatency: r.confirm.total.summary(), Samples: r.samples,
	}
}

// String is the summary.
func (r *result) String() string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say("in %.2f s", r.Seconds)
	say("  published  %9d   %9.0f/s   %.1f MB/s", r.Published, r.PublishedRate, r.PublishedRate*float64(r.Options.Size)/1e6)
	say("  received   %9d   %9.0f/s   %.1f MB/s", r.Received, r.ReceivedRate, r.ReceivedRate*float64(r.Options.Size)/1e6)
	if r.Options.Confirm > 0 {
		say("  confirmed  %9d   failed %d", r.Confirmed, r.Failed)
	}
	if r.Foreign > 0 {
		say("  and %d messages of others, which are not measured", r.Foreign)
	}
	say("%-16s %8s %8s %8s %8s %8s %8s %8s %8s", "", "min", "mean", "50 %", "75 %", "95 %", "99 %", "99.9 %", "max")
	row := func(name string, p percentiles) {
		say("%-16s %8s %8s %8s %8s %8s %8s %8s %8s", name,
			nice(p.Min), nice(p.Mean), nice(p.P50), nice(p.P75), nice(p.P95), nice(p.P99), nice(p.P999), nice(p.Max))
	}
	row("latency", r.Latency)
	if r.Options.Confirm > 0 {
		row("confirm latency", r.ConfirmLatency)
	}
	return b.String()
}

// save writes the result as JSON, if a file is named.
func (r *result) save(file string) error {
	if file == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644) // #nosec G306 -- it is no secret
}
