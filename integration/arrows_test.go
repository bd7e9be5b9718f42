package integration

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/leveret-mq/leveret"

// The packages form layers, and imports point down alone.
func TestArrows(t *testing.T) {
	for _, rule := range []struct {
		pkg     string
		reaches []string // must not be among what pkg reaches, directly or not
	}{
		{"scope", []string{module + "/amqp", module + "/iter"}},
		{"iter", []string{module + "/amqp", module + "/scope"}},
		{"amqp/internal/wire", []string{"net", module + "/amqp", module + "/scope", module + "/iter", module + "/amqp/internal/writer"}},
		{"amqp/internal/writer", []string{module + "/amqp", module + "/scope", module + "/iter", module + "/amqp/internal/wire"}},
		{"amqp/internal/slab", []string{"net", module + "/amqp", module + "/scope", module + "/iter", module + "/amqp/internal/wire"}},
		{"amqp/amqptest", []string{module + "/amqp", module + "/amqp/rpc"}},
		{"amqp", []string{module + "/amqp/rpc", module + "/amqp/amqptest", "testing"}},
	} {
		t.Run(rule.pkg, func(t *testing.T) {
			deps := list(t, "-deps", "./"+rule.pkg)
			require.Contains(t, deps, module+"/"+rule.pkg)
			for _, forbidden := range rule.reaches {
				assert.False(t, slices.Contains(deps, forbidden), "%s reaches %s", rule.pkg, forbidden)
			}
		})
	}
}

// What a user gets with the module is the standard library and x/sync.
func TestArrowsLeaveTheModuleForSyncAlone(t *testing.T) {
	for _, pkg := range list(t, "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./...") {
		ours := pkg == module || strings.HasPrefix(pkg, module+"/")
		assert.True(t, ours || strings.HasPrefix(pkg, "golang.org/x/sync/"), "%s is not for a package of this module to import", pkg)
	}
}

// rpc is proof that amqp's public surface suffices.
func TestArrowsKeepRPCOutside(t *testing.T) {
	for _, pkg := range list(t, "-f", `{{join .Imports "\n"}}`, "./amqp/rpc") {
		assert.NotContains(t, pkg, "/internal/")
	}
}

// list runs go list in the module's root and returns its lines.
func list(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("go list %s: %s", strings.Join(args, " "), exit.Stderr)
	}
	require.NoError(t, err)
	return strings.Fields(string(out))
}
