package amqptest

import "github.com/leveret-mq/leveret/amqp/internal/wire"

// held tells whether the broker reads nothing from this client for now: because it is stalled, because an alarm
// blocks publishing connections, or because the client does not take what is sent to it.
func (c *conn) held() bool {
	b := c.broker
	return b.stalled || b.alarmed && c.blocked && !c.closing || len(c.out)+c.inflight > outOverfull
}

// hold waits while the connection is held.
func (c *conn) hold() {
	for c.held() && !c.dead {
		c.broker.gate.Wait()
	}
}

// block stops reading from a connection that publishes under an alarm, and tells it once.
func (c *conn) block() {
	if c.blocked {
		return
	}
	c.blocked = true
	if c.capable("connection.blocked") {
		c.send(0, &wire.ConnectionBlocked{Reason: clip(c.broker.alarm)})
	}
}

// Block raises an alarm, as RabbitMQ does when memory or disk run out: a connection that publishes from now on is told with
// connection.blocked when the head of its message has come in, and nothing more is read from it, the body of that message
// included. Connections that don't publish notice nothing. Another Block changes the reason alone.
func (b *Broker) Block(reason string) {
	b.lock()
	defer b.unlock()
	b.alarm, b.alarmed = reason, true
}

// Unblock ends the alarm of Block.
func (b *Broker) Unblock() {
	b.lock()
	defer b.unlock()
	b.alarmed = false
	for c := range b.conns {
		if c.blocked && !c.closing && c.capable("connection.blocked") {
			c.send(0, &wire.ConnectionUnblocked{})
		}
		c.blocked = false
	}
	b.gate.Broadcast()
}

// Stall makes the broker read nothing and answer nothing, like a process that was stopped. New connections are
// accepted and get no answer.
func (b *Broker) Stall() {
	b.lock()
	defer b.unlock()
	b.stalled = true
}

// Resume ends Stall.
func (b *Broker) Resume() {
	b.lock()
	defer b.unlock()
	b.stalled = false
	for c := range b.conns {
		c.wakeup.Broadcast()
	}
	b.gate.Broadcast()
}
