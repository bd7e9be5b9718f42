package amqptest_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// A broker that stops like a stopped process is noticed by its heartbeats: after twenty seconds at least, which take none here.
func TestSilentBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := amqptest.NewBroker(amqptest.InMemory())
		defer broker.Close()
		cfg := amqp.Config{Dial: broker.Dial, Heartbeat: 10 * time.Second}
		began := time.Now()
		err := amqp.WithConnection(t.Context(), cfg, func(conn *amqp.Conn) error {
			broker.Stall()
			<-conn.Context().Done()
			return nil
		})
		assert.ErrorIs(t, err, amqp.ErrHeartbeatTimeout)
		assert.GreaterOrEqual(t, time.Since(began), 20*time.Second)
	})
}

// faulty dials connections with faults.
func faulty(broker *amqptest.Broker, faults amqptest.ConnFaults) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := broker.Dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return amqptest.Faulty(nc, faults), nil
	}
}
