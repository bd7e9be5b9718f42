package amqptest

import (
	"cmp"
	"slices"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// A consumer takes messages from a queue to a channel. It is guarded by the broker's lock.
type consumer struct {
	channel   *channel
	queue     *queue
	tag       string
	noAck     bool
	exclusive bool
	priority  int64
	prefetch  int // its own limit of unsettled messages; zero: none
	unacked   int
	arguments wire.Table
	timeout   time.Duration // how long a delivery may stay unsettled; negative: for ever
}

// ready tells whether the consumer can take a message now.
func (c *consumer) ready() bool {
	ch := c.channel
	switch {
	case ch.conn.congested():
		return false
	case ch.limit > 0 && ch.limited >= ch.limit:
		return false
	}
	return c.noAck || c.prefetch == 0 || c.unacked < c.prefetch
}

// deliver sends an entry that has left its queue.
func (c *consumer) deliver(e entry) {
	ch := c.channel
	ch.deliveryTag++
	ch.conn.deliver(c, ch.deliveryTag, &e)
	if c.noAck {
		return
	}
	c.unacked++
	ch.limited++
	ch.hold(unacked{tag: ch.deliveryTag, entry: e, queue: c.queue, consumer: c})
}

// cancelled ends the consumer from the broker's side, and tells a client that wants to know.
func (c *consumer) cancelled() {
	ch := c.channel
	c.remove()
	if ch.conn.capable("consumer_cancel_notify") {
		ch.send(&wire.BasicCancel{ConsumerTag: c.tag, NoWait: true})
	}
}

// remove takes the consumer out of its queue and channel. What it has not settled stays with the channel.
func (c *consumer) remove() {
	q := c.queue
	delete(c.channel.consumers, c.tag)
	q.consumers.remove(c)
	if q.exclusive == c {
		q.exclusive = nil
	}
	if q.active == c {
		q.active = q.consumers.first()
		q.serve()
	}
	q.used()
}

// leave ends the consumer from the client's side; an auto-delete queue goes with its last one.
func (c *consumer) leave() {
	c.remove()
	if q := c.queue; q.autoDelete && q.consumers.n == 0 {
		q.vhost.deleteQueue(q)
	}
}

// nextConsumer chooses who gets the next message: the highest priority first, in turn within a priority.
func (q *queue) nextConsumer() *consumer {
	if q.settings.singleActive {
		if q.active != nil && q.active.ready() {
			return q.active
		}
		return nil
	}
	return q.consumers.next()
}

// consumerGroups are a queue's consumers by priority, the highest first.
type consumerGroups struct {
	groups []consumerGroup
	n      int
}

type consumerGroup struct {
	priority int64
	list     []*consumer
	turn     int // whose turn it is
}

func (g *consumerGroups) find(priority int64) (int, bool) {
	return slices.BinarySearchFunc(g.groups, priority, func(group consumerGroup, priority int64) int {
		return cmp.Compare(priority, group.priority)
	})
}

func (g *consumerGroups) add(c *consumer) {
	i, ok := g.find(c.priority)
	if !ok {
		g.groups = slices.Insert(g.groups, i, consumerGroup{priority: c.priority})
	}
	g.groups[i].list = append(g.groups[i].list, c)
	g.n++
}

func (g *consumerGroups) remove(c *consumer) {
	i, ok := g.find(c.priority)
	if !ok {
		return
	}
	group := &g.groups[i]
	at := slices.Index(group.list, c)
	if at < 0 {
		return
	}
	group.list = slices.Delete(group.list, at, at+1)
	if at < group.turn {
		group.turn--
	}
	if len(group.list) == 0 {
		g.groups = slices.Delete(g.groups, i, i+1)
	}
	g.n--
}

func (g *consumerGroups) next() *consumer {
	for i := range g.groups {
		group := &g.groups[i]
		for k := range group.list {
			at := (group.turn + k) % len(group.list)
			if c := group.list[at]; c.ready() {
				group.turn = at + 1
				return c
			}
		}
	}
	return nil
}

func (g *consumerGroups) first() *consumer {
	if g.n == 0 {
		return nil
	}
	return g.groups[0].list[0]
}

func (g *consumerGroups) all() []*consumer {
	var all []*consumer
	for _, group := range g.groups {
		all = append(all, group.list...)
	}
	return all
}
