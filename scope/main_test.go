package scope_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(crashEnv); name != "" {
		crashes[name]()
		os.Exit(0) // what a crash that comes too late would let happen
	}
	goleak.VerifyTestMain(m)
}
