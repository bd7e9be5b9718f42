package rabbit_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/integration/rabbit"
)

// Nothing that a test sends after Pause may be answered, whatever else the
// machine has to do.
func TestPausedIsFrozen(t *testing.T) {
	t.Parallel()
	node := start(t, rabbit.Options{})
	pid, err := node.Ctl(t.Context(), "eval", "os:getpid().")
	require.NoError(t, err)
	pid = strings.Trim(pid, "\"\n")
	for range 20 {
		require.NoError(t, node.Pause())
		for thread, state := range threads(t, pid) {
			assert.Equal(t, "T", state, thread)
		}
		require.NoError(t, node.Continue())
	}
}

// threads is the state of each thread of a process, as proc(5) has it.
func threads(t *testing.T, pid string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%s/task/*/stat", pid))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	states := make(map[string]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		end := strings.LastIndexByte(string(text), ')') + 1 // of the thread's name
		states[string(text[:end])] = strings.Fields(string(text[end:]))[0]
	}
	return states
}
