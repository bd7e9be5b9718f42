package amqptest

import (
	"slices"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// A publication is a basic.publish with its message.
type publication struct {
	message              *message
	mandatory, immediate bool
}

// publish checks a message and routes it, or keeps it for the commit of a transaction.
func (ch *channel) publish(p publication) *exception {
	m, b := p.message, ch.conn.broker
	if p.immediate {
		return fail(notImplemented, "immediate=true")
	}
	if e := ch.conn.may(write, "exchange", m.exchange); e != nil {
		return e
	}
	x, e := ch.conn.vhost.exchangeNamed(m.exchange)
	if e != nil {
		return e
	}
	if x.internal {
		return fail(accessRefused, "cannot publish to internal %s", subject("exchange", x.name, x.vhost.name))
	}
	if m.has(flagsOfInterest) {
		if m, e = ch.checkProperties(m); e != nil {
			return e
		}
	}
	b.record(m)
	if ch.confirms.on {
		ch.confirms.sequence++
		if b.nackNext > 0 {
			b.nackNext--
			ch.confirms.add(ch.confirms.sequence, false)
			return nil
		}
	}
	var queues []*queue
	if m.exchange != "" || !isReplyTo(m.key) {
		queues = b.route(x, m)
	} else if b.reply(m) && b.cfg.version.repliesAreRouted {
		p.mandatory = false
	}
	if ch.tx != nil {
		ch.tx.published = append(ch.tx.published, txPublish{m, slices.Clone(queues), p.mandatory})
		return nil
	}
	ok := ch.distribute(m, queues, p.mandatory)
	if ch.confirms.on {
		ch.confirms.add(ch.confirms.sequence, ok)
		if p.mandatory && len(queues) == 0 {
			ch.flushConfirms() // RabbitMQ confirms a returned message at once
		}
	}
	return nil
}

// distribute puts a message into its queues. A mandatory one that has none is returned before it is confirmed.
func (ch *channel) distribute(m *message, queues []*queue, mandatory bool) (ok bool) {
	if mandatory && len(queues) == 0 {
		ch.conn.giveBack(ch, m, noRoute, "NO_ROUTE")
	}
	ok = true
	for _, q := range queues {
		if !q.deleted && !q.publish(m) {
			ok = false
		}
	}
	return ok
}

// checkProperties looks at the properties that mean something to the broker.
func (ch *channel) checkProperties(m *message) (*message, *exception) {
	props := m.properties()
	if user := ch.conn.user; props.UserID != "" && props.UserID != user.Name {
		return nil, fail(preconditionFailed, "user_id property set to '%s' but authenticated user was '%s'", props.UserID, user.Name)
	}
	if props.Expiration != "" {
		if e := checkExpiration(props.Expiration); e != nil {
			return nil, e
		}
	}
	if _, ok := props.Headers["CC"]; !ok {
		_, ok = props.Headers["BCC"]
		if !ok {
			return ch.withReplyTo(m)
		}
	}
	m, e := senderSelected(m)
	if e != nil {
		return nil, e
	}
	return ch.withReplyTo(m)
}

// withReplyTo replaces the pseudo-queue's name in reply-to by the address of the channel's reply consumer.
func (ch *channel) withReplyTo(m *message) (*message, *exception) {
	if m.properties().ReplyTo != replyToName {
		return m, nil
	}
	if ch.replies == nil {
		return nil, fail(preconditionFailed, "fast reply consumer does not exist")
	}
	props := *m.properties()
	props.ReplyTo = ch.replies.address
	changed, err := m.with(&props)
	if err != nil {
		return nil, fail(preconditionFailed, "invalid message: %v", err)
	}
	return changed, nil
}

// giveBack sends basic.return.
func (c *conn) giveBack(ch *channel, m *message, code uint16, text string) {
	c.send(ch.id, &wire.BasicReturn{ReplyCode: code, ReplyText: text, Exchange: m.exchange, RoutingKey: m.key})
	c.out = m.appendContent(c.out, ch.id, c.frameMax)
}
