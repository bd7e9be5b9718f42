package chaos

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/integration/rabbit"
)

// interventions are what an operator does, each with a name. Each returns when
// the broker is as it was.
var interventions = []struct {
	name string
	do   func(t *testing.T, r *run, node *rabbit.Node, rnd *rand.Rand)
}{
	{"rabbitmqctl close_connection", func(t *testing.T, r *run, node *rabbit.Node, rnd *rand.Rand) {
		list, err := node.Ctl(r.ctx, "list_connections", "--no-table-headers", "pid")
		require.NoError(t, err)
		pids := strings.Fields(list)
		require.NotEmpty(t, pids)
		require.NoError(t, node.CloseConnectionOf(r.ctx, pids[rnd.IntN(len(pids))], "closed by an operator"))
	}},
	{"rabbitmqctl set_vm_memory_high_watermark", func(t *testing.T, r *run, node *rabbit.Node, _ *rand.Rand) {
		require.NoError(t, node.SetMemoryWatermark(r.ctx, 0.0001))
		require.NoError(t, until(r.ctx, "connection.blocked", r.blocked.Load))
		require.NoError(t, node.SetMemoryWatermark(r.ctx, 0.4))
	}},
	{"rabbitmqctl stop_app and start_app", func(t *testing.T, r *run, node *rabbit.Node, _ *rand.Rand) {
		_, err := node.Ctl(r.ctx, "stop_app")
		require.NoError(t, err)
		_, err = node.Ctl(r.ctx, "start_app")
		require.NoError(t, err)
	}},
	{"rabbitmqctl close_all_connections", func(t *testing.T, r *run, node *rabbit.Node, _ *rand.Rand) {
		require.NoError(t, node.CloseAllConnections(r.ctx, "closed by an operator"))
	}},
	{"rabbitmq-upgrade drain and revive", func(t *testing.T, r *run, node *rabbit.Node, _ *rand.Rand) {
		require.NoError(t, node.Drain(r.ctx))
		require.NoError(t, node.Revive(r.ctx))
	}},
}

// quick is how many of them, the first ones, a short run has time for.
const quick = 3

// testOperator does to a busy broker what operators do.
func testOperator(t *testing.T, node *rabbit.Node) {
	witness := newWitness()
	publisher, consumer, admin := config(t, node), config(t, node), config(t, node)
	newGateway(t, &consumer, witness)
	r := start(t, plan{
		queue: amqp.Queue{Name: "operator", Durable: true}, publisher: publisher,
		consumers: []amqp.Config{consumer, consumer}, admin: admin, witness: witness,
	})
	rnd := rand.New(rand.NewPCG(*seed, 3))
	all := interventions
	if !long() {
		all = all[:quick]
	}
	count := rounds(1, 2) * len(all)
	for _, n := range rnd.Perm(count) {
		r.share(count + 1)
		does := all[n%len(all)]
		began := time.Now()
		does.do(t, r, node, rnd)
		r.recovered(does.name, began)
	}
	r.finish()
}

// testQueueDeleted deletes the queue that everybody uses. What was in it is gone,
// and what is published from then on is not: it is returned while there is no
// queue, and consumed once there is one again.
func testQueueDeleted(t *testing.T, node *rabbit.Node) {
	cfg := config(t, node)
	cfg.Heartbeat = time.Minute // no heartbeat that is late is to be taken for the deletion's doing
	r := start(t, plan{
		queue: amqp.Queue{Name: "deleted", Durable: true}, publisher: cfg,
		consumers: []amqp.Config{cfg, cfg}, admin: cfg, mandatory: true,
	})
	deletions := rounds(3, 20)
	for range deletions {
		r.share(deletions + 1)
		require.NoError(t, amqp.WithChannel(r.ctx, patiently(cfg, "operator"), func(ch *amqp.Channel) error {
			_, err := ch.QueueDelete(r.ctx, amqp.QueueDelete{Name: "deleted"})
			return err
		}))
		r.book.now(&r.book.deleted)
		r.recovered("queue deletion", time.Now())
	}
	a := r.finish()
	require.Zero(t, a.cuts["publisher"]+a.cuts["consumer"], "a deleted queue costs no connection")
}
