package amqp_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// While a consumer without acknowledgements holds the reader back, what the broker says stands behind messages that
// nobody has room for. That it has hung up is found by the next heartbeats all the same.
func TestTheEndOfAConnectionIsNoticedWhileTheReaderIsHeldBack(t *testing.T) {
	for name, end := range map[string]func(w *world){
		"hung up":  func(w *world) { w.broker.Sever() },
		"said why": func(w *world) { w.broker.CloseConnections(320, "CONNECTION_FORCED - maintenance") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 0)
				const n, size = 300, 64 << 10
				w.flood("q", n, size)
				var took time.Duration
				err := w.channel(func(ch *amqp.Channel) error {
					return ch.WithConsumer(context.Background(), amqp.Consume{Queue: "q", NoAck: true}, func(c *amqp.Consumer) error {
						time.Sleep(time.Minute) // the consumer has as much as it may, and is held to be alive
						synctest.Wait()
						require.NoError(w, c.Context().Err())
						begin := time.Now()
						end(w)
						<-c.Context().Done()
						took = time.Since(begin)
						return nil
					})
				})
				assert.ErrorIs(w, err, amqp.ErrConnectionClosed)
				assert.LessOrEqual(w, took, 5*beat/2)
			}, beating)
		})
	}
}
