package chaos

import (
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/integration/rabbit"
)

// What one node's failures do to a run, one kind after the other.
func TestNode(t *testing.T) {
	t.Parallel()
	node := startNode(t)
	t.Run("Killed", func(t *testing.T) { testKilled(t, node) })
	t.Run("Network", func(t *testing.T) { testNetwork(t, node) })
	t.Run("Operator", func(t *testing.T) { testOperator(t, node) })
	t.Run("QueueDeleted", func(t *testing.T) { testQueueDeleted(t, node) })
}

func config(t *testing.T, node *rabbit.Node) amqp.Config {
	t.Helper()
	cfg, err := amqp.ParseURI(node.URI("/"))
	require.NoError(t, err)
	return cfg
}

func address(cfg amqp.Config) string { return net.JoinHostPort(cfg.Host, strconv.Itoa(cfg.Port)) }

// testKilled kills a node as kill -9 does, and starts it again.
func testKilled(t *testing.T, node *rabbit.Node) {
	cfg := config(t, node)
	r := start(t, plan{
		queue: amqp.Queue{Name: "killed", Durable: true}, publisher: cfg, consumers: []amqp.Config{cfg, cfg}, admin: cfg,
	})
	kills := rounds(1, 5)
	for range kills {
		r.share(kills + 1)
		began := time.Now()
		require.NoError(t, node.Kill())
		r.book.now(&r.book.crashes)
		require.NoError(t, node.Restart(r.ctx))
		r.recovered("kill -9 and restart", began)
	}
	a := r.finish()
	require.GreaterOrEqual(t, a.cuts["publisher"], kills)
	require.GreaterOrEqual(t, a.cuts["consumer"], 2*kills)
}
