package amqptest

import (
	"strings"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// replyToName is the pseudo-queue of direct reply-to. A requester consumes from it and publishes with it in
// reply-to; the responder sees an address made for that channel, and answers by way of the default exchange.
const replyToName = "amq.rabbitmq.reply-to"

func isReplyTo(name string) bool {
	return strings.HasPrefix(name, replyToName) && (len(name) == len(replyToName) || name[len(replyToName)] == '.')
}

// A replyTo is a channel's direct reply-to consumer.
type replyTo struct {
	channel *channel
	tag     string
	address string
}

func (r *replyTo) close() {
	if r != nil {
		delete(r.channel.conn.broker.replies, r.address)
		r.channel.replies = nil
	}
}

func (ch *channel) replyConsume(m *wire.BasicConsume) *exception {
	switch {
	case ch.replies != nil:
		return fail(preconditionFailed, "reply consumer already set")
	case !m.NoAck:
		return fail(preconditionFailed, "reply consumer cannot acknowledge")
	}
	tag := m.ConsumerTag
	if tag == "" {
		tag = generatedName("amq.ctag-")
	}
	ch.replies = &replyTo{channel: ch, tag: tag, address: generatedName(replyToName + ".")}
	ch.conn.broker.replies[ch.replies.address] = ch.replies
	ch.answer(m.NoWait, &wire.BasicConsumeOk{ConsumerTag: tag})
	return nil
}

// reply delivers an answer to whoever has that address. There is no queue: nobody there means nothing happens.
func (b *Broker) reply(m *message) bool {
	r := b.replies[m.key]
	if r == nil {
		return false
	}
	ch := r.channel
	c := ch.conn
	if len(c.out)+c.inflight > outOverfull {
		return true // lost: replies are delivered at most once, and nothing holds them back
	}
	// The tag is the one that the next delivery gets, too: a reply is not one that could be acked.
	c.out = wire.AppendDeliver(c.out, ch.id, r.tag, ch.deliveryTag+1, false, m.exchange, m.key)
	c.out = m.appendContent(c.out, ch.id, c.frameMax)
	c.wake()
	return true
}

// replyQueueDeclare answers a declaration of the pseudo-queue, by which a responder finds out whether
// the requester is still there.
func (ch *channel) replyQueueDeclare(name string, noWait bool) *exception {
	if name != replyToName && ch.conn.broker.replies[name] == nil {
		return noQueue(ch.conn.vhost.name, name)
	}
	ch.lastQueue = name
	ch.answer(noWait, &wire.QueueDeclareOk{Queue: name, ConsumerCount: 1})
	return nil
}
