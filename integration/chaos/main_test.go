package chaos

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/leveret-mq/leveret/integration/rabbit"
)

var (
	seed     = flag.Uint64("seed", fromEnv("CHAOS_SEED", rand.Uint64N(1_000_000)), "decides what goes wrong; the environment variable CHAOS_SEED does, too")
	messages = flag.Int("messages", int(fromEnv("CHAOS_MESSAGES", shortRun)), "how many messages each test sends at least; or CHAOS_MESSAGES")
)

// shortRun is how many messages a test sends when it is run with all others.
const shortRun = 2000

func fromEnv(name string, otherwise uint64) uint64 {
	text, set := os.LookupEnv(name)
	if !set {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(2)
	}
	return n
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// long tells whether a run is to be thorough rather than quick.
func long() bool { return *messages > shortRun }

// rounds is how often a test does its worst.
func rounds(short, thorough int) int {
	if long() {
		return thorough
	}
	return short
}

// bounded is the time that a test may take.
func bounded(t *testing.T) context.Context {
	t.Helper()
	limit := 3*time.Minute + time.Duration(*messages)*10*time.Millisecond
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, fmt.Errorf("the run is not over after %v", limit))
	t.Cleanup(cancel)
	return ctx
}

// needPrivate skips or fails a test that has no nodes of its own to maltreat.
func needPrivate(t *testing.T) {
	t.Helper()
	if os.Getenv("AMQP_URL") != "" {
		t.Skip("SKIPPED: the broker of AMQP_URL is not ours to kill")
	}
	rabbit.Need(t)
}

func startNode(t *testing.T) *rabbit.Node {
	t.Helper()
	needPrivate(t)
	node, err := rabbit.Start(t.Context(), rabbit.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, node.Stop(context.WithoutCancel(t.Context()))) })
	return node
}

func startCluster(t *testing.T) *rabbit.Cluster {
	t.Helper()
	needPrivate(t)
	cluster, err := rabbit.StartCluster(t.Context(), 3, rabbit.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, cluster.Stop(context.WithoutCancel(t.Context()))) })
	return cluster
}

// until polls for what happens elsewhere.
func until(ctx context.Context, what string, done func() bool) error {
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		}
	}
	return nil
}
