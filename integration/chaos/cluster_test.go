package chaos

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/integration/rabbit"
	"github.com/leveret-mq/leveret/scope"
)

// What the failures of a cluster's nodes do, one kind after the other.
func TestCluster(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	t.Run("HomeNodeDown", func(t *testing.T) { testHomeNodeDown(t, cluster) })
	t.Run("LeaderKilled", func(t *testing.T) { testLeaderKilled(t, cluster) })
}

// A classic queue is down with its node, and its consumers are cancelled. Who
// consumes from it by way of another node waits under Supervise until it is back.
func testHomeNodeDown(t *testing.T, cluster *rabbit.Cluster) {
	ctx := bounded(t)
	home, other := cluster.Nodes[0], cluster.Nodes[1]
	send := func(text string) {
		require.NoError(t, amqp.WithChannel(ctx, patiently(config(t, home), "publisher"), func(ch *amqp.Channel) error {
			if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "home", Durable: true}); err != nil {
				return err
			}
			if err := ch.Confirm(ctx); err != nil {
				return err
			}
			return ch.Publish(ctx, "", "home", amqp.Message{Body: []byte(text), Properties: amqp.Properties{DeliveryMode: amqp.Persistent}})
		}))
	}
	var cancelled, refused atomic.Int32
	patient := retry
	patient.OnRetry = func(_ int, _ time.Duration, cause error) {
		switch {
		case errors.Is(cause, amqp.ErrConsumerCancelled):
			cancelled.Add(1)
		case errors.Is(cause, amqp.NotFound):
			refused.Add(1)
		}
	}
	received := make(chan string)
	consume := func(conn *amqp.Conn) error {
		return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
			return ch.WithConsumer(ch.Context(), amqp.Consume{Queue: "home"}, func(c *amqp.Consumer) error {
				for body, env := range c.Messages() {
					select {
					case received <- string(body):
					case <-c.Context().Done():
					}
					if err := env.Ack(); err != nil {
						return err
					}
				}
				return c.Err()
			})
		})
	}
	send("before")
	require.NoError(t, scope.Run(ctx, func(s *scope.Scope) error {
		s.Go(func(ctx context.Context) error {
			return amqp.Supervise(ctx, client(config(t, other), "consumer"), patient, consume)
		})
		require.Equal(t, "before", <-received)
		require.NoError(t, home.Kill())
		require.NoError(t, until(ctx, "a refusal", func() bool { return refused.Load() > 0 }))
		rejoin(t, ctx, home)
		send("after")
		text := <-received
		for text == "before" { // if its acknowledgement was on its way
			text = <-received
		}
		require.Equal(t, "after", text)
		s.Cancel(nil)
		return nil
	}))
	t.Logf("summary: seed %d, %s: consumer cancelled %d times, refused %d times, back at work with the node", *seed, t.Name(), cancelled.Load(), refused.Load())
}

// testLeaderKilled kills the leader of a quorum queue.
//
// RabbitMQ 3.10.8 sometimes refuses every message on a channel that was opened
// about the time of the kill, by basic.nack, until the killed node is back, while
// it takes them on a channel that is opened later. The messages are told as
// refused, and none that was confirmed is lost.
func testLeaderKilled(t *testing.T, cluster *rabbit.Cluster) {
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
	refusals := r.book.refusedSoFar()
	r.book.back(began)
	took := r.bystander()
	refusing := func() bool {
		return r.book.refusedSoFar() > refusals && time.Since(began) > recoveryLimit+took
	}
	require.NoError(r.t, until(r.ctx, "messages, or refusals", func() bool { return r.book.flowing() || refusing() }))
	if !r.book.flowing() {
		r.t.Log("the cluster refuses messages until the killed node is back")
		return false
	}
	r.book.recovered("the leader's kill -9", took)
	return true
}

func rejoin(t *testing.T, ctx context.Context, node *rabbit.Node) {
	t.Helper()
	require.NoError(t, node.Restart(ctx))
	_, err := node.Ctl(ctx, "await_online_nodes", "3", "--timeout", "60")
	require.NoError(t, err)
}
