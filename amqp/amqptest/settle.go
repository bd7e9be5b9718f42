package amqptest

import "slices"

// A verdict is how a client settles deliveries.
type verdict uint8

const (
	acked    verdict = iota
	rejected         // not requeued: dead-lettered or dropped
	requeued
)

// settlement settles deliveries by tag, or keeps that for the commit of a transaction. A requeue counts as
// a failed attempt when failed is set.
func (ch *channel) settlement(tag uint64, multiple bool, how verdict, failed bool) *exception {
	taken, refusal := ch.take(tag, multiple)
	if refusal != nil {
		return refusal
	}
	if ch.tx != nil {
		for _, u := range taken {
			ch.tx.settled = append(ch.tx.settled, txSettlement{u, how, failed})
		}
		return nil
	}
	ch.apply(taken, how, failed)
	return nil
}

// apply carries out a settlement, and serves whoever has room again.
func (ch *channel) apply(taken []unacked, how verdict, failed bool) {
	if len(taken) == 0 {
		return
	}
	for i := range taken {
		taken[i].release()
	}
	switch how {
	case rejected:
		for i := range taken {
			if u := &taken[i]; !u.queue.deleted {
				u.queue.deadLetter(u.entry, "rejected")
			}
		}
	case requeued:
		requeueAll(taken, failed)
	}
	ch.serveQueues(taken)
}

// release gives back the room that a delivery took.
func (u *unacked) release() {
	u.queue.unacked--
	if c := u.consumer; c != nil {
		c.unacked--
		c.channel.limited--
	}
}

// serveQueues serves the queues whose consumers on this channel may have room again.
func (ch *channel) serveQueues(taken []unacked) {
	if ch.limit > 0 {
		// Room under a channel's common limit is room for all of its consumers.
		for _, c := range ch.sortedConsumers() {
			c.queue.serve()
		}
		return
	}
	var last *queue
	for i := range taken {
		if q := taken[i].queue; q != last {
			last = q
			q.serve()
		}
	}
}

// requeueAll gives deliveries back to their queues, each queue getting all of its own at once.
func requeueAll(taken []unacked, failed bool) {
	for len(taken) > 0 {
		q := taken[0].queue
		var mine []entry
		rest := taken[:0:0]
		for _, u := range taken {
			if u.queue == q {
				mine = append(mine, u.entry)
			} else {
				rest = append(rest, u)
			}
		}
		q.requeue(mine, failed)
		taken = rest
	}
}

// recover requeues everything that the channel holds.
func (ch *channel) recover(failed bool) {
	taken, _ := ch.take(0, true)
	ch.apply(slices.Clone(taken), requeued, failed)
}
