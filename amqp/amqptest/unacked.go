package amqptest

import (
	"cmp"
	"slices"
	"sort"
	"time"
)

// An unacked is a delivery that waits for its settlement.
type unacked struct {
	tag      uint64
	entry    entry
	queue    *queue
	consumer *consumer     // nil after basic.get
	since    time.Duration // on the broker's clock, when somebody times out
	settled  bool          // taken out, but older ones are still there
	timedOut bool          // the queue has it back, and the client may settle it all the same
}

// hold keeps a delivery until it is settled.
func (ch *channel) hold(u unacked) {
	u.queue.unacked++
	ch.watch(&u)
	ch.unacked = append(ch.unacked, u)
	ch.held++
}

// take finds and removes the deliveries that a settlement names, oldest first. Tag 0 with multiple means all of them.
// The result is valid until the next call.
func (ch *channel) take(tag uint64, multiple bool) ([]unacked, *exception) {
	taken := ch.taken[:0]
	if multiple && tag == 0 {
		tag = ch.deliveryTag
		if ch.held == 0 {
			return nil, nil
		}
	} else if !ch.holds(tag) {
		return nil, fail(preconditionFailed, "unknown delivery tag %d", tag)
	}
	if !multiple {
		taken = append(taken, *ch.settle(ch.find(tag)))
	} else {
		for i := ch.oldest; i < len(ch.unacked) && ch.unacked[i].tag <= tag; i++ {
			if !ch.unacked[i].settled {
				taken = append(taken, *ch.settle(i))
			}
		}
	}
	ch.taken = taken
	ch.compact()
	return taken, nil
}

func (ch *channel) find(tag uint64) int {
	if ch.oldest < len(ch.unacked) && ch.unacked[ch.oldest].tag == tag {
		return ch.oldest
	}
	rest := ch.unacked[ch.oldest:]
	return ch.oldest + sort.Search(len(rest), func(i int) bool { return rest[i].tag >= tag })
}

func (ch *channel) holds(tag uint64) bool {
	i := ch.find(tag)
	return i < len(ch.unacked) && ch.unacked[i].tag == tag && !ch.unacked[i].settled
}

func (ch *channel) settle(i int) *unacked {
	ch.unacked[i].settled = true
	ch.held--
	return &ch.unacked[i]
}

// compact forgets what is settled: at the front always, in the middle when it outweighs the rest.
func (ch *channel) compact() {
	for ch.oldest < len(ch.unacked) && ch.unacked[ch.oldest].settled {
		ch.unacked[ch.oldest] = unacked{settled: true}
		ch.oldest++
	}
	if ch.held == 0 {
		ch.unacked, ch.oldest = ch.unacked[:0], 0
		return
	}
	if len(ch.unacked) > 64 && len(ch.unacked) > 2*ch.held {
		ch.unacked = slices.DeleteFunc(ch.unacked, func(u unacked) bool { return u.settled })
		ch.oldest = 0
	}
}

// restore puts deliveries back that a rolled back transaction had settled.
func (ch *channel) restore(back []unacked) {
	for _, u := range back {
		u.settled = false
		ch.unacked = append(ch.unacked, u)
		ch.held++
	}
	ch.unacked = slices.DeleteFunc(ch.unacked, func(u unacked) bool { return u.settled })
	ch.oldest = 0
	slices.SortFunc(ch.unacked, func(a, b unacked) int { return cmp.Compare(a.tag, b.tag) })
}
