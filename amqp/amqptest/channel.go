package amqptest

import (
	"maps"
	"slices"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// A channel is the broker's side of one. Everything but assembly is guarded by the broker's lock.
type channel struct {
	conn *conn
	id   uint16

	assembly assembly // the message that is coming in; the reader's own

	closing   bool // channel.close was sent: everything but its answer is ignored
	lastQueue string
	consumers map[string]*consumer
	timedOut  map[string]bool // tags of consumers that were cancelled, and whose client has not answered
	prefetch  int             // what basic.qos says for the consumers to come
	limit     int             // what basic.qos says for the channel as a whole; zero: none
	limited   int             // unsettled deliveries of consumers, which limit bounds

	deliveryTag uint64
	unacked     []unacked // ordered by tag; those before oldest are settled
	oldest      int
	held        int           // how many of unacked are not settled
	taken       []unacked     // what take returned last, kept for its memory
	overdue     alarmClock    // fires at overdueAt
	overdueAt   time.Duration // when a delivery may be unsettled for too long

	confirms confirms
	tx       *transaction // nil unless tx.select was called
	replies  *replyTo     // the direct reply-to consumer
}

func newChannel(c *conn, id uint16) *channel {
	ch := &channel{conn: c, id: id, consumers: map[string]*consumer{}}
	ch.overdue.init(c.broker, ch.timeOut)
	return ch
}

func (ch *channel) send(m wire.Method) { ch.conn.send(ch.id, m) }

// refuse closes the channel, or the connection when the exception says so.
func (ch *channel) refuse(e *exception) {
	if e.hard() {
		ch.conn.refuse(e)
		return
	}
	ch.close(e)
}

// close ends the channel from the broker's side and tells the client why.
func (ch *channel) close(e *exception) {
	if ch.closing || ch.conn.closing {
		return
	}
	ch.release()
	ch.closing = true
	ch.send(&wire.ChannelClose{ReplyCode: e.code, ReplyText: clip(e.text), ClassID: e.method.Class(), MethodID: e.method.Method()})
}

// release ends everything that the channel has: confirms that were due are sent, consumers leave, a transaction is rolled
// back, and what is not settled goes back to its queues.
func (ch *channel) release() {
	if ch.closing {
		return
	}
	ch.flushConfirms()
	ch.closing = true
	if ch.tx != nil {
		ch.rollback()
		ch.tx = nil
	}
	ch.replies.close()
	consumers := ch.sortedConsumers()
	for _, c := range consumers {
		c.remove()
	}
	ch.abandon()
	for _, c := range consumers {
		if q := c.queue; q.autoDelete && q.consumers.n == 0 {
			q.vhost.deleteQueue(q)
		}
	}
	ch.overdue.stop()
}

func (ch *channel) sortedConsumers() []*consumer {
	list := make([]*consumer, 0, len(ch.consumers))
	for _, tag := range slices.Sorted(maps.Keys(ch.consumers)) {
		list = append(list, ch.consumers[tag])
	}
	return list
}

// handle does what a method says; the broker's lock is held. It returns the broker's refusal.
func (ch *channel) handle(m wire.Method) *exception {
	switch m := m.(type) {
	case *wire.BasicAck:
		return ch.settlement(m.DeliveryTag, m.Multiple, acked, false)
	case *wire.BasicNack:
		return ch.settlement(m.DeliveryTag, m.Multiple, negative(m.Requeue), ch.conn.broker.cfg.version.everyReturnCounts)
	case *wire.BasicReject:
		return ch.settlement(m.DeliveryTag, false, negative(m.Requeue), true)
	case *wire.BasicGet:
		return ch.get(m)
	case *wire.BasicConsume:
		return ch.consume(m)
	case *wire.BasicCancel:
		return ch.cancel(m)
	case *wire.BasicCancelOk:
		return ch.cancelOk(m)
	case *wire.BasicQos:
		return ch.qos(m)
	case *wire.BasicRecover:
		return ch.basicRecover(m.Requeue, &wire.BasicRecoverOk{})
	case *wire.BasicRecoverAsync:
		return ch.basicRecover(m.Requeue, nil)
	case *wire.ChannelOpen:
		return fail(channelError, "second 'channel.open' seen")
	case *wire.ChannelFlow:
		if !m.Active {
			return fail(notImplemented, "active=false")
		}
		ch.send(&wire.ChannelFlowOk{Active: true})
	case *wire.ConfirmSelect, *wire.TxSelect, *wire.TxCommit, *wire.TxRollback:
		return ch.mode(m)
	default:
		return ch.topology(m)
	}
	return nil
}

func negative(requeue bool) verdict {
	if requeue {
		return requeued
	}
	return rejected
}

// mode turns on confirms or transactions, and ends transactions.
func (ch *channel) mode(m wire.Method) *exception {
	switch m := m.(type) {
	case *wire.ConfirmSelect:
		if ch.tx != nil {
			return fail(preconditionFailed, "cannot switch from tx to confirm mode")
		}
		ch.confirms.on = true
		ch.answer(m.NoWait, &wire.ConfirmSelectOk{})
	case *wire.TxSelect:
		if ch.confirms.on {
			return fail(preconditionFailed, "cannot switch from confirm to tx mode")
		}
		if ch.tx == nil {
			ch.tx = &transaction{}
		}
		ch.send(&wire.TxSelectOk{})
	case *wire.TxCommit:
		if ch.tx == nil {
			return fail(preconditionFailed, "channel is not transactional")
		}
		ch.commit()
		ch.send(&wire.TxCommitOk{})
	case *wire.TxRollback:
		if ch.tx == nil {
			return fail(preconditionFailed, "channel is not transactional")
		}
		ch.rollback()
		ch.send(&wire.TxRollbackOk{})
	}
	return nil
}

// topology does what a method of the queue and exchange classes says.
func (ch *channel) topology(m wire.Method) *exception {
	switch m := m.(type) {
	case *wire.QueueDeclare:
		return ch.queueDeclare(m)
	case *wire.QueueDelete:
		return ch.queueDelete(m)
	case *wire.QueuePurge:
		return ch.queuePurge(m)
	case *wire.QueueBind:
		return ch.bind(m.Exchange, m.Queue, "", true, bindRequest{m.RoutingKey, m.Arguments, m.NoWait, &wire.QueueBindOk{}})
	case *wire.QueueUnbind:
		return ch.unbind(m.Exchange, m.Queue, "", true, bindRequest{m.RoutingKey, m.Arguments, false, &wire.QueueUnbindOk{}})
	case *wire.ExchangeDeclare:
		return ch.exchangeDeclare(m)
	case *wire.ExchangeDelete:
		return ch.exchangeDelete(m)
	case *wire.ExchangeBind:
		return ch.bind(m.Source, "", m.Destination, false, bindRequest{m.RoutingKey, m.Arguments, m.NoWait, &wire.ExchangeBindOk{}})
	case *wire.ExchangeUnbind:
		return ch.unbind(m.Source, "", m.Destination, false, bindRequest{m.RoutingKey, m.Arguments, m.NoWait, &wire.ExchangeUnbindOk{}})
	}
	return fail(commandInvalid, "unimplemented method")
}

// answer sends a method's answer unless the client asked for none.
func (ch *channel) answer(noWait bool, m wire.Method) {
	if !noWait {
		ch.send(m)
	}
}

// queueName is the queue that a method means: an empty name is the one that the channel declared last.
func (ch *channel) queueName(name string) (string, *exception) {
	if name != "" {
		return name, nil
	}
	if ch.lastQueue == "" {
		return "", fail(notFound, "no previously declared queue")
	}
	return ch.lastQueue, nil
}
