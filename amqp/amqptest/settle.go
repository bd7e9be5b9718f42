package amqptest

import (
	"cmp"
	"slices"
	"strings"
)

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

// apply carries out a settlement for one consumer after the other, so that each takes what it has room for before
// the next one is asked: this is the order in which RabbitMQ's channels tell its queues.
func (ch *channel) apply(taken []unacked, how verdict, failed bool) {
	taken = slices.DeleteFunc(taken, func(u unacked) bool { return u.timedOut })
	if slices.ContainsFunc(taken, func(u unacked) bool { return u.consumer != taken[0].consumer || u.queue != taken[0].queue }) {
		slices.SortStableFunc(taken, func(a, b unacked) int {
			return cmp.Or(strings.Compare(a.queue.name, b.queue.name), strings.Compare(a.consumerTag(), b.consumerTag()))
		})
	}
	for len(taken) > 0 {
		n := 1
		for n < len(taken) && taken[n].consumer == taken[0].consumer && taken[n].queue == taken[0].queue {
			n++
		}
		ch.applyTo(taken[0].queue, taken[:n], how, failed)
		taken = taken[n:]
	}
}

func (u *unacked) consumerTag() string {
	if u.consumer == nil {
		return ""
	}
	return u.consumer.tag
}

// applyTo settles deliveries from one queue, and serves whoever has room again.
func (ch *channel) applyTo(q *queue, taken []unacked, how verdict, failed bool) {
	for i := range taken {
		taken[i].release()
	}
	switch {
	case q.deleted:
	case how == rejected:
		for i := range taken {
			q.deadLetter(taken[i].entry, "rejected")
		}
	case how == requeued:
		entries := make([]entry, len(taken))
		for i := range taken {
			entries[i] = taken[i].entry
		}
		q.requeue(entries, failed)
	}
	if ch.limit == 0 {
		q.serve()
		return
	}
	// Room under a channel's common limit is room for all of its consumers.
	for _, c := range ch.sortedConsumers() {
		c.queue.serve()
	}
}

// release gives back the room that a delivery took.
func (u *unacked) release() {
	u.queue.unacked--
	if c := u.consumer; c != nil {
		c.unacked--
		c.channel.limited--
	}
}

// recover requeues everything that the channel holds.
func (ch *channel) recover(failed bool) {
	taken, _ := ch.take(0, true)
	ch.apply(taken, requeued, failed)
}

// abandon requeues everything that the channel holds when it ends. Each queue gets its own at once.
func (ch *channel) abandon() {
	taken, _ := ch.take(0, true)
	slices.SortStableFunc(taken, func(a, b unacked) int { return strings.Compare(a.queue.name, b.queue.name) })
	for len(taken) > 0 {
		q, n := taken[0].queue, 0
		for n < len(taken) && taken[n].queue == q {
			n++
		}
		ch.applyTo(q, taken[:n], requeued, true)
		taken = taken[n:]
	}
}
