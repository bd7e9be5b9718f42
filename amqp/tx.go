package amqp

import (
	"context"
	"errors"
	"fmt"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// txState is whether a channel is transactional, which it stays from the first
// transaction on.
type txState uint8

const (
	noTx txState = iota
	inTx
	betweenTx
)

var errOutsideTx = errors.New("the channel is transactional since its first WithTx, so it publishes and settles inside WithTx only")

// WithTx runs body in a transaction: what it publishes and settles on the
// channel takes effect together when body returns nil (tx.commit), and not at
// all when it returns an error or panics (tx.rollback). Transactions on one
// channel take turns, so that WithTx inside of body waits until ctx ends.
//
// The first one makes the channel transactional for good (tx.select): outside of
// WithTx it then publishes and settles no more. A channel has either
// transactions or confirms. When the commit fails, its outcome may be unknown.
//
// What a consumer of the channel leaves over when it ends is given back in a
// transaction of its own; inside of one it is part of that, and if that is rolled
// back stays with the channel until its end. So does what comes for a Get or a
// WithConsumer that was given up.
// https://www.rabbitmq.com/docs/semantics#tx
func (ch *Channel) WithTx(ctx context.Context, body func() error) (err error) {
	if err := ch.beginTx(ctx); err != nil {
		return fmt.Errorf("amqp: begin a transaction: %w", err)
	}
	committed := false
	defer func() {
		if !committed {
			err = joinCause(err, ch.rollback())
		}
		<-ch.txTurn
	}()
	if err := body(); err != nil {
		return err
	}
	if err := ch.commit(ctx); err != nil {
		return fmt.Errorf("amqp: commit: %w", err)
	}
	committed = true
	return nil
}

// beginTx waits for the channel's turn, and begins.
func (ch *Channel) beginTx(ctx context.Context) error {
	ch.mu.Lock()
	if ch.txTurn == nil {
		ch.txTurn = make(chan struct{}, 1)
	}
	ch.mu.Unlock()
	alive := ch.aliveContext()
	select {
	case ch.txTurn <- struct{}{}:
	case <-alive.Done():
		return context.Cause(alive)
	case <-ctx.Done():
		return fmt.Errorf("another transaction was under way on the channel, and one inside of it would wait for ever: %w", context.Cause(ctx))
	}
	err := ch.selectTx(ctx)
	if err != nil {
		<-ch.txTurn
	}
	return err
}

func (ch *Channel) selectTx(ctx context.Context) error {
	buf, err := ch.conn.begin()
	if err != nil {
		return err
	}
	if ch.shut {
		ch.conn.out.Abort()
		return ch.end()
	}
	buf = ch.flushAcks(buf) // what was settled before does not belong to it
	first := ch.tx == noTx
	if ch.confirming {
		err = errors.New("the channel has confirms, and can't have transactions as well")
	} else if !first {
		ch.tx = inTx
		ch.ledger.begin()
	}
	ch.conn.out.Commit(buf)
	if err != nil || !first {
		return err
	}
	m := &wire.TxSelect{}
	p := newCall(m, wire.TxSelectOkID)
	begin := func() { ch.tx = inTx; ch.ledger.begin() }
	if err := ch.start(ctx, outgoing{method: m, call: p, before: ch.ledger.pause, sent: begin}); err != nil {
		return err
	}
	if err := ch.wait(ctx, p); err != nil {
		ch.pauseTx()
		ch.ledger.end(false)
		return err
	}
	return nil
}

// commit ends the transaction. An answer that comes when ctx has ended still says
// that it was committed, before that of the rollback which follows; and nothing of the
// next transaction, if the broker was silent for so long that there is one.
func (ch *Channel) commit(ctx context.Context) error {
	ch.pauseTx()
	m := &wire.TxCommit{}
	p := newCall(m, wire.TxCommitOkID)
	number := ch.ledger.transaction()
	p.late = func(wire.Method, *delivery) { ch.ledger.committedLate(number) }
	err := ch.start(ctx, outgoing{method: m, call: p})
	if err == nil {
		err = ch.wait(ctx, p)
	}
	if err == nil {
		ch.ledger.end(true)
	}
	return err
}

// pauseTx has nothing published or settled outside of a transaction.
func (ch *Channel) pauseTx() {
	if buf, err := ch.conn.out.Begin(); err == nil {
		ch.tx = betweenTx
		ch.conn.out.Commit(buf)
	}
	ch.ledger.pause()
}

// rollback is not stopped by the end of ctx, which may be why there is one.
func (ch *Channel) rollback() error {
	ch.pauseTx()
	return ch.conn.polite("tx.rollback-ok", func(ctx context.Context) error {
		if ch.farewell(ctx, &wire.TxRollback{}, wire.TxRollbackOkID, false) {
			ch.ledger.end(false)
		}
		return nil // the end of the channel is told by its scope
	})
}
