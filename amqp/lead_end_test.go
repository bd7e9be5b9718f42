//go:build unix

package amqp_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// led is what a test may end while a loop reads, and how to end their contexts.
type led struct {
	conn                             *amqp.Conn
	ch                               *amqp.Channel
	c                                *amqp.Consumer
	endConn, endChannel, endConsumer context.CancelFunc
}

// However a consumer ends whose loop is in a read, it ends.
func TestAConsumerWhoseLoopReadsEnds(t *testing.T) {
	for name, end := range map[string]struct {
		do  func(w *world, l *led)
		err error
	}{
		"stopped":                  {func(_ *world, l *led) { l.c.Stop() }, nil},
		"failed":                   {func(_ *world, l *led) { l.c.Cancel(errBroken) }, errBroken},
		"its context":              {func(_ *world, l *led) { l.endConsumer() }, context.Canceled},
		"its channel failed":       {func(_ *world, l *led) { l.ch.Cancel(errBroken) }, errBroken},
		"its channel's context":    {func(_ *world, l *led) { l.endChannel() }, context.Canceled},
		"its connection failed":    {func(_ *world, l *led) { l.conn.Cancel(errBroken) }, errBroken},
		"its connection's context": {func(_ *world, l *led) { l.endConn() }, context.Canceled},
		"by the broker":            {func(w *world, _ *led) { w.broker.CancelConsumers("q") }, amqp.ErrConsumerCancelled},
		"with its queue": {func(w *world, _ *led) {
			assert.NoError(w, w.channel(func(ch *amqp.Channel) error {
				_, err := ch.QueueDelete(ch.Context(), amqp.QueueDelete{Name: "q"})
				return err
			}))
		}, amqp.ErrConsumerCancelled},
		"its channel, by the broker": {func(w *world, _ *led) {
			w.broker.CloseChannels(406, "PRECONDITION_FAILED - oops")
		}, amqp.PreconditionFailed},
		"its connection, by the broker": {func(w *world, _ *led) {
			w.broker.CloseConnections(320, "CONNECTION_FORCED - maintenance")
		}, amqp.ConnectionForced},
		"the network": {func(w *world, _ *led) { w.broker.Sever() }, amqp.ErrConnectionClosed},
	} {
		t.Run(name, func(t *testing.T) {
			overTCP(t, func(ctx context.Context, w *world) {
				w.queue("q", 0)
				var l led
				var until lives
				until.conn, l.endConn = context.WithCancel(ctx)
				defer l.endConn()
				until.channel, l.endChannel = context.WithCancel(ctx)
				defer l.endChannel()
				until.consumer, l.endConsumer = context.WithCancel(ctx)
				defer l.endConsumer()
				err := w.denseFor(until, new(ledReads), func(conn *amqp.Conn, ch *amqp.Channel, c *amqp.Consumer) error {
					l.conn, l.ch, l.c = conn, ch, c
					c.Go(func(ctx context.Context) error {
						if err := w.untilItReads(ctx, c); err != nil {
							return err
						}
						end.do(w, &l)
						return nil
					})
					return acknowledge(c)
				})
				require.ErrorIs(w, err, end.err)
			})
		})
	}
}

// acknowledge takes what comes until the consumer ends.
func acknowledge(c *amqp.Consumer) error {
	for _, env := range c.Messages() {
		if err := env.Ack(); err != nil {
			return err
		}
	}
	return c.Err()
}

// A queue that is deleted under a loop that has a lot to do: it takes what has come, and ends.
func TestALoopTakesWhatHasComeFromAQueueThatIsDeleted(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		for range 20 {
			w.queue("q", 1000)
			var reads ledReads
			err := w.dense(ctx, &reads, func(conn *amqp.Conn, _ *amqp.Channel, c *amqp.Consumer) error {
				taken, deleted := 0, false
				for _, env := range c.Messages() {
					taken++
					if err := env.Ack(); err != nil {
						return err
					}
					if deleted || reads.byLoop.Load() == 0 {
						continue
					}
					deleted = true
					conn.Go(func(ctx context.Context) error {
						return amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
							_, err := ch.QueueDelete(ctx, amqp.QueueDelete{Name: "q"})
							return err
						})
					})
				}
				assert.EqualValues(w, taken, conn.Stats().Delivered)
				return c.Err()
			})
			require.ErrorIs(w, err, amqp.ErrConsumerCancelled)
			assert.Positive(w, reads.byLoop.Load())
		}
	})
}
