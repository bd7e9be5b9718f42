package amqp

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// Whoever is told of something finds what it is told of done: it may run before the one who tells goes on. These tests stop
// the latter at the moment of telling.

// answered is a call that was answered already, so that to answer it again panics.
func answered(conn *Conn) *pendingCall {
	p := newCall(&wire.BasicQos{}, wire.BasicQosOkID)
	p.counts = true
	conn.await(+1)
	close(p.done)
	return p
}

func TestWhoHasItsAnswerIsNotCountedAsWaiting(t *testing.T) {
	for name, tell := range map[string]func(*Channel){
		"answer":    func(ch *Channel) { _ = ch.answer(&wire.BasicQosOk{}, nil) },
		"exception": func(ch *Channel) { ch.fail(NotFound, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			conn, consumers := readerOf(nil)
			ch := consumers[0].ch
			require.True(t, ch.enqueue([]outgoing{{call: answered(conn)}}))
			require.Panics(t, func() { tell(ch) }, "otherwise this test shows nothing")
			require.Zero(t, conn.waiting.Load())
		})
	}
}

func TestWhoHasItsOutcomeIsNotInTheOutbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := NewOutbox(OutboxOptions{})
		p := &parcel{outcome: make(chan error)} // which has room in a parcel that Publish makes
		o.slots <- struct{}{}
		o.put(p)
		go o.settle(p, nil)
		synctest.Wait()
		assert.Zero(t, o.Len())
		require.NoError(t, <-p.outcome)
	})
}

func TestWhoHasAMessageFindsItCounted(t *testing.T) {
	conn, consumers := readerOf(nil)
	told := 0
	conn.cfg.Trace = &Trace{Delivered: func(*Channel, *Envelope, int) {
		told++
		require.EqualValues(t, 2, conn.stats.delivered.Load())
	}}
	consumers[0].receive(new(delivery))
	consumers[0].receive(new(delivery))
	require.NoError(t, conn.handOver())
	require.Equal(t, 2, told)
}

// What was delivered is void from the moment on at which somebody may have heard that its channel has ended.
func TestDeliveriesEndWithTheirChannel(t *testing.T) {
	ch := new(Channel)
	ch.line.ledger = &ch.ledger
	ch.alive, ch.revoke = context.WithCancelCause(t.Context())
	require.NoError(t, ch.aliveContext().Err())
	require.True(t, ch.fail(NotFound, 0))
	require.Error(t, ch.aliveContext().Err())
}
