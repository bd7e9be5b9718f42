package amqp

import (
	"io"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// states is how many channels everyState opens.
const states = 7

// everyState is the reader of a connection whose channels are in all states that
// a broker can speak to: 1 and 2 have consumers "c", the second without
// acknowledgements, 3 has messages to be confirmed, 4 has one call of every kind
// under way, 5 is being closed, 6 has a consumer that the broker is asked to
// cancel, and 7 one that bytes bound, and a basic.recover.
func everyState(src io.Reader) (*Conn, []*Consumer) {
	conn, two := readerOf(src)
	conn.waiting.Store(1) // so that nothing holds the reader back
	consumers := two[:]
	open := func() *Channel {
		ch := new(Channel)
		ch.conn = conn
		ch.line.ledger = &ch.ledger
		ch.content.ch = ch
		if err := conn.register(ch); err != nil {
			panic(err)
		}
		return ch
	}
	enlist := func(ch *Channel, c *Consumer) {
		if _, err := ch.enlist(c, c.limit); err != nil {
			panic(err)
		}
		consumers = append(consumers, c)
	}
	confirming := open()
	confirming.confirming = true
	confirming.returns = new(returnStream)
	for range 20 {
		confirming.confirms.add(&unconfirmed{route: &route{"x", "k"}, waiter: conn.waiters.get()})
	}
	calling := open()
	for _, c := range callsOfAllKinds() {
		calling.enqueue([]outgoing{{call: c}})
	}
	closing := open()
	closing.shut = true
	closing.closing.Store(true)
	closing.enqueue([]outgoing{{call: newCall(&wire.ChannelClose{}, wire.ChannelCloseOkID)}})

	leaving := open()
	cancelled := &Consumer{ch: leaving, tag: "c", limit: 10}
	enlist(leaving, cancelled)
	cancelled.postCancel()

	recovering := open()
	enlist(recovering, &Consumer{ch: recovering, tag: "c", limit: 0})
	recovering.enqueue([]outgoing{{call: newCall(&wire.BasicRecover{}, wire.BasicRecoverOkID)}})
	return conn, consumers
}

func callsOfAllKinds() []*pendingCall {
	late := func(wire.Method, *delivery) {}
	calls := []*pendingCall{
		newCall(&wire.QueueDeclare{}, wire.QueueDeclareOkID), newCall(&wire.QueueBind{}, wire.QueueBindOkID),
		newCall(&wire.QueueUnbind{}, wire.QueueUnbindOkID), newCall(&wire.QueuePurge{}, wire.QueuePurgeOkID),
		newCall(&wire.QueueDelete{}, wire.QueueDeleteOkID), newCall(&wire.ExchangeDeclare{}, wire.ExchangeDeclareOkID),
		newCall(&wire.ExchangeDelete{}, wire.ExchangeDeleteOkID), newCall(&wire.ExchangeBind{}, wire.ExchangeBindOkID),
		newCall(&wire.ExchangeUnbind{}, wire.ExchangeUnbindOkID), newCall(&wire.BasicQos{}, wire.BasicQosOkID),
		newCall(&wire.BasicConsume{}, wire.BasicConsumeOkID), newCall(&wire.BasicCancel{}, wire.BasicCancelOkID),
		newCall(&wire.BasicGet{}, wire.BasicGetOkID, wire.BasicGetEmptyID), newCall(&wire.ConfirmSelect{}, wire.ConfirmSelectOkID),
		newCall(&wire.TxSelect{}, wire.TxSelectOkID), newCall(&wire.TxCommit{}, wire.TxCommitOkID),
		newCall(&wire.TxRollback{}, wire.TxRollbackOkID), newCall(&wire.ChannelFlow{}, wire.ChannelFlowOkID),
	}
	for i, c := range calls {
		c.abandoned, c.late = i%2 == 0, late
	}
	return calls
}
