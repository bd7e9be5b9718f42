package examples_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// bin is where the programs are built, once for all tests.
var bin string

func TestMain(m *testing.M) { goleak.VerifyTestMain(programs{m}) }

type programs struct{ tests *testing.M }

func (p programs) Run() int {
	dir, err := os.MkdirTemp("", "leveret-examples-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir + string(filepath.Separator)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "./...").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return p.tests.Run()
}
