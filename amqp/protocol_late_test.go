package amqp_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

func TestTheLateAnswerOfAnAbandonedCallIsDropped(t *testing.T) {
	gone := errors.New("gone")
	err := against(t, amqp.Config{}, func(p *peer) {
		p.channel()
		expect[*wire.QueueDeclare](p, 1)
		time.Sleep(2 * time.Second)
		q := expect[*wire.QueueDeclare](p, 1)
		p.say(1, &wire.QueueDeclareOk{Queue: "late", MessageCount: 1}, &wire.QueueDeclareOk{Queue: q.Queue, MessageCount: 2})
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		short, cancel := context.WithTimeoutCause(ctx, time.Second, gone)
		defer cancel()
		_, err := ch.QueueDeclare(short, amqp.Queue{Name: "late"})
		assert.ErrorIs(t, err, gone)
		time.Sleep(2 * time.Second)
		status, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "next"})
		assert.Equal(t, amqp.QueueStatus{Name: "next", Messages: 2}, status)
		return err
	}))
	require.NoError(t, err)
}

// An exception that answers an abandoned call was told to nobody.
func TestTheLateExceptionOfAnAbandonedCallIsReported(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.channel()
		expect[*wire.QueueDeclare](p, 1)
		time.Sleep(2 * time.Second)
		p.say(1, &wire.ChannelClose{ReplyCode: 405, ReplyText: "RESOURCE_LOCKED", ClassID: 50, MethodID: 10})
		expect[*wire.ChannelCloseOk](p, 1)
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := ch.QueueDeclare(short, amqp.Queue{Name: "late"})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(2 * time.Second)
		<-ch.Context().Done()
		return nil
	}))
	says(t, err, []error{amqp.ResourceLocked})
}

func TestALateConsumeOkIsAnsweredWithCancel(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.channel()
		expect[*wire.BasicQos](p, 1)
		expect[*wire.BasicConsume](p, 1)
		time.Sleep(2 * time.Second)
		p.say(1, &wire.BasicQosOk{}, &wire.BasicConsumeOk{ConsumerTag: "c"})
		assert.Equal(t, "c", expect[*wire.BasicCancel](p, 1).ConsumerTag)
		p.message(1, "c", 1, "sent before the cancel was seen")
		nack := expect[*wire.BasicNack](p, 1)
		assert.Equal(t, &wire.BasicNack{DeliveryTag: 1, Requeue: true}, nack)
		p.say(1, &wire.BasicCancelOk{ConsumerTag: "c"})
		expect[*wire.QueueDeclare](p, 1)
		p.say(1, &wire.QueueDeclareOk{})
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		err := ch.WithConsumer(short, amqp.Consume{Queue: "q", Tag: "c"}, func(*amqp.Consumer) error {
			t.Error("the body ran")
			return nil
		})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		_, err = ch.QueueDeclare(ctx, amqp.Queue{Name: "the channel is fine"})
		return err
	}))
	require.NoError(t, err)
}

func TestALateGetOkIsGivenBack(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.channel()
		expect[*wire.BasicGet](p, 1)
		time.Sleep(2 * time.Second)
		p.raw(cat(method(1, &wire.BasicGetOk{DeliveryTag: 1}), header(1, 2), frame(wire.FrameBody, 1, 'h', 'i')))
		assert.Equal(t, &wire.BasicNack{DeliveryTag: 1, Requeue: true}, expect[*wire.BasicNack](p, 1))
		expect[*wire.BasicGet](p, 1)
		p.say(1, &wire.BasicGetEmpty{})
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, _, err := ch.Get(short, "q", false)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		_, _, err = ch.Get(ctx, "q", false)
		assert.ErrorIs(t, err, amqp.ErrEmptyQueue)
		return nil
	}))
	require.NoError(t, err)
}

