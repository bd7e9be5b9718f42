package amqptest

import (
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// consumerTimeout is how long a delivery from this queue may stay unsettled; negative: for ever.
func (b *Broker) consumerTimeout(q *queue) time.Duration {
	switch {
	case b.cfg.version.timesOutQuorumOnly && !q.settings.quorum:
		return -1
	case q.settings.consumerLimitSet:
		return q.settings.consumerTimeout
	}
	return b.cfg.consumerTimeout
}

// allowance is how long this delivery may stay unsettled; negative: for ever.
func (u *unacked) allowance() time.Duration {
	if u.consumer != nil {
		return u.consumer.timeout
	}
	return u.queue.vhost.broker.consumerTimeout(u.queue)
}

// watch notes when a delivery went out, and sees to it that somebody looks when its time is over.
func (ch *channel) watch(u *unacked) {
	allowance := u.allowance()
	if allowance < 0 {
		return
	}
	u.since = ch.conn.broker.now()
	if !ch.overdue.running() || u.since+allowance < ch.overdueAt {
		ch.overdueAt = u.since + allowance
		ch.overdue.set(allowance)
	}
}

// timeOut looks for deliveries that nobody settled in time.
func (ch *channel) timeOut() {
	now := ch.conn.broker.now()
	next := time.Duration(-1)
	for i := ch.oldest; i < len(ch.unacked); i++ {
		u := &ch.unacked[i]
		if u.settled || u.timedOut {
			continue
		}
		allowance := u.allowance()
		if allowance < 0 {
			continue
		}
		if u.since+allowance <= now {
			ch.overdueDelivery(u, allowance)
			return
		}
		if left := u.since + allowance - now; next < 0 || left < next {
			next = left
		}
	}
	if next >= 0 {
		ch.overdueAt = now + next
		ch.overdue.set(next)
	}
}

// overdueDelivery closes the channel, or in newer versions cancels the consumer of a client that wants to be told.
func (ch *channel) overdueDelivery(u *unacked, allowance time.Duration) {
	c := u.consumer
	version := ch.conn.broker.cfg.version
	if c == nil || !version.cancelsOnTimeout || !ch.conn.capable("consumer_cancel_notify") {
		ch.refuse(fail(preconditionFailed, "delivery acknowledgement on channel %d timed out. Timeout value used: %d ms. "+
			"This timeout value can be configured, see consumers doc guide to learn more", ch.id, allowance.Milliseconds()))
		return
	}
	c.remove()
	var mine []unacked
	for i := ch.oldest; i < len(ch.unacked); i++ {
		if v := &ch.unacked[i]; !v.settled && !v.timedOut && v.consumer == c {
			mine = append(mine, *v)
			v.timedOut = true
		}
	}
	// This cancellation wants an answer all the same.
	ch.send(&wire.BasicCancel{ConsumerTag: c.tag, NoWait: true})
	if ch.timedOut == nil {
		ch.timedOut = map[string]bool{}
	}
	ch.timedOut[c.tag] = true
	ch.apply(mine, requeued, false)
	ch.timeOut()
}
