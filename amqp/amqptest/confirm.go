package amqptest

import "github.com/leveret-mq/leveret/amqp/internal/wire"

// confirms collects the outcomes of published messages until they are sent, so that one basic.ack can speak for many.
type confirms struct {
	on       bool
	sequence uint64
	acked    []uint64
	nacked   []uint64
}

// add notes the outcome of the message with this sequence number.
func (c *confirms) add(sequence uint64, ok bool) {
	if ok {
		c.acked = append(c.acked, sequence)
	} else {
		c.nacked = append(c.nacked, sequence)
	}
}

// flushConfirms sends what has been collected: acks first, as RabbitMQ does, and with multiple set
// for all that come before the first message with the other outcome.
func (ch *channel) flushConfirms() {
	c := &ch.confirms
	if len(c.acked) == 0 && len(c.nacked) == 0 {
		return
	}
	id := ch.id
	ch.coalesce(c.acked, c.nacked, func(out []byte, tag uint64, multiple bool) []byte {
		return wire.AppendAck(out, id, tag, multiple)
	})
	ch.coalesce(c.nacked, c.acked, func(out []byte, tag uint64, multiple bool) []byte {
		return wire.AppendNack(out, id, tag, multiple, false)
	})
	c.acked, c.nacked = c.acked[:0], c.nacked[:0]
}

func (ch *channel) coalesce(tags, others []uint64, appendTo func([]byte, uint64, bool) []byte) {
	out := ch.conn
	if len(tags) == 1 {
		out.out = appendTo(out.out, tags[0], false)
		out.wake()
		return
	}
	together := 0
	for together < len(tags) && (len(others) == 0 || tags[together] < others[0]) {
		together++
	}
	if together > 0 {
		out.out = appendTo(out.out, tags[together-1], true)
	}
	for _, tag := range tags[together:] {
		out.out = appendTo(out.out, tag, false)
	}
	out.wake()
}
