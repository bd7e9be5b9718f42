package examples_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience is how long a program may take. Those that end by themselves take a second or two.
const patience = 2 * time.Minute

// program is an example that runs.
type program struct {
	t      *testing.T
	ctx    context.Context
	cmd    *exec.Cmd
	output output
}

// start runs an example, with the broker of uri unless that is empty. The end of the test ends it.
func start(t *testing.T, uri, name string, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	p := &program{t: t, ctx: ctx, cmd: exec.CommandContext(ctx, bin+name, args...)}
	p.cmd.Env = []string{"AMQP_URL=" + uri}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AMQP_URL=") {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	require.NoError(t, p.cmd.Start())
	return p
}

// ends waits for the program to end well.
func (p *program) ends() string {
	p.t.Helper()
	err := p.cmd.Wait()
	require.NoError(p.t, err, "%s said:\n%s", p.cmd.Path, p.output.String())
	return p.output.String()
}

// interrupted presses Ctrl-C, and expects the program to end well.
func (p *program) interrupted() string {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(os.Interrupt))
	return p.ends()
}

// says waits until the program has printed a text.
func (p *program) says(text string) {
	p.t.Helper()
	for {
		said, more := p.output.read()
		if strings.Contains(said, text) {
			return
		}
		select {
		case <-more:
		case <-p.ctx.Done():
			require.Contains(p.t, said, text, "%s", p.cmd.Path)
		}
	}
}

// output is what a program has printed so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // closed when there is more
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.more != nil {
		close(o.more)
		o.more = nil
	}
	return o.text.Write(b)
}

func (o *output) read() (text string, more <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.more == nil {
		o.more = make(chan struct{})
	}
	return o.text.String(), o.more
}

func (o *output) String() string {
	text, _ := o.read()
	return text
}
