package amqptest

import (
	"slices"
)

// route finds the queues that a message reaches, each once. The result is valid until the next routing.
func (b *Broker) route(x *exchange, m *message) []*queue {
	b.routing++
	b.routed = b.routed[:0]
	if x.name == "" {
		b.routeDefault(x.vhost, m)
		return b.routed
	}
	b.work = append(b.work[:0], x)
	x.mark = b.routing
	for len(b.work) > 0 {
		x = b.work[len(b.work)-1]
		b.work = b.work[:len(b.work)-1]
		matched := false
		found := func(bound *binding) {
			matched = true
			switch {
			case bound.queue == nil && bound.exchange.mark != b.routing:
				bound.exchange.mark = b.routing
				b.work = append(b.work, bound.exchange)
			case bound.queue != nil:
				b.reach(bound.queue)
			}
		}
		if x.name == "" {
			before := len(b.routed)
			b.routeDefault(x.vhost, m)
			matched = len(b.routed) > before
		} else {
			x.router.match(m, m.key, found)
			for _, key := range m.keys {
				x.router.match(m, key, found)
			}
		}
		if !matched && x.alternate != nil {
			if other := x.vhost.exchanges[*x.alternate]; other != nil && other.mark != b.routing {
				other.mark = b.routing
				b.work = append(b.work, other)
			}
		}
	}
	return b.routed
}

// reach adds a queue to the routing under way, once.
func (b *Broker) reach(q *queue) {
	if q.mark != b.routing {
		q.mark = b.routing
		b.routed = append(b.routed, q)
	}
}

// routeDefault routes by the name of the queue: every queue is bound to the default exchange.
func (b *Broker) routeDefault(v *vhost, m *message) {
	if q := v.queues[m.key]; q != nil {
		b.reach(q)
	}
	for _, key := range m.keys {
		if q := v.queues[key]; q != nil {
			b.reach(q)
		}
	}
}

// senderSelected reads the CC and BCC headers: further routing keys. BCC does not travel on.
func senderSelected(m *message) (*message, *exception) {
	headers := m.properties().Headers
	var keys []string
	hidden := 0
	for _, name := range []string{"CC", "BCC"} {
		value, ok := headers[name]
		if !ok {
			continue
		}
		list, ok := value.([]any)
		if !ok {
			return nil, fail(preconditionFailed, "invalid message: {unacceptable_type_in_header,%q,%s}", name, typeName(value))
		}
		for _, item := range list {
			if key, ok := item.(string); ok {
				keys = append(keys, key)
				if name == "BCC" {
					hidden++
				}
			}
		}
	}
	if _, hidden := headers["BCC"]; hidden {
		props := *m.properties()
		props.Headers = cloneWithout(headers, "BCC")
		changed, err := m.with(&props)
		if err != nil {
			return nil, fail(preconditionFailed, "invalid message: %v", err)
		}
		m = changed
	}
	m.keys, m.hidden = slices.Clip(keys), hidden
	return m, nil
}
