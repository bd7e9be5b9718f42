package amqptest

import (
	"strings"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

func (ch *channel) queueDeclare(m *wire.QueueDeclare) *exception {
	v := ch.conn.vhost
	name := stripLines(m.Queue)
	if isReplyTo(name) {
		return ch.replyQueueDeclare(name, m.NoWait)
	}
	if m.Passive {
		q, e := v.queueNamed(name, ch.conn)
		if e = firstOf(e, ch.conn.mayLook("queue", name)); e != nil {
			return e
		}
		ch.declared(q, m.NoWait)
		return nil
	}
	if name == "" {
		name = generatedName("amq.gen-")
	} else if e := ch.conn.may(configure, "queue", name); e != nil {
		return e
	}
	if q := v.queues[name]; q != nil {
		return ch.redeclare(q, m)
	}
	if strings.HasPrefix(m.Queue, "amq.") {
		return fail(accessRefused, "queue name '%s' contains reserved prefix 'amq.*'", name)
	}
	q, e := ch.newQueue(name, m)
	if e != nil {
		return e
	}
	v.queues[name] = q
	ch.declared(q, m.NoWait)
	return nil
}

// newQueue makes the queue that a declaration asks for.
func (ch *channel) newQueue(name string, m *wire.QueueDeclare) (*queue, *exception) {
	v, b := ch.conn.vhost, ch.conn.broker
	settings, e := b.readQueueArguments(v.name, name, m.Arguments)
	if e != nil {
		return nil, e
	}
	who := subject("queue", name, v.name)
	switch {
	case settings.quorum && !m.Durable:
		return nil, fail(preconditionFailed, "invalid property 'non-durable' for %s", who)
	case settings.quorum && m.AutoDelete:
		return nil, fail(preconditionFailed, "invalid property 'auto-delete' for %s", who)
	case settings.quorum && m.Exclusive:
		return nil, fail(preconditionFailed, "invalid property 'exclusive-owner' for %s", who)
	case !m.Durable && !m.Exclusive && b.cfg.version.deniesDeprecated:
		return nil, deprecated("transient_nonexcl_queues")
	}
	if settings.deadExchange != nil {
		if e := firstOf(ch.conn.may(read, "queue", name), ch.conn.may(write, "exchange", *settings.deadExchange)); e != nil {
			return nil, e
		}
	}
	q := newQueue(v, name, settings)
	q.durable, q.autoDelete, q.arguments = lasting(m), m.AutoDelete, m.Arguments
	if m.Exclusive {
		q.owner = ch.conn
	}
	return q, nil
}

// redeclare answers a declaration of a queue that is there already: it has to be the same.
func (ch *channel) redeclare(q *queue, m *wire.QueueDeclare) *exception {
	who := subject("queue", q.name, q.vhost.name)
	if q.owner != nil && q.owner != ch.conn || m.Exclusive != (q.owner != nil) {
		return locked(q)
	}
	e := firstOf(
		sameFlag(who, "durable", lasting(m), q.durable),
		sameFlag(who, "auto_delete", m.AutoDelete, q.autoDelete),
		sameArguments(who, withoutClassic(m.Arguments), withoutClassic(q.arguments)),
	)
	if e == nil {
		ch.declared(q, m.NoWait)
	}
	return e
}

// lasting tells whether a queue is durable: an exclusive one never is.
func lasting(m *wire.QueueDeclare) bool { return m.Durable && !m.Exclusive }

// withoutClassic leaves out the queue type that a queue has anyway.
func withoutClassic(arguments wire.Table) wire.Table {
	if arguments["x-queue-type"] == "classic" {
		return cloneWithout(arguments, "x-queue-type")
	}
	return arguments
}

func (ch *channel) declared(q *queue, noWait bool) {
	ch.lastQueue = q.name
	q.used()
	q.dropExpired()
	ch.answer(noWait, &wire.QueueDeclareOk{Queue: q.name, MessageCount: uint32(q.length), ConsumerCount: uint32(q.consumers.n)})
}

func (ch *channel) queueDelete(m *wire.QueueDelete) *exception {
	name, e := ch.queueName(m.Queue)
	if e = firstOf(e, ch.conn.may(configure, "queue", name)); e != nil {
		return e
	}
	v := ch.conn.vhost
	q := v.queues[name]
	if q == nil {
		ch.answer(m.NoWait, &wire.QueueDeleteOk{}) // deleting what is not there succeeds
		return nil
	}
	switch {
	case q.owner != nil && q.owner != ch.conn:
		return locked(q)
	case m.IfUnused && q.consumers.n > 0:
		return fail(preconditionFailed, "%s in use", subject("queue", name, v.name))
	case m.IfEmpty && q.length > 0:
		return fail(preconditionFailed, "%s not empty", subject("queue", name, v.name))
	}
	n := v.deleteQueue(q)
	ch.answer(m.NoWait, &wire.QueueDeleteOk{MessageCount: uint32(n)})
	return nil
}

// readable is a queue that the user may read.
func (ch *channel) readable(wanted string) (*queue, *exception) {
	name, e := ch.queueName(wanted)
	if e = firstOf(e, ch.conn.may(read, "queue", name)); e != nil {
		return nil, e
	}
	return ch.conn.vhost.queueNamed(name, ch.conn)
}

func (ch *channel) queuePurge(m *wire.QueuePurge) *exception {
	q, e := ch.readable(m.Queue)
	if e != nil {
		return e
	}
	ch.answer(m.NoWait, &wire.QueuePurgeOk{MessageCount: uint32(q.purge())})
	return nil
}

// stripLines takes the line breaks out of a name, as RabbitMQ does when something is declared.
func stripLines(name string) string {
	if !strings.ContainsAny(name, "\r\n") {
		return name
	}
	return strings.NewReplacer("\r", "", "\n", "").Replace(name)
}
