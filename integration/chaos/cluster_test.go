package chaos

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// What the death of a quorum queue's leader does to a run.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	everywhere := func(first int) amqp.Config {
		cfg := config(t, cluster.Nodes[first%len(cluster.Nodes)])
		for i := range len(cluster.Nodes) - 1 {
			other := config(t, cluster.Nodes[(first+1+i)%len(cluster.Nodes)])
			cfg.Endpoints = append(cfg.Endpoints, address(other))
		}
		return cfg
	}
	at := int(*seed % 3)
	r := start(t, plan{
		queue:     amqp.Queue{Name: "led", Durable: true, Arguments: amqp.Table{"x-queue-type": "quorum"}},
		publisher: everywhere(at), consumers: []amqp.Config{everywhere(at + 1), everywhere(at + 2)}, admin: everywhere(at),
	})
	kills := rounds(1, 5)
	for range kills {
		r.share(kills + 1)
		leader, err := cluster.Leader(r.ctx, "/", "led")
		require.NoError(t, err)
		require.NoError(t, leader.Kill())
		r.book.now(&r.book.crashes)
		r.recovered("the leader's kill -9")
		if long() {
			require.NoError(t, leader.Restart(r.ctx))
			_, err = leader.Ctl(r.ctx, "await_online_nodes", "3", "--timeout", "60")
			require.NoError(t, err)
		}
	}
	r.finish()
}
