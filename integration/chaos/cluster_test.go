package chaos

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/integration/rabbit"
)

// What the death of a quorum queue's leader does to a run.
//
// RabbitMQ 3.10.8 sometimes refuses every message on a channel that was opened
// about the time of the kill, by basic.nack, until the killed node is back, while
// it takes them on a channel that is opened later. The messages are told as
// refused, and none that was confirmed is lost.
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
		began := time.Now()
		require.NoError(t, leader.Kill())
		r.book.now(&r.book.crashes)
		if r.elected(began) && !long() {
			continue // without the node, which takes its time
		}
		rejoin(t, r.ctx, leader)
		r.recovered("the killed leader's return", began)
	}
	r.finish()
}

// elected waits until the other nodes go on without the leader. It is false when
// they refuse messages instead.
func (r *run) elected(began time.Time) bool {
	r.t.Helper()
	r.book.back(began)
	refusals := r.book.refusedSoFar()
	flowing, stop := context.WithTimeout(r.ctx, recoveryLimit)
	defer stop()
	err := r.book.recovered(flowing, "the leader's kill -9")
	if err == nil {
		return true
	}
	require.Greater(r.t, r.book.refusedSoFar(), refusals, "%v, and nothing is refused either", err)
	r.t.Log("the cluster refuses messages until the killed node is back")
	return false
}

func rejoin(t *testing.T, ctx context.Context, node *rabbit.Node) {
	t.Helper()
	require.NoError(t, node.Restart(ctx))
	_, err := node.Ctl(ctx, "await_online_nodes", "3", "--timeout", "60")
	require.NoError(t, err)
}
