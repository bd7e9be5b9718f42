package scope_test

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/scope"
)

// crashEnv names the entry of crashes that the test binary is to run instead of its tests.
const crashEnv = "SCOPE_TEST_CRASH"

var crashes = map[string]func(){
	"task": func() {
		_ = scope.Run(context.Background(), func(s *scope.Scope) error {
			s.Go(explodingTask)
			return nil
		})
	},
	"sibling": func() { // the crash does not wait for a task that never ends
		_ = scope.Run(context.Background(), func(s *scope.Scope) error {
			s.Go(func(context.Context) error { select {} })
			s.Go(explodingTask)
			return nil
		})
	},
	"start": func() {
		_ = scope.Run(context.Background(), func(s *scope.Scope) error {
			return s.Start(func(ctx context.Context, _ func()) error { return explodingTask(ctx) })
		})
	},
}

//go:noinline
func explodingTask(context.Context) error { panic("the task is broken") }

func TestATasksPanicCrashesWithItsOwnStack(t *testing.T) {
	for name := range crashes {
		t.Run(name, func(t *testing.T) {
			for range 5 { // a race between the crash and Run's return would not show every time
				cmd := exec.CommandContext(t.Context(), os.Args[0])
				cmd.Env = append(os.Environ(), crashEnv+"="+name)
				out, err := cmd.CombinedOutput()
				require.Error(t, err, "%s", out)
				assert.Contains(t, string(out), "panic: the task is broken")
				assert.Contains(t, string(out), "scope_test.explodingTask(")
			}
		})
	}
}
