package amqptest

// A transaction keeps what a channel published and settled until tx.commit.
type transaction struct {
	published []txPublish
	settled   []txSettlement
}

type txPublish struct {
	message   *message
	queues    []*queue
	mandatory bool
}

type txSettlement struct {
	unacked unacked
	how     verdict
	failed  bool
}

// commit carries out the transaction: the messages first, then the settlements.
func (ch *channel) commit() {
	tx := ch.tx
	ch.tx = &transaction{}
	for _, p := range tx.published {
		ch.distribute(p.message, p.queues, p.mandatory)
	}
	for _, s := range tx.settled {
		ch.apply([]unacked{s.unacked}, s.how, s.failed)
	}
}

// rollback forgets the messages and lets the client settle the deliveries again. They are not redelivered.
func (ch *channel) rollback() {
	back := make([]unacked, 0, len(ch.tx.settled))
	for _, s := range ch.tx.settled {
		back = append(back, s.unacked)
	}
	ch.tx = &transaction{}
	ch.restore(back)
}
