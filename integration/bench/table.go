//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
)

// Row is a figure in the table: ours beside the others', and its target.
type Row struct {
	Mode, Figure string
	Medians      map[string]float64 // by client
	Target       string
	Reached      string // yes, no, or why it is not known
	figure       *figure
	chart        bool
}

// rows judges what was measured.
func rows(all []*Measured) (out []Row) {
	byName := make(map[string]*Measured)
	for _, m := range all {
		byName[m.Name] = m
	}
	for _, m := range all {
		for _, t := range m.Targets {
			row := Row{Mode: m.Name, Figure: t.figure.name, Target: t.String(), Medians: make(map[string]float64), figure: t.figure, chart: m.Chart && t.figure == rate}
			for client := range m.Rounds {
				row.Medians[client], _ = m.median(client, t.figure)
			}
			row.Reached = judge(m, t, byName)
			out = append(out, row)
		}
	}
	return out
}

func judge(m *Measured, t Target, byName map[string]*Measured) string {
	ours, ok := m.median(leveret, t.figure)
	reference, known := 1.0, true
	switch t.against {
	case "":
	case amqp091, floor, rabbitmqC:
		reference, known = m.median(t.against, t.figure)
	default:
		other := byName[t.against]
		if known = other != nil; known {
			reference, known = other.median(leveret, t.figure)
		}
	}
	switch {
	case !ok || !known:
		return "not measured"
	case t.reached(ours, reference):
		return "yes"
	}
	return "NO"
}

// printTable prints what was measured, for people.
func printTable(w io.Writer, rows []Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "mode\tfigure\tours\tofficial\traw\trabbitmq-c\t× official\t× raw\t× rabbitmq-c\ttarget\treached")
	last, reached, known := "", 0, 0
	for _, r := range rows {
		name := r.Mode
		if name == last {
			name = ""
		}
		last = r.Mode
		show := func(client string) string {
			if v, ok := r.Medians[client]; ok {
				return r.figure.show(v)
			}
			return "–"
		}
		ratio := func(client string) string {
			if v := r.Medians[client]; v != 0 {
				return fmt.Sprintf("%.3g", r.Medians[leveret]/v)
			}
			return "–"
		}
		fmt.Fprintln(t, strings.Join([]string{
			name, r.Figure, show(leveret), show(amqp091), show(floor), show(rabbitmqC),
			ratio(amqp091), ratio(floor), ratio(rabbitmqC), r.Target, r.Reached,
		}, "\t"))
		switch r.Reached {
		case "yes":
			reached++
			known++
		case "NO":
			known++
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d of %d targets reached, %d not measured\n", reached, known, len(rows)-known)
	return err
}

// printBounds prints how far ours is from what any client has to do, and that
// from the floor.
func printBounds(w io.Writer, all []*Measured) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	title := "\nmode\tfigure\tours\tbound\traw\t× bound\tbound × raw"
	for _, m := range all {
		figures := []*figure{rate, cpu}
		if m.Job.Kind == "waiters" {
			figures = []*figure{p50, cpu}
		}
		for _, f := range figures {
			ours, ok := m.median(leveret, f)
			least, known := m.median(bound, f)
			raw, floored := m.median(floor, f)
			if !ok || !known || !floored {
				continue
			}
			if title != "" {
				fmt.Fprintln(t, title)
				title = ""
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.3g\t%.3g\n", m.Name, f.name, f.show(ours), f.show(least), f.show(raw), ours/least, least/raw)
		}
	}
	return t.Flush()
}

// printCosts prints what a message costs each client, whether or not there is a
// target for it.
func printCosts(w io.Writer, all []*Measured) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\na message's\tCPU\t\t\t\tallocations\t\tsystem calls\t\t")
	fmt.Fprintln(t, "mode\tours\tofficial\traw\trabbitmq-c\tours\tofficial\tours\tofficial\traw")
	for _, m := range all {
		show := func(client string, f *figure) string {
			if v, ok := m.median(client, f); ok {
				return f.show(v)
			}
			return "–"
		}
		fmt.Fprintln(t, strings.Join([]string{
			m.Name, show(leveret, cpu), show(amqp091, cpu), show(floor, cpu), show(rabbitmqC, cpu),
			show(leveret, allocs), show(amqp091, allocs),
			show(leveret, calls), show(amqp091, calls), show(floor, calls),
		}, "\t"))
	}
	return t.Flush()
}

// writeJSON keeps everything: each round of each client, and the table.
func writeJSON(file string, all []*Measured, rows []Row) error {
	type mode struct {
		Name   string
		Job    Job
		Rounds map[string][]Result
	}
	report := struct {
		Go, System string
		CPUs       int
		Table      []Row
		Modes      []mode
	}{Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), Table: rows}
	for _, m := range all {
		report.Modes = append(report.Modes, mode{m.Name, m.Job, m.Rounds})
	}
	text, err := json.MarshalIndent(report, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
