package otelamqp_test

import (
	"context"
	"testing"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/otelamqp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestGaugesCountWhatIsOpen(t *testing.T) {
	w := newWorld(t)
	assert.Zero(t, w.sum("leveret.connections"))
	require.NoError(t, w.channel(func(ctx context.Context, ch *amqp.Channel) error {
		for range 3 {
			require.NoError(t, ch.Publish(ctx, "", "jobs", amqp.Message{}))
		}
		return w.channel(func(ctx context.Context, ch *amqp.Channel) error {
			return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs"}, func(c *amqp.Consumer) error {
				n := 0
				for range c.Messages() {
					if n++; n == 3 {
						break
					}
				}
				for name, want := range map[string]int64{
					"leveret.connections": 2, "leveret.connections.blocked": 0, "leveret.channels": 2, "leveret.consumers": 1,
					"leveret.calls.waiting": 0, "leveret.messages.unconfirmed": 0, "leveret.messages.unsettled": 3,
				} {
					assert.Equal(t, want, w.sum(name), name)
				}
				return nil
			})
		})
	}))
	assert.Zero(t, w.sum("leveret.connections"))
	assert.Zero(t, w.sum("leveret.channels"))
}

func TestBlockedConnectionsAreCounted(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, amqp.WithConnection(t.Context(), w.cfg, func(conn *amqp.Conn) error {
		changes := conn.Blocked()
		w.broker.Block("low on memory")
		conn.Go(func(ctx context.Context) error {
			return conn.WithChannel(ctx, func(ch *amqp.Channel) error { return ch.Publish(ctx, "amq.fanout", "", amqp.Message{}) })
		})
		for blocked := range changes {
			if !blocked {
				break
			}
			assert.Equal(t, int64(1), w.sum("leveret.connections.blocked"))
			w.broker.Unblock()
		}
		assert.Zero(t, w.sum("leveret.connections.blocked"))
		return nil
	}))
}

func TestRetriesAreCounted(t *testing.T) {
	w := newWorld(t)
	again := false
	require.NoError(t, amqp.Supervise(t.Context(), w.cfg, amqp.Retry{Min: time.Millisecond}, func(conn *amqp.Conn) error {
		if again {
			return nil
		}
		again = true
		w.broker.CloseConnections(uint16(amqp.ConnectionForced), "maintenance")
		<-conn.Context().Done()
		return nil
	}))
	assert.Equal(t, []point{{1, map[string]any{"error.type": "320"}}}, points(w.measured("leveret.retries").Data))
}

// What the program traces itself goes on.
func TestNewKeepsTheHooksThatThereAre(t *testing.T) {
	w := newWorld(t)
	connected := 0
	w.cfg.Trace = &amqp.Trace{Connected: func(*amqp.Conn) { connected++ }}
	_, err := otelamqp.New(&w.cfg, otelamqp.Options{})
	require.NoError(t, err)
	require.NoError(t, w.channel(func(context.Context, *amqp.Channel) error { return nil }))
	assert.Equal(t, 1, connected)
}

// Without a provider, the global ones are told, which are deaf until the program sets them.
func TestWithoutProvidersNothingIsTold(t *testing.T) {
	w := newWorld(t)
	telemetry, err := otelamqp.New(&w.cfg, otelamqp.Options{})
	require.NoError(t, err)
	require.NoError(t, w.channel(func(ctx context.Context, ch *amqp.Channel) error {
		return telemetry.Publish(ctx, ch, "", "jobs", amqp.Message{})
	}))
	assert.Empty(t, w.spans.GetSpans())
	assert.Nil(t, w.broker.Messages("jobs")[0].Properties.Headers)
}
