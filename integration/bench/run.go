//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// runner does the modes, each with all clients in turn.
type runner struct {
	rounds  int
	seconds float64 // of a measurement
	quick   bool
	// Directories for profiles of our client; "": none.
	cpuProfiles, memProfiles string
	clients                  []string
	null                     *nullBroker
	rabbit                   *rabbitBroker // nil: not installed
	scratch                  string        // directory
	cProgram                 string        // "": not built
}

// open starts the brokers that the modes need, and builds what can be built.
func (r *runner) open(ctx context.Context, modes []Mode) (err error) {
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	for _, dir := range []string{r.cpuProfiles, r.memProfiles} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if r.scratch, err = os.MkdirTemp("", "leveret-bench-*"); err != nil {
		return err
	}
	if slices.Contains(r.clients, rabbitmqC) {
		if r.cProgram, err = buildC(r.scratch); err != nil {
			progress("SKIPPED: rabbitmq-c is not measured: %v\n", err)
		}
	}
	if r.null, err = startNull(); err != nil {
		return err
	}
	if slices.ContainsFunc(modes, func(m Mode) bool { return m.Rabbit }) {
		var missing string
		if r.rabbit, missing, err = startRabbit(ctx); missing != "" {
			progress("SKIPPED: nothing is measured on RabbitMQ: %s\n", missing)
		}
	}
	return err
}

func (r *runner) close() {
	if r.null != nil {
		r.null.stop()
	}
	if r.rabbit != nil {
		r.rabbit.stop()
	}
	if err := os.RemoveAll(r.scratch); err != nil {
		progress("%v\n", err)
	}
}

// all measures modes. A mode that fails is told and left out, and the others
// are still measured.
func (r *runner) all(ctx context.Context, modes []Mode) (all []*Measured, err error) {
	began := time.Now()
	for i, mode := range modes {
		if mode.Rabbit && r.rabbit == nil {
			continue
		}
		progress("%3d/%d %-44s about %v left\n", i+1, len(modes), mode.Name, left(began, i, len(modes)))
		m, failed := r.do(ctx, mode)
		if ctx.Err() != nil {
			return all, context.Cause(ctx)
		}
		if failed != nil {
			progress("\nFAILED: %v\n", failed)
			err = errors.Join(err, failed)
		}
		all = append(all, m)
	}
	return all, err
}

// Measured is a mode with its results.
type Measured struct {
	Mode
	Rounds map[string][]Result // by client
}

// median of a figure over a client's rounds.
func (m *Measured) median(client string, f *figure) (float64, bool) {
	rounds := m.Rounds[client]
	if len(rounds) == 0 {
		return 0, false
	}
	values := make([]float64, len(rounds))
	for i, r := range rounds {
		values[i] = f.of(r)
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2, true
}

// do measures one mode.
func (r *runner) do(ctx context.Context, mode Mode) (m *Measured, err error) {
	m = &Measured{Mode: mode, Rounds: make(map[string][]Result)}
	turns := max(mode.Turns, 1)
	if r.quick {
		turns = 1
	}
	for turn := range r.rounds * turns {
		for _, client := range r.clients {
			if mode.Clients != nil && !slices.Contains(mode.Clients, client) || client == rabbitmqC && r.cProgram == "" || client == bound && !boundDoes(&mode.Job) {
				continue
			}
			result, failed := r.once(ctx, mode, client, r.seconds/float64(turns))
			if failed != nil {
				err = errors.Join(err, fmt.Errorf("%s, %s: %w", mode.Name, client, failed))
				continue
			}
			progress("        round %d/%d %-10s %s/s\n", turn+1, r.rounds*turns, client, count(rate.of(result)))
			m.Rounds[client] = append(m.Rounds[client], result)
		}
	}
	return m, err
}

// once has one client do a mode's job.
func (r *runner) once(ctx context.Context, mode Mode, client string, seconds float64) (res Result, err error) {
	j := mode.Job
	j.Client, j.Seconds, j.Queue = client, seconds, "bench"
	if client == leveret {
		j.CPUProfile = profile(r.cpuProfiles, mode.Name, "cpu")
		j.MemProfile = profile(r.memProfiles, mode.Name, "mem")
	}
	if mode.Rabbit {
		prefill := mode.Prefill
		if r.quick {
			prefill /= 10
		}
		if err := r.rabbit.prepare(&j, prefill); err != nil {
			return res, fmt.Errorf("preparing RabbitMQ: %w", err)
		}
		defer func() { err = errors.Join(err, r.rabbit.tidy()) }()
	} else {
		j.Addr, j.Vhost = r.null.Plain, mode.Orders.vhost()
		if j.TLS {
			j.Addr = r.null.TLS
		}
	}
	ctx, cancel := context.WithTimeout(ctx, jobLimit)
	defer cancel()
	cmd, err := r.command(ctx, &j)
	if err != nil {
		return res, err
	}
	if mode.Procs > 0 {
		cmd.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(mode.Procs))
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return res, errors.Join(err, context.Cause(ctx))
	}
	if err := json.Unmarshal(out, &res); err != nil {
		return res, fmt.Errorf("%w: %q", err, out)
	}
	if res.Messages == 0 {
		return res, errors.New("nothing was measured")
	}
	return res, nil
}

// profile names a mode's profile.
func profile(dir, mode, kind string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, strings.ReplaceAll(mode, "/", "_")+"."+kind+".prof")
}

// jobLimit is far more than any job takes: one that takes it hangs.
const jobLimit = 2 * time.Minute

func (r *runner) command(ctx context.Context, j *Job) (*exec.Cmd, error) {
	if j.Client == rabbitmqC {
		return exec.CommandContext(ctx, r.cProgram, cArguments(j)...), nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(j)
	return exec.CommandContext(ctx, self, "-job", string(text)), err
}
