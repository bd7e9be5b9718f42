package amqptest

import (
	"slices"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// A deadLetter is a message that left a queue without being acked, on its way to the dead-letter exchange.
// It travels when the work under way is done, so that queues that feed each other don't run inside each other.
type deadLetter struct {
	from   *queue
	entry  entry
	reason string
}

// deadLetter takes leave of an entry: it goes to the queue's dead-letter exchange, or nowhere.
func (q *queue) deadLetter(e entry, reason string) {
	if q.settings.deadExchange != nil {
		b := q.vhost.broker
		b.dead = append(b.dead, deadLetter{q, e, reason})
	}
}

// buryDead publishes the dead letters that have come up, and those that come up meanwhile.
func (b *Broker) buryDead() {
	for len(b.dead) > 0 {
		letters := b.dead
		b.dead = nil
		for _, letter := range letters {
			b.bury(letter)
		}
	}
}

func (b *Broker) bury(letter deadLetter) {
	q := letter.from
	x := q.vhost.exchanges[*q.settings.deadExchange]
	if x == nil {
		return
	}
	m, err := letter.message(b.clock())
	if err != nil {
		b.logf("a dead letter from queue %q is lost: %v", q.name, err)
		return
	}
	for _, to := range slices.Clone(b.route(x, m)) {
		if letter.reason == "rejected" || !deadCycle(m, to.name) {
			to.publish(m)
		}
	}
}

// message is the dead letter as it is published: with its history in x-death, and without its expiration.
func (letter *deadLetter) message(now time.Time) (*message, error) {
	q, old := letter.from, letter.entry.msg
	props := *old.properties()
	headers := cloneWithout(props.Headers)
	if headers == nil {
		headers = wire.Table{}
	}
	m := &message{exchange: *q.settings.deadExchange, key: old.key, keys: old.keys, hidden: old.hidden, body: old.body}
	if q.settings.deadKey != nil {
		m.key, m.keys, m.hidden = *q.settings.deadKey, nil, 0
		delete(headers, "CC")
	}
	deaths, _ := headers["x-death"].([]any)
	headers["x-death"] = letter.history(deaths, props.Expiration, now)
	if _, ok := headers["x-first-death-queue"]; !ok {
		headers["x-first-death-exchange"] = old.exchange
		headers["x-first-death-queue"] = q.name
		headers["x-first-death-reason"] = letter.reason
	}
	props.Headers, props.Expiration = headers, ""
	return m.with(&props)
}

// history adds this death to the list: an event of the same queue and reason is counted up and comes to the front.
func (letter *deadLetter) history(deaths []any, expiration string, now time.Time) []any {
	q, old := letter.from, letter.entry.msg
	event := wire.Table{}
	rest := make([]any, 0, len(deaths)+1)
	for _, death := range deaths {
		if t, ok := death.(wire.Table); ok && t["queue"] == q.name && t["reason"] == letter.reason {
			event = cloneWithout(t)
		} else {
			rest = append(rest, death)
		}
	}
	if count, ok := asInt(event["count"]); ok {
		event["count"] = count + 1
		return slices.Insert(rest, 0, any(event))
	}
	keys := []any{old.key}
	for _, key := range old.keys[:len(old.keys)-old.hidden] {
		keys = append(keys, key)
	}
	event["count"], event["reason"], event["queue"] = int64(1), letter.reason, q.name
	event["time"], event["exchange"], event["routing-keys"] = now, old.exchange, keys
	if expiration != "" {
		event["original-expiration"] = expiration
	}
	return slices.Insert(rest, 0, any(event))
}

// deadCycle tells whether a message would come back to a queue without anybody having rejected it on the way round.
// Such a message is dropped, or it would go round for ever.
func deadCycle(m *message, queue string) bool {
	deaths, _ := m.properties().Headers["x-death"].([]any)
	for _, death := range deaths {
		t, ok := death.(wire.Table)
		if !ok || t["reason"] == "rejected" {
			return false
		}
		if t["queue"] == queue {
			return true
		}
	}
	return false
}
