//go:build unix

package rabbit

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A node listens a moment before its applications count as running.
func TestToolsWaitForANodeThatComesUp(t *testing.T) {
	dir := t.TempDir()
	const script = `#!/bin/sh
if [ -e called ]; then echo done; exit 0; fi
touch called
echo "Error: this command requires the 'rabbit' app to be running on the target node. Start it with 'rabbitmqctl start_app'."
exit 64
`
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rabbitmqctl"), []byte(script), 0o700)) // #nosec G306 -- it is to be run
	n := &Node{dir: dir, installed: installation{scripts: dir, path: os.Getenv("PATH")}}
	out, err := n.Ctl(t.Context(), "list_vhosts")
	require.NoError(t, err)
	assert.Equal(t, "done", out)
	out, err = n.Ctl(t.Context(), "list_vhosts")
	require.NoError(t, err)
	assert.Equal(t, "done", out)
}
