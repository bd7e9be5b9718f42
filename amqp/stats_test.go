package amqp_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

func TestStatsTellWhatIsUnderWay(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("jobs", 10)
		require.NoError(t, w.connect(func(conn *amqp.Conn) error {
			assert.Equal(t, amqp.Stats{}, conn.Stats())
			return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
				return ch.WithConsumer(ch.Context(), amqp.Consume{Queue: "jobs", Prefetch: 4}, func(c *amqp.Consumer) error {
					synctest.Wait()
					assert.Equal(t, amqp.Stats{Delivered: 4, Channels: 1, Consumers: 1, Unsettled: 4}, conn.Stats())
					for _, env := range c.Messages() {
						require.NoError(t, env.Ack())
						break
					}
					synctest.Wait()
					assert.Equal(t, amqp.Stats{Delivered: 5, Channels: 1, Consumers: 1, Unsettled: 4}, conn.Stats())
					return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error { return publishLost(w, conn, ch) })
				})
			})
		}))
	})
}

// publishLost publishes two messages, of which the broker confirms one.
func publishLost(w *world, conn *amqp.Conn, ch *amqp.Channel) error {
	return ch.WithPublisher(ch.Context(), amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
		for range 2 {
			if _, err := p.Publish(p.Context(), "amq.fanout", "", amqp.Message{}); err != nil {
				return err
			}
			synctest.Wait()
			w.slow("basic.ack", 1e9)
		}
		s := conn.Stats()
		assert.Equal(w, uint64(2), s.Published)
		assert.Equal(w, 1, s.Unconfirmed)
		assert.Equal(w, 2, s.Channels)
		return nil
	})
}
