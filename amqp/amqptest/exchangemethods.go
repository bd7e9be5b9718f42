package amqptest

import (
	"maps"
	"slices"
	"strings"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

func notOnDefault(name string) *exception {
	if name == "" {
		return fail(accessRefused, "operation not permitted on the default exchange")
	}
	return nil
}

func (ch *channel) exchangeDeclare(m *wire.ExchangeDeclare) *exception {
	v := ch.conn.vhost
	name := stripLines(m.Exchange)
	if m.Passive {
		_, e := v.exchangeNamed(name)
		if e = firstOf(notOnDefault(name), e, ch.conn.mayLook("exchange", name)); e == nil {
			ch.answer(m.NoWait, &wire.ExchangeDeclareOk{})
		}
		return e
	}
	if routers[m.Type] == nil {
		return fail(ch.conn.broker.cfg.version.unknownExchange, "invalid exchange type '%s'", m.Type)
	}
	if e := firstOf(notOnDefault(name), ch.conn.may(configure, "exchange", name)); e != nil {
		return e
	}
	alternate, e := ch.exchangeArguments(name, m.Arguments)
	if e != nil {
		return e
	}
	if x := v.exchanges[name]; x != nil {
		e = sameExchange(x, m)
	} else if strings.HasPrefix(name, "amq.") {
		e = fail(accessRefused, "exchange name '%s' contains reserved prefix 'amq.*'", name)
	} else {
		x := newExchange(v, name, m.Type)
		x.durable, x.autoDelete, x.internal, x.arguments, x.alternate = m.Durable, m.AutoDelete, m.Internal, m.Arguments, alternate
		v.exchanges[name] = x
	}
	if e == nil {
		ch.answer(m.NoWait, &wire.ExchangeDeclareOk{})
	}
	return e
}

// exchangeArguments understands the one argument that exchanges have, and refuses others.
func (ch *channel) exchangeArguments(name string, arguments wire.Table) (alternate *string, e *exception) {
	who := subject("exchange", name, ch.conn.vhost.name)
	for _, arg := range slices.Sorted(maps.Keys(arguments)) {
		switch {
		case arg == "alternate-exchange":
			other, ok := arguments[arg].(string)
			if !ok {
				return nil, fail(preconditionFailed, "invalid type '%s' for arg '%s' in %s", typeName(arguments[arg]), arg, who)
			}
			if e := firstOf(ch.conn.may(read, "exchange", name), ch.conn.may(write, "exchange", other)); e != nil {
				return nil, e
			}
			alternate = &other
		case !ch.conn.broker.cfg.arguments[arg]:
			return nil, fail(preconditionFailed, "invalid arg '%s' for %s: amqptest does not know it; WithArguments lets it pass", arg, who)
		}
	}
	return alternate, nil
}

func sameExchange(x *exchange, m *wire.ExchangeDeclare) *exception {
	who := subject("exchange", x.name, x.vhost.name)
	if m.Type != x.kind {
		return fail(preconditionFailed, "inequivalent arg 'type' for %s: received '%s' but current is '%s'", who, m.Type, x.kind)
	}
	return firstOf(
		sameFlag(who, "durable", m.Durable, x.durable),
		sameFlag(who, "auto_delete", m.AutoDelete, x.autoDelete),
		sameFlag(who, "internal", m.Internal, x.internal),
		sameArguments(who, m.Arguments, x.arguments),
	)
}

func (ch *channel) exchangeDelete(m *wire.ExchangeDelete) *exception {
	v := ch.conn.vhost
	if e := firstOf(notOnDefault(m.Exchange), ch.conn.may(configure, "exchange", m.Exchange)); e != nil {
		return e
	}
	if strings.HasPrefix(m.Exchange, "amq.") {
		return fail(accessRefused, "deletion of system %s not allowed", subject("exchange", m.Exchange, v.name))
	}
	if x := v.exchanges[m.Exchange]; x != nil {
		if m.IfUnused && len(x.from) > 0 {
			return fail(preconditionFailed, "%s in use", subject("exchange", m.Exchange, v.name))
		}
		v.deleteExchange(x)
	}
	ch.answer(m.NoWait, &wire.ExchangeDeleteOk{}) // deleting what is not there succeeds
	return nil
}

// A bindRequest is what the four methods that bind and unbind have in common.
type bindRequest struct {
	key       string
	arguments wire.Table
	noWait    bool
	ok        wire.Method
}

// bind binds a queue, or another exchange, to the source.
func (ch *channel) bind(source, queue, destination string, toQueue bool, r bindRequest) *exception {
	like, e := ch.bindingEnds(source, queue, destination, toQueue, &r)
	if e != nil {
		return e
	}
	x := like.source
	if x.kind == "headers" {
		if like.headers, e = parseHeadersPattern(r.arguments); e != nil {
			return e
		}
	}
	x.bind(like)
	ch.answer(r.noWait, r.ok)
	return nil
}

// unbind undoes bind. A binding that is not there is no error, and neither are its ends.
func (ch *channel) unbind(source, queue, destination string, toQueue bool, r bindRequest) *exception {
	like, e := ch.bindingEnds(source, queue, destination, toQueue, &r)
	switch {
	case e != nil && e.code != notFound:
		return e
	case e == nil:
		like.source.unbind(like)
	}
	ch.answer(r.noWait, r.ok)
	return nil
}

// bindingEnds finds the two ends of a binding and checks that the user may bind them.
func (ch *channel) bindingEnds(source, queue, destination string, toQueue bool, r *bindRequest) (*binding, *exception) {
	v := ch.conn.vhost
	b := &binding{key: r.key, arguments: r.arguments}
	what, name := "exchange", destination
	if toQueue {
		var e *exception
		if name, e = ch.queueName(queue); e != nil {
			return nil, e
		}
		if what = "queue"; queue == "" && b.key == "" {
			b.key = name // RabbitMQ's reading of two empty names
		}
	} else if e := notOnDefault(destination); e != nil {
		return nil, e
	}
	if e := firstOf(notOnDefault(source), ch.conn.may(write, what, name), ch.conn.may(read, "exchange", source)); e != nil {
		return nil, e
	}
	var e, other *exception
	if b.source, e = v.exchangeNamed(source); e == nil {
		if toQueue {
			b.queue, other = v.queueNamed(name, ch.conn)
		} else {
			b.exchange, other = v.exchangeNamed(name)
		}
	} else if toQueue {
		_, other = v.queueNamed(name, ch.conn)
	}
	if toQueue && other != nil {
		return nil, other
	}
	return b, firstOf(e, other)
}
