package amqp

import (
	"context"
	"fmt"
	"math"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// Qos is basic.qos: how much the broker may send ahead.
type Qos struct {
	PrefetchCount int // unsettled messages at most, up to 65535; 0: no limit
	PrefetchSize  int // bytes at most; RabbitMQ knows 0 alone
	// Global has the limit bound the whole channel. Without it, each consumer
	// that is started later has it for itself. RabbitMQ 4.3 and later refuse
	// it by default.
	Global bool
}

// Get fetches one message (basic.get), or finds ErrEmptyQueue. A queue that is not
// there is NotFound, which ends the channel. With noAck it counts as settled once
// it is sent. A message that comes when ctx has ended is given back, or with noAck
// lost, which the log tells. Fetching in a loop costs a round trip a message:
// consume instead.
func (ch *Channel) Get(ctx context.Context, queue string, noAck bool) (body []byte, env *Envelope, err error) {
	m := &wire.BasicGet{Queue: queue, NoAck: noAck}
	p := newCall(m, wire.BasicGetOkID, wire.BasicGetEmptyID)
	p.noAck = noAck
	p.late = func(_ wire.Method, d *delivery) { ch.lateGet(queue, noAck, d) }
	err = ch.start(ctx, outgoing{method: m, call: p})
	if err == nil {
		err = ch.wait(ctx, p)
	}
	if err == nil && p.content == nil {
		err = ErrEmptyQueue
	}
	if err != nil {
		return nil, nil, fmt.Errorf("amqp: get from queue %q: %w", queue, err)
	}
	return p.content.body(), &p.content.Envelope, nil
}

// lateGet gives back what came for a caller who has gone.
func (ch *Channel) lateGet(queue string, noAck bool, d *delivery) {
	switch {
	case d == nil:
	case !noAck:
		ch.postGiveBack(d)
	default:
		ch.conn.cfg.Logger.Warn("amqp: a message that Get fetched without acknowledgement came when its context had ended, and is lost", "queue", queue)
	}
}

// onGetOk starts the content of a basic.get.
func (ch *Channel) onGetOk(got *wire.BasicGetOk) error {
	noAck, ok := ch.oldestGet()
	if !ok {
		return protocolError("the broker sent basic.get-ok on channel %d, which answers nothing", ch.id)
	}
	if err := ch.enterTag(got.DeliveryTag, noAck); err != nil {
		return err
	}
	m := &ch.content
	m.head = delivery{Envelope: Envelope{
		DeliveryTag: got.DeliveryTag, Exchange: got.Exchange, RoutingKey: got.RoutingKey,
		Redelivered: got.Redelivered, MessageCount: int(got.MessageCount), channel: ch,
	}}
	m.delivery, m.get = &m.head, got
	return nil
}

func (ch *Channel) oldestGet() (noAck, ok bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for _, p := range ch.calls {
		if p.method == wire.BasicGetID {
			return p.noAck, true
		}
	}
	return false, false
}

// Qos bounds how many unsettled messages the broker sends ahead (basic.qos): on
// the channel if Global, and otherwise to each consumer that is started later and
// has no Prefetch of its own. A number that the protocol has no room for is an
// error.
// https://www.rabbitmq.com/docs/consumer-prefetch
func (ch *Channel) Qos(ctx context.Context, q Qos) error {
	switch {
	case q.PrefetchCount < 0 || q.PrefetchCount > math.MaxUint16:
		return fmt.Errorf("amqp: qos: prefetch count %d is not between 0 and %d", q.PrefetchCount, math.MaxUint16)
	case q.PrefetchSize < 0 || int64(q.PrefetchSize) > math.MaxUint32:
		return fmt.Errorf("amqp: qos: prefetch size %d is not between 0 and %d", q.PrefetchSize, uint32(math.MaxUint32))
	}
	m := &wire.BasicQos{PrefetchSize: uint32(q.PrefetchSize), PrefetchCount: uint16(q.PrefetchCount), Global: q.Global}
	if err := ch.roundTrip(ctx, m, wire.BasicQosOkID); err != nil {
		return fmt.Errorf("amqp: qos: %w", err)
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.qos = &q
	return nil
}

// Flow asks the broker to stop or go on sending deliveries (channel.flow).
// RabbitMQ knows active=true alone and closes the connection with 540 for the
// other: use a prefetch.
func (ch *Channel) Flow(ctx context.Context, active bool) error {
	if err := ch.roundTrip(ctx, &wire.ChannelFlow{Active: active}, wire.ChannelFlowOkID); err != nil {
		return fmt.Errorf("amqp: flow: %w", err)
	}
	return nil
}

// Recover has the broker take back every delivery of the channel that is not
// settled (basic.recover), and returns when it has: with requeue they go back to
// their queues, and come again. RabbitMQ refuses requeue=false with 540, which
// ends the connection. What was delivered before can't be settled any more. What
// a no-ack consumer has is settled, and stays with it.
func (ch *Channel) Recover(ctx context.Context, requeue bool) error {
	p, err := ch.recall(ctx, requeue, false)
	if err == nil {
		err = ch.wait(ctx, p)
	}
	if err != nil {
		return fmt.Errorf("amqp: recover: %w", err)
	}
	return nil
}

// RecoverAsync is Recover without waiting for it. It is sent as basic.recover,
// whose answer shows the client which deliveries are void; the answer of
// basic.recover-async, which the protocol deprecates, does not exist.
func (ch *Channel) RecoverAsync(requeue bool) error {
	if _, err := ch.recall(context.Background(), requeue, true); err != nil {
		return fmt.Errorf("amqp: recover: %w", err)
	}
	return nil
}

// recall sends basic.recover, after which nothing can be settled until its answer
// has come: RabbitMQ takes a delivery tag that it does not wait for as an error,
// and closes the channel.
func (ch *Channel) recall(ctx context.Context, requeue, async bool) (*pendingCall, error) {
	m := &wire.BasicRecover{Requeue: requeue}
	p := newCall(m, wire.BasicRecoverOkID)
	p.abandoned = async
	return p, ch.start(ctx, outgoing{method: m, call: p, before: ch.ledger.recall})
}
