package amqptest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// QueueInfo tells how a queue is doing.
type QueueInfo struct {
	VHost, Name                    string
	Durable, Exclusive, AutoDelete bool
	Arguments                      map[string]any
	Ready, Unacked                 int // messages
	Bytes                          int // the bodies of the ready ones
	Consumers                      int
}

// ExchangeInfo tells what an exchange is.
type ExchangeInfo struct {
	VHost, Name, Kind             string
	Durable, AutoDelete, Internal bool
	Arguments                     map[string]any
}

// BindingInfo tells from where to where a binding leads.
type BindingInfo struct {
	VHost, Source, Destination string
	ToExchange                 bool // Destination is an exchange, not a queue
	RoutingKey                 string
	Arguments                  map[string]any
}

// ConnectionInfo tells who is connected.
type ConnectionInfo struct {
	Name             string // the client's connection_name, or the addresses
	User, VHost      string
	ClientProperties map[string]any
	ChannelMax       uint16
	FrameMax         uint32
	Heartbeat        time.Duration
	Channels         int
	Blocked          bool
	LastSecret       string // what connection.update-secret brought last
}

// ConsumerInfo tells who consumes what.
type ConsumerInfo struct {
	VHost, Queue, Tag string
	Connection        string
	Channel           uint16
	NoAck, Exclusive  bool
	Prefetch, Unacked int
	Priority          int
	Active            bool // false for those that wait behind a single active consumer
	Arguments         map[string]any
}

// table copies arguments; nil stands for none.
func table(t wire.Table) map[string]any {
	if len(t) == 0 {
		return nil
	}
	m, _ := export(t).(map[string]any)
	return m
}

// eachVHost walks through the virtual hosts by name, with the lock held.
func (b *Broker) eachVHost(visit func(*vhost)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(b.vhosts)) {
		visit(b.vhosts[name])
	}
}

// Queues lists the queues by virtual host and name.
func (b *Broker) Queues() (list []QueueInfo) {
	b.eachVHost(func(v *vhost) {
		for _, name := range slices.Sorted(maps.Keys(v.queues)) {
			list = append(list, v.queues[name].info())
		}
	})
	return list
}

func (q *queue) info() QueueInfo {
	return QueueInfo{VHost: q.vhost.name, Name: q.name, Durable: q.durable, Exclusive: q.owner != nil, AutoDelete: q.autoDelete,
		Arguments: table(q.arguments), Ready: q.length, Unacked: q.unacked, Bytes: q.bytes, Consumers: q.consumers.n}
}

// Queue finds the queue of this name in the first virtual host that has one.
func (b *Broker) Queue(name string) (info QueueInfo, ok bool) {
	b.eachVHost(func(v *vhost) {
		if q := v.queues[name]; q != nil && !ok {
			info, ok = q.info(), true
		}
	})
	return info, ok
}

// Messages copies what is ready in a queue, in the order in which it will be delivered.
func (b *Broker) Messages(queue string) (list []Message) {
	b.eachVHost(func(v *vhost) {
		q := v.queues[queue]
		if q == nil {
			return
		}
		for i := range slices.Backward(q.levels) {
			level := &q.levels[i]
			for k := range level.n {
				m := level.at(k).msg.export()
				m.Redelivered = level.at(k).redelivered
				list = append(list, *m)
			}
		}
	})
	return list
}

// Exchanges lists the exchanges by virtual host and name, those that are always there included.
func (b *Broker) Exchanges() (list []ExchangeInfo) {
	b.eachVHost(func(v *vhost) {
		for _, name := range slices.Sorted(maps.Keys(v.exchanges)) {
			x := v.exchanges[name]
			list = append(list, ExchangeInfo{VHost: v.name, Name: x.name, Kind: x.kind, Durable: x.durable,
				AutoDelete: x.autoDelete, Internal: x.internal, Arguments: table(x.arguments)})
		}
	})
	return list
}

// Bindings lists the bindings in the order of their sources. That of every queue to the default exchange is left out.
func (b *Broker) Bindings() (list []BindingInfo) {
	b.eachVHost(func(v *vhost) {
		for _, name := range slices.Sorted(maps.Keys(v.exchanges)) {
			from := slices.SortedFunc(maps.Values(v.exchanges[name].from), func(a, b *binding) int { return cmp.Compare(a.order, b.order) })
			for _, bound := range from {
				info := BindingInfo{VHost: v.name, Source: name, RoutingKey: bound.key, Arguments: table(bound.arguments)}
				if bound.queue != nil {
					info.Destination = bound.queue.name
				} else {
					info.Destination, info.ToExchange = bound.exchange.name, true
				}
				list = append(list, info)
			}
		}
	})
	return list
}

// Connections lists the connections that are open, the oldest first.
func (b *Broker) Connections() (list []ConnectionInfo) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.sortedConns() {
		if c.stage == running && !c.closing {
			list = append(list, ConnectionInfo{Name: c.connectionName(), User: c.user.Name, VHost: c.vhost.name,
				ClientProperties: table(c.clientProperties), ChannelMax: c.channelMax, FrameMax: c.frameMax,
				Heartbeat: c.heartbeat, Channels: len(c.channels), Blocked: c.blocked, LastSecret: c.lastSecret})
		}
	}
	return list
}

func (b *Broker) sortedConns() []*conn {
	return slices.SortedFunc(maps.Keys(b.conns), func(a, b *conn) int { return cmp.Compare(a.id, b.id) })
}

// Consumers lists the consumers by queue, the highest priority first.
func (b *Broker) Consumers() (list []ConsumerInfo) {
	b.eachVHost(func(v *vhost) {
		for _, name := range slices.Sorted(maps.Keys(v.queues)) {
			q := v.queues[name]
			for _, c := range q.consumers.all() {
				list = append(list, ConsumerInfo{VHost: v.name, Queue: name, Tag: c.tag, Connection: c.channel.conn.connectionName(),
					Channel: c.channel.id, NoAck: c.noAck, Exclusive: c.exclusive, Prefetch: c.prefetch, Unacked: c.unacked,
					Priority: int(c.priority), Active: !q.settings.singleActive || q.active == c, Arguments: table(c.arguments)})
			}
		}
	})
	return list
}

// Wait returns when until returns true, and asks again whenever something has changed in the broker. It returns the cause
// of ctx when that ends first. until may call the broker's methods.
func (b *Broker) Wait(ctx context.Context, until func() bool) error {
	stop := context.AfterFunc(ctx, func() {
		b.lock()
		defer b.unlock()
	})
	defer stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting++
	defer func() { b.waiting-- }()
	for {
		seen := b.changes
		b.mu.Unlock()
		ok := until()
		b.mu.Lock()
		if ok {
			return nil
		}
		for b.changes == seen {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			b.watched.Wait()
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}
