package amqptest

import (
	"crypto/rand"
	"encoding/base64"
	"maps"
	"slices"
)

// A vhost is a name space of exchanges and queues, guarded by the broker's lock.
type vhost struct {
	broker    *Broker
	name      string
	exchanges map[string]*exchange
	queues    map[string]*queue
}

func newVHost(b *Broker, name string) *vhost {
	v := &vhost{broker: b, name: name, exchanges: map[string]*exchange{}, queues: map[string]*queue{}}
	for name, kind := range map[string]string{
		"": "direct", "amq.direct": "direct", "amq.fanout": "fanout", "amq.topic": "topic",
		"amq.headers": "headers", "amq.match": "headers", "amq.rabbitmq.trace": "topic",
	} {
		x := newExchange(v, name, kind)
		x.durable = true
		x.internal = name == "amq.rabbitmq.trace"
		v.exchanges[name] = x
	}
	return v
}

// queueNamed finds a queue that the connection may use: another connection's exclusive queue is locked.
func (v *vhost) queueNamed(name string, c *conn) (*queue, *exception) {
	q := v.queues[name]
	if q == nil {
		return nil, noQueue(v.name, name)
	}
	if q.owner != nil && q.owner != c {
		return nil, locked(q)
	}
	return q, nil
}

func locked(q *queue) *exception {
	return fail(resourceLocked, "cannot obtain exclusive access to locked queue '%s' in vhost '%s'. It could be originally declared on "+
		"another connection or the exclusive property value does not match that of the original declaration.", q.name, q.vhost.name)
}

func (v *vhost) exchangeNamed(name string) (*exchange, *exception) {
	if x := v.exchanges[name]; x != nil {
		return x, nil
	}
	return nil, noExchange(v.name, name)
}

// generatedName makes a name for a queue or a consumer that the client left to the broker.
func generatedName(prefix string) string {
	var random [16]byte
	rand.Read(random[:]) // never fails
	return prefix + base64.RawURLEncoding.EncodeToString(random[:])
}

// deleteQueue removes a queue: its consumers are told, its bindings go and may take auto-delete exchanges with them.
// It returns how many messages were ready.
func (v *vhost) deleteQueue(q *queue) int {
	if q.deleted {
		return 0
	}
	q.deleted = true
	delete(v.queues, q.name)
	q.lease.stop()
	n := q.purge()
	for _, c := range q.consumers.all() {
		c.cancelled()
	}
	for _, bound := range sortedBindings(q.bindings) {
		bound.source.unbind(bound)
	}
	return n
}

// deleteExchange removes an exchange with the bindings from it and to it.
func (v *vhost) deleteExchange(x *exchange) {
	if x.deleted {
		return
	}
	x.deleted = true
	delete(v.exchanges, x.name)
	for _, bound := range slices.Collect(maps.Values(x.from)) {
		x.unbind(bound)
	}
	for _, bound := range sortedBindings(x.to) {
		bound.source.unbind(bound)
	}
}
