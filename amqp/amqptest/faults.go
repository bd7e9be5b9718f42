package amqptest

// CloseConnections closes every connection with this reply code and text, as RabbitMQ does when an operator asks for it
// (320, "CONNECTION_FORCED - reason").
func (b *Broker) CloseConnections(code uint16, text string) {
	b.lock()
	defer b.unlock()
	for c := range b.conns {
		if c.stage == running {
			c.refuse(&exception{code: code, text: text})
		}
	}
}

// CloseChannels closes every channel with this reply code and text. The connections live on.
func (b *Broker) CloseChannels(code uint16, text string) {
	b.lock()
	defer b.unlock()
	for c := range b.conns {
		for _, ch := range c.sortedChannels() {
			ch.close(&exception{code: code, text: text})
		}
	}
}

// Sever drops every connection without a word. TCP clients see a reset.
func (b *Broker) Sever() {
	b.lock()
	defer b.unlock()
	for c := range b.conns {
		c.release()
		c.drop()
	}
}

// NackNext makes the broker answer the next n messages that are published on channels in confirm mode
// with basic.nack, and forget them.
func (b *Broker) NackNext(n int) {
	b.lock()
	defer b.unlock()
	b.nackNext = n
}

// CancelConsumers ends every consumer of the queues of this name from the broker's side, as RabbitMQ does when a queue moves
// to another node. The queue stays. It returns how many consumers there were.
func (b *Broker) CancelConsumers(queue string) int {
	b.lock()
	defer b.unlock()
	n := 0
	for _, v := range b.vhosts {
		if q := v.queues[queue]; q != nil {
			for _, c := range q.consumers.all() {
				c.cancelled()
				n++
			}
		}
	}
	return n
}
