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

// A message that nobody can take, and whose publisher has given up: the outbox goes on.
func TestOutboxGoesOnAfterACulpritThatWasGivenUp(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		o := amqp.NewOutbox(amqp.OutboxOptions{})
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		over := make(chan error, 1)
		go func() { over <- amqp.Supervise(ctx, w.cfg, amqp.Retry{}, o.Run) }()
		stop := w.slow("basic.publish", 2*time.Second)
		short, end := context.WithTimeout(ctx, time.Second)
		defer end()
		assert.ErrorIs(w, o.Publish(short, "none", "q", amqp.Message{}), amqp.ErrUnconfirmed)
		time.Sleep(5 * time.Second)
		stop()
		short, end = context.WithTimeout(ctx, time.Minute)
		defer end()
		assert.NoError(w, o.Publish(short, "", "q", amqp.Message{}))
		select {
		case err := <-over:
			assert.Fail(w, "the outbox has ended", "%v", err)
		default:
			cancel()
			assert.ErrorIs(w, <-over, context.Canceled)
		}
	})
}

func TestOutboxBlamesNoInnocentForACulpritThatWasGivenUp(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		o := amqp.NewOutbox(amqp.OutboxOptions{})
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan error, 1)
		go func() { over <- amqp.Supervise(ctx, w.cfg, amqp.Retry{}, o.Run) }()
		synctest.Wait()
		stop := w.slow("basic.publish", 2*time.Second)
		short, end := context.WithTimeout(ctx, time.Second)
		defer end()
		innocent := make(chan error, 1)
		time.AfterFunc(time.Second/2, func() { innocent <- o.Publish(ctx, "", "q", amqp.Message{}) })
		assert.ErrorIs(w, o.Publish(short, "none", "q", amqp.Message{}), amqp.ErrUnconfirmed)
		time.Sleep(5 * time.Second)
		stop()
		assert.NoError(w, <-innocent)
		assert.Equal(w, 1, w.state("q").Ready)
		cancel()
		assert.ErrorIs(w, <-over, context.Canceled)
	})
}

// While it looks for the culprit, one message at a time is on its way, whoever gives up behind them.
func TestOutboxLooksForTheCulpritOneByOne(t *testing.T) {
	postOffice(t, amqp.OutboxOptions{}, func(p *posting) {
		p.queue("q", 0)
		p.running(func() {
			p.post("q", 100, 1)
			found := p.lose("basic.ack")
			slow := p.slow("basic.publish", time.Second)
			p.publish(context.Background(), "missing", "", "lost", func(err error) { assert.ErrorIs(p, err, amqp.NotFound) })
			p.post("q", 0, 2)
			time.Sleep(time.Minute)
			slow()
			before := p.published()
			require.Equal(p, 2, p.outbox.Len())
			brief, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			for range 3 {
				p.publish(brief, "", "q", "never", func(err error) { assert.ErrorContains(p, err, "not sent") })
			}
			time.Sleep(2 * time.Second)
			require.Equal(p, before, p.published())
			found()
			p.broker.Sever()
		})
		require.Subset(p, p.bodies("q"), []string{"0", "1"})
	})
}
