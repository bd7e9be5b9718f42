package amqptest

import (
	"maps"
	"slices"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

func (ch *channel) consume(m *wire.BasicConsume) *exception {
	if m.Queue == replyToName {
		return ch.replyConsume(m)
	}
	c, e := ch.newConsumer(m)
	if e != nil {
		return e
	}
	q := c.queue
	if q.exclusive != nil || c.exclusive && (q.consumers.n > 0 || q.settings.singleActive) {
		return fail(accessRefused, "%s in exclusive use", subject("queue", q.name, q.vhost.name))
	}
	if c.exclusive {
		q.exclusive = c
	}
	ch.consumers[c.tag] = c
	q.consumers.add(c)
	if q.settings.singleActive && q.active == nil {
		q.active = c
	}
	q.used()
	ch.answer(m.NoWait, &wire.BasicConsumeOk{ConsumerTag: c.tag})
	q.serve()
	return nil
}

// newConsumer checks everything about basic.consume but the queue's exclusive use.
func (ch *channel) newConsumer(m *wire.BasicConsume) (*consumer, *exception) {
	name, e := ch.queueName(m.Queue)
	if e = firstOf(e, ch.conn.may(read, "queue", name)); e != nil {
		return nil, e
	}
	c := &consumer{channel: ch, tag: m.ConsumerTag, noAck: m.NoAck, prefetch: ch.prefetch, arguments: m.Arguments}
	if c.tag == "" {
		c.tag = generatedName("amq.ctag-")
	} else if ch.hasConsumer(c.tag) {
		return nil, fail(notAllowed, "attempt to reuse consumer tag '%s'", c.tag)
	}
	if c.queue, e = ch.conn.vhost.queueNamed(name, ch.conn); e != nil {
		return nil, e
	}
	if c.queue.settings.quorum && ch.limit > 0 {
		return nil, fail(notImplemented, "%s does not support global qos", subject("queue", name, ch.conn.vhost.name))
	}
	c.exclusive = m.Exclusive && !c.queue.settings.quorum // which quorum queues ignore
	c.timeout = ch.conn.broker.consumerTimeout(c.queue)
	who := subject("queue", name, ch.conn.vhost.name)
	for _, arg := range slices.Sorted(maps.Keys(m.Arguments)) {
		value := m.Arguments[arg]
		number, isInt := asInt(value)
		switch {
		case arg == "x-priority" && isInt:
			c.priority = number
		case arg == "x-priority":
			return nil, fail(preconditionFailed, "invalid arg 'x-priority' for %s: \"expected integer, got %s\"", who, typeName(value))
		case arg == "x-cancel-on-ha-failover": // there is no failover here
		case arg == "x-consumer-timeout" && isInt && ch.conn.broker.cfg.version.knowsNewArguments:
			c.timeout = time.Duration(number) * time.Millisecond
		case !ch.conn.broker.cfg.arguments[arg]:
			return nil, fail(preconditionFailed, "invalid arg '%s' for %s: amqptest does not know it; WithArguments lets it pass", arg, who)
		}
	}
	return c, nil
}

func (ch *channel) hasConsumer(tag string) bool {
	return ch.consumers[tag] != nil || ch.timedOut[tag] || ch.replies != nil && ch.replies.tag == tag
}

func (ch *channel) cancel(m *wire.BasicCancel) *exception {
	if c := ch.consumers[m.ConsumerTag]; c != nil {
		c.leave()
	} else if ch.replies != nil && ch.replies.tag == m.ConsumerTag {
		ch.replies.close()
	}
	delete(ch.timedOut, m.ConsumerTag)
	ch.answer(m.NoWait, &wire.BasicCancelOk{ConsumerTag: m.ConsumerTag})
	return nil
}

// cancelOk is the client's answer to a cancellation of the broker's, which only newer brokers take.
func (ch *channel) cancelOk(m *wire.BasicCancelOk) *exception {
	if ch.conn.broker.cfg.version.acceptsCancelOk {
		delete(ch.timedOut, m.ConsumerTag)
		return nil
	}
	return fail(commandInvalid, "unimplemented method")
}

func (ch *channel) get(m *wire.BasicGet) *exception {
	q, e := ch.readable(m.Queue)
	if e != nil {
		return e
	}
	if q.settings.singleActive && q.settings.quorum {
		return fail(resourceLocked, "cannot obtain access to locked %s. basic.get operations are not supported by quorum queues with single active consumer",
			subject("queue", q.name, q.vhost.name))
	}
	q.used()
	q.dropExpired()
	if q.length == 0 {
		ch.send(&wire.BasicGetEmpty{})
		return nil
	}
	entry := q.pop()
	q.dropExpired()
	ch.deliveryTag++
	ch.conn.getOk(ch, q, &entry)
	if !m.NoAck {
		ch.hold(unacked{tag: ch.deliveryTag, entry: entry, queue: q})
	}
	return nil
}

func (ch *channel) qos(m *wire.BasicQos) *exception {
	if m.PrefetchSize != 0 {
		return fail(notImplemented, "prefetch_size!=0 (%d)", m.PrefetchSize)
	}
	if m.Global && !ch.conn.broker.cfg.version.ignoresGlobal {
		ch.limit = int(m.PrefetchCount)
	} else {
		// RabbitMQ takes this for the end of the channel's common limit, too.
		ch.prefetch, ch.limit = int(m.PrefetchCount), 0
	}
	ch.send(&wire.BasicQosOk{})
	for _, c := range ch.sortedConsumers() {
		c.queue.serve()
	}
	return nil
}

func (ch *channel) basicRecover(requeue bool, ok wire.Method) *exception {
	if !requeue {
		return fail(notImplemented, "requeue=false")
	}
	ch.answer(ok == nil, ok)
	ch.recover(ch.conn.broker.cfg.version.everyReturnCounts)
	return nil
}
