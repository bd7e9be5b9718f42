package chaos

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests that the table of failures names are where it says.
func TestDocumentedTestsExist(t *testing.T) {
	table, err := os.ReadFile("../../docs/failures.md")
	require.NoError(t, err)
	named := regexp.MustCompile("\\[`([Tt]est\\w+)`\\]\\((\\S+)\\)").FindAllSubmatch(table, -1)
	require.Greater(t, len(named), 20)
	for _, n := range named {
		source, err := os.ReadFile(filepath.Join("../../docs", string(n[2])))
		if assert.NoError(t, err) {
			assert.Contains(t, string(source), "func "+string(n[1])+"(", "%s", n[2])
		}
	}
}