func TestALateOpenOkClosesTheChannel(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.greet()
		expect[*wire.ChannelOpen](p, 1)
		time.Sleep(2 * time.Second)
		expect[*wire.ChannelOpen](p, 2) // number 1 is not free yet
		p.say(2, &wire.ChannelOpenOk{})
		p.say(1, &wire.ChannelOpenOk{})
		// In either order.
		seen := map[uint16]bool{p.next().Channel: true, p.next().Channel: true}
		assert.Equal(t, map[uint16]bool{1: true, 2: true}, seen)
		p.say(1, &wire.ChannelCloseOk{})
		p.say(2, &wire.ChannelCloseOk{})
	}, func(ctx context.Context, c *amqp.Conn) error {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		err := c.WithChannel(short, func(*amqp.Channel) error { return nil })
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(2 * time.Second)
		assert.NoError(t, c.WithChannel(ctx, func(*amqp.Channel) error { return nil }))
		synctest.Wait()
		return c.WithChannel(ctx, func(ch *amqp.Channel) error {
			assert.Equal(t, uint16(1), ch.ID(), "the number is free again")
			return nil
		})
	})
	require.NoError(t, err)
}

// --- Transactions ---

// A commit whose answer comes late has been made: what it settled is settled,
// though a rollback was sent behind it.
func TestALateCommitOkIsACommit(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.consumer()
		p.message(1, "c", 1, "one")
		expect[*wire.TxSelect](p, 1)
		p.say(1, &wire.TxSelectOk{})
		assert.Equal(t, uint64(1), expect[*wire.BasicAck](p, 1).DeliveryTag)
		expect[*wire.TxCommit](p, 1)
		expect[*wire.TxRollback](p, 1)
		p.say(1, &wire.TxCommitOk{}, &wire.TxRollbackOk{})
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Tag: "c"}, func(c *amqp.Consumer) error {
			for _, env := range c.Messages() {
				short, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				err := ch.WithTx(short, env.Ack)
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				assert.NoError(t, ch.WithTx(ctx, func() error {
					assert.ErrorIs(t, env.Ack(), amqp.ErrAlreadySettled)
					return nil
				}))
				return nil
			}
			return nil
		})
	}))
	require.NoError(t, err)
}

// One that comes when the next transaction is under way does not end that.
func TestALateCommitOkEndsNoOtherTransaction(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.consumer()
		p.message(1, "c", 1, "one")
		p.message(1, "c", 2, "two")
		expect[*wire.TxSelect](p, 1)
		p.say(1, &wire.TxSelectOk{})
		expect[*wire.TxCommit](p, 1)
		expect[*wire.TxRollback](p, 1)
		assert.Equal(t, uint64(1), expect[*wire.BasicNack](p, 1).DeliveryTag)
		p.say(1, &wire.TxCommitOk{}, &wire.TxRollbackOk{})
		assert.Equal(t, uint64(2), expect[*wire.BasicNack](p, 1).DeliveryTag)
		expect[*wire.TxRollback](p, 1)
		p.say(1, &wire.TxRollbackOk{})
		for tag := range uint64(2) {
			assert.Equal(t, tag+1, expect[*wire.BasicNack](p, 1).DeliveryTag)
		}
		expect[*wire.TxCommit](p, 1)
		p.say(1, &wire.TxCommitOk{})
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Tag: "c"}, func(c *amqp.Consumer) error {
			var both []*amqp.Envelope
			for _, env := range c.Messages() {
				if both = append(both, env); len(both) == 2 {
					break
				}
			}
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			assert.ErrorIs(t, ch.WithTx(short, func() error { return nil }), context.DeadlineExceeded)
			mine := errors.New("mine")
			refuse := func() error {
				if err := both[0].Nack(true); err != nil {
					return err
				}
				time.Sleep(10 * time.Second) // the late answer has come, and the silence is forgotten
				return both[1].Nack(true)
			}
			assert.Equal(t, mine, ch.WithTx(ctx, func() error {
				assert.NoError(t, refuse())
				return mine
			}))
			assert.NoError(t, ch.WithTx(ctx, refuse), "what was rolled back is unsettled")
			return nil
		})
	}))
	require.NoError(t, err)
}
