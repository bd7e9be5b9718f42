//go:build unix

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

type options struct {
	run      string
	rounds   int
	seconds  float64
	quick    bool
	list     bool
	json     string
	svg      string
	cpu, mem string
	clients  string

	null bool   // be the null broker
	job  string // be a client
}

func main() {
	var o options
	flag.StringVar(&o.run, "run", "", "measure the modes whose names match this `regexp`")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds, of which the median is told")
	flag.Float64Var(&o.seconds, "seconds", 1, "length of a measurement")
	flag.BoolVar(&o.quick, "quick", false, "one round of 0.2 s: to see that it works, not how fast")
	flag.BoolVar(&o.list, "list", false, "list the modes")
	flag.StringVar(&o.json, "json", "", "write everything to this `file`")
	flag.StringVar(&o.svg, "svg", "", "write a chart to this `file`")
	flag.StringVar(&o.cpu, "cpuprofile", "", "write CPU profiles of our client into this `directory`")
	flag.StringVar(&o.mem, "memprofile", "", "write profiles of all its allocations into this `directory`")
	flag.StringVar(&o.clients, "clients", "", "measure the clients whose names match this `regexp`")
	flag.BoolVar(&o.null, "null-broker", false, "be the null broker (what the program starts itself as)")
	flag.StringVar(&o.job, "job", "", "do a job given as JSON (what the program starts itself with)")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	switch {
	case o.null:
		err = serveNull()
	case o.job != "":
		err = runChild(o.job)
	default:
		err = measure(ctx, &o)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// measure is the parent.
func measure(ctx context.Context, o *options) (err error) {
	chosen, err := choose(o.run)
	if err != nil {
		return err
	}
	if o.list {
		for _, m := range chosen {
			fmt.Println(m.Name)
		}
		return nil
	}
	if o.quick {
		o.rounds, o.seconds = 1, 0.2
	}
	r := &runner{rounds: max(o.rounds, 1), seconds: o.seconds, cpuProfiles: o.cpu, memProfiles: o.mem, quick: o.quick}
	if r.clients, err = chooseClients(o.clients); err != nil {
		return err
	}
	if err := r.open(ctx, chosen); err != nil {
		return err
	}
	defer r.close()
	all, err := r.all(ctx, chosen)
	if len(all) == 0 {
		return err
	}
	return errors.Join(err, report(o, all))
}

func choose(pattern string) (chosen []Mode, err error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("-run: %w", err)
	}
	for _, m := range modes() {
		if re.MatchString(m.Name) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("-run: no mode matches %q; -list shows them", pattern)
	}
	return chosen, nil
}

func chooseClients(pattern string) (chosen []string, err error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("-clients: %w", err)
	}
	for _, c := range []string{leveret, amqp091, floor, rabbitmqC, bound} {
		if re.MatchString(c) {
			chosen = append(chosen, c)
		}
	}
	return chosen, nil
}

// report prints and writes what was measured.
func report(o *options, all []*Measured) error {
	table := rows(all)
	if err := printTable(os.Stdout, table); err != nil {
		return err
	}
	if err := errors.Join(printBounds(os.Stdout, all), printCosts(os.Stdout, all)); err != nil {
		return err
	}
	if o.json != "" {
		if err := writeJSON(o.json, all, table); err != nil {
			return err
		}
	}
	if o.svg != "" {
		return writeSVG(o.svg, table)
	}
	return nil
}

// progress tells the person who waits.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format, args...) }

// left is how long the rest takes if it goes on like this.
func left(began time.Time, done, all int) time.Duration {
	if done == 0 {
		return 0
	}
	return (time.Since(began) / time.Duration(done) * time.Duration(all-done)).Round(time.Second)
}
