package amqp

import (
	"context"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
	xiter "github.com/leveret-mq/leveret/iter"
	"github.com/leveret-mq/leveret/scope"
)

// Consume says what to consume (basic.consume).
type Consume struct {
	Queue string
	Tag   string // unique on its channel; "": made by the client
	// NoLocal asks for no messages that came in over this connection; RabbitMQ
	// ignores it.
	NoLocal bool
	// NoAck has the broker count a message as settled once it is sent. What
	// is lost on the way, or still buffered when the scope ends, is lost.
	NoAck     bool
	Exclusive bool // no other consumer may have the queue
	NoWait    bool // do not wait for consume-ok: a refusal ends the channel
	// Prefetch is how many unsettled messages the broker sends at most, which
	// also bounds the client's buffer: the per-consumer basic.qos that goes
	// with the consume. 0: 256, unless Qos was called on the channel;
	// negative: unlimited. With NoAck, or unlimited, bytes bound the buffer
	// (4 MiB), and then TCP holds the broker back.
	Prefetch  int
	Arguments Table
}

const (
	defaultPrefetch = 256
	// byteBound is where a consumer without prefetch makes the reader stop.
	byteBound = 4 << 20
)

// Consumer is a subscription to a queue, and the scope of what handles its
// messages. It is valid inside the callback that WithConsumer gives it to.
type Consumer struct {
	*scope.Scope
	ch     *Channel
	tag    string
	noAck  bool
	limit  int                          // unsettled messages at most; 0: bytes bound the buffer
	handle atomic.Pointer[scope.Handle] // nil until its scope is open
	stream xiter.Stream[*delivery]

	buffered  atomic.Int64 // bytes that no range has taken over
	cancelled atomic.Bool  // by the broker
	told      atomic.Bool  // Err has said so
	unwanted  atomic.Bool  // nobody will range any more: what comes is given back, or dropped

	// What follows belongs to the reader.
	batch []*delivery // of the read under way
}

// WithConsumer starts a consumer (basic.consume), gives it to body, and cancels
// it when body and everything in its scope has ended. Messages that nobody took
// by then are given back (basic.nack with requeue).
//
// It returns what body or a task failed with, the cause of ctx's end if that
// came before body returned, and ErrConsumerCancelled when the broker ended the
// consumer and neither body nor a task has learnt that from Err. ctx also bounds
// the start.
// https://www.rabbitmq.com/docs/consumers
func (ch *Channel) WithConsumer(ctx context.Context, opts Consume, body func(*Consumer) error) error {
	c, err := ch.consume(ctx, opts)
	if err != nil {
		return fmt.Errorf("amqp: consume from queue %q: %w", opts.Queue, err)
	}
	return c.live(ctx, body)
}

// Tag is the consumer's tag.
func (c *Consumer) Tag() string { return c.tag }

// Messages ranges over what is delivered, and waits for it. It ends with the
// consumer's scope, or when the broker ends the consumer; Err says why. After a
// break, ranging again continues with the next message. Several ranges share the
// messages.
func (c *Consumer) Messages() iter.Seq2[[]byte, *Envelope] {
	return func(yield func([]byte, *Envelope) bool) {
		for d := range c.stream.All() {
			if d.DeliveryTag <= c.ch.voided.Load() {
				continue // basic.recover took it back
			}
			if !yield(d.body, &d.Envelope) {
				return
			}
			c.stopIfCancelled()
		}
		c.drained()
	}
}

// stopIfCancelled ends the ranges at once when the scope has been cancelled,
// rather than when the news of that has come around.
func (c *Consumer) stopIfCancelled() {
	if c.Context().Err() != nil {
		c.stream.Stop(context.Cause(c.Context()))
	}
}

// Err is why Messages ended: nil while the consumer lives, ErrConsumerCancelled
// when the broker ended it, the cause of the channel's or connection's end, or
// that of the scope's.
func (c *Consumer) Err() error {
	err := c.stream.Err()
	if err != nil && c.cancelled.Load() {
		c.told.Store(true)
	}
	return err
}

// drained interrupts a scope whose consumer the broker has ended, once all that
// was delivered before has been taken: nothing will come for those who wait.
func (c *Consumer) drained() {
	if h := c.handle.Load(); h != nil && c.cancelled.Load() {
		h.Interrupt(c.stream.Err())
	}
}

func (ch *Channel) consume(ctx context.Context, opts Consume) (*Consumer, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	c := &Consumer{ch: ch, tag: opts.Tag, noAck: opts.NoAck}
	if c.tag == "" {
		c.tag = "leveret-" + strconv.FormatUint(ch.conn.tags.Add(1), 10)
	}
	c.stream.OnSwap(c.swapped)
	qos, err := ch.enlist(c, opts.Prefetch)
	if err != nil {
		return nil, err
	}
	m := &wire.BasicConsume{
		Queue: opts.Queue, ConsumerTag: c.tag, NoLocal: opts.NoLocal, NoAck: opts.NoAck,
		Exclusive: opts.Exclusive, NoWait: opts.NoWait, Arguments: opts.Arguments,
	}
	var methods []outgoing
	var calls []*pendingCall
	if qos != nil {
		calls = append(calls, newCall(qos, wire.BasicQosOkID))
		methods = append(methods, outgoing{method: qos, call: calls[0]})
	}
	if opts.NoWait {
		methods = append(methods, outgoing{method: m})
		if err := ch.start(ctx, methods...); err != nil {
			ch.discharge(c)
			return nil, err
		}
		return c, nil
	}
	p := newCall(m, wire.BasicConsumeOkID)
	p.late = func(wire.Method, *delivery) { c.postCancel() }
	if err := ch.start(ctx, append(methods, outgoing{method: m, call: p})...); err != nil {
		ch.discharge(c)
		return nil, err
	}
	if err := ch.wait(ctx, append(calls, p)...); err != nil {
		c.unwanted.Store(true)
		return nil, err
	}
	return c, nil
}

func (o *Consume) check() error {
	if o.Prefetch > math.MaxUint16 {
		return fmt.Errorf("prefetch %d exceeds %d; negative means unlimited", o.Prefetch, math.MaxUint16)
	}
	if err := checkName("queue", o.Queue); err != nil {
		return err
	}
	return checkName("consumer tag", o.Tag)
}

// enlist enters a consumer that is about to be started, and returns the basic.qos
// that has to go before it.
func (ch *Channel) enlist(c *Consumer, prefetch int) (*wire.BasicQos, error) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if slices.ContainsFunc(ch.consumers, func(other *Consumer) bool { return other.tag == c.tag }) {
		return nil, fmt.Errorf("the channel has a consumer with the tag %q already", c.tag)
	}
	ch.consumers = append(ch.consumers, c)
	ch.roster.Add(1)
	if c.noAck {
		return nil, nil
	}
	switch {
	case prefetch < 0:
		prefetch = 0
	case prefetch == 0 && ch.qos == nil:
		prefetch = defaultPrefetch
	case prefetch == 0 && ch.qos.Global:
		c.limit = math.MaxUint16 // the channel's prefetch bounds it, which may change
		return nil, nil
	case prefetch == 0:
		prefetch = ch.qos.PrefetchCount
	}
	c.limit = prefetch
	return &wire.BasicQos{PrefetchCount: uint16(prefetch)}, nil
}

// discharge takes a consumer off the channel.
func (ch *Channel) discharge(c *Consumer) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.consumers = slices.DeleteFunc(ch.consumers, func(other *Consumer) bool { return other == c })
	ch.roster.Add(1)
}

// live is the life of a consumer that has been started.
func (c *Consumer) live(ctx context.Context, body func(*Consumer) error) (err error) {
	handle := scope.Open(ctx, c.ch.Scope)
	c.Scope = handle.Scope()
	c.handle.Store(handle)
	inner := c.Context()
	stop := context.AfterFunc(inner, func() { c.stream.Stop(context.Cause(inner)) })
	if c.cancelled.Load() && c.stream.Len() == 0 {
		c.drained()
	}
	echoed := false
	defer func() {
		stop()
		closing := c.close()
		if c.cancelled.Load() && (!c.told.Load() || echoed) {
			err = joinCause(err, c.stream.Err())
		}
		err = joinCause(err, closing)
	}()
	err, echoed = handle.Run(func() error { return body(c) })
	return err
}

// close cancels the consumer at the broker and gives back what nobody took.
func (c *Consumer) close() (err error) {
	ch := c.ch
	c.stream.Stop(errConsumerScopeEnded)
	c.unwanted.Store(true)
	if !c.cancelled.Load() {
		err = ch.conn.polite("basic.cancel-ok", func(ctx context.Context) error {
			// A failure is the channel's, and told by it.
			_ = ch.roundTrip(ctx, &wire.BasicCancel{ConsumerTag: c.tag}, wire.BasicCancelOkID)
			return nil
		})
	}
	ch.discharge(c)
	if !c.noAck {
		for _, d := range c.stream.Drain() {
			ch.giveBack(d)
		}
	}
	return err
}

var errConsumerScopeEnded = fmt.Errorf("the consumer's scope has ended")

// giveBack returns a delivery that nobody took to its queue. One that has been
// settled, or whose channel has ended, needs that no more.
func (ch *Channel) giveBack(d *delivery) { _ = ch.Nack(d.DeliveryTag, false, true) }

// onDeliver starts a delivery.
func (ch *Channel) onDeliver(payload []byte) error {
	var in wire.Deliver
	if err := wire.ParseDeliver(payload, &in); err != nil {
		return protocolError("channel %d: %v", ch.id, err)
	}
	c := ch.consumer
	if seen := ch.roster.Load(); c == nil || seen != ch.seen || string(in.ConsumerTag) != c.tag {
		if c = ch.findConsumer(string(in.ConsumerTag)); c == nil {
			return protocolError("the broker sent a delivery on channel %d for consumer %q, which does not exist", ch.id, in.ConsumerTag)
		}
		ch.consumer, ch.seen = c, seen
	}
	if err := ch.enterTag(in.DeliveryTag, c.noAck); err != nil {
		return err
	}
	m := &ch.content
	d := ch.conn.deliveries.Next()
	d.channel = ch
	d.ConsumerTag = c.tag
	d.DeliveryTag = in.DeliveryTag
	d.Redelivered = in.Redelivered
	d.Exchange = m.text(in.Exchange, &m.exchange)
	d.RoutingKey = m.text(in.RoutingKey, &m.routingKey)
	m.delivery, m.consumer = d, c
	return nil
}

func (ch *Channel) findConsumer(tag string) *Consumer {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for _, c := range ch.consumers {
		if c.tag == tag {
			return c
		}
	}
	return nil
}

// enterTag notes a delivery tag, in runs.
func (ch *Channel) enterTag(tag uint64, noAck bool) error {
	if tag <= ch.lastTag || tag == math.MaxUint64 {
		return protocolError("the broker sent delivery tag %d after %d on channel %d", tag, ch.lastTag, ch.id)
	}
	ch.lastTag = tag
	r := &ch.run
	if r.first != 0 && tag == r.last+1 && noAck == r.noAck {
		r.last = tag
		return nil
	}
	if r.first != 0 {
		ch.enterTags()
	}
	ch.conn.tagged = append(ch.conn.tagged, ch)
	*r = tagRun{tag, tag, noAck}
	return nil
}

// enterTags gives the ledger the tags noted so far, before anybody can settle
// them.
func (ch *Channel) enterTags() {
	if r := &ch.run; r.first != 0 {
		ch.ledger.add(r.first, r.last, r.noAck)
		*r = tagRun{}
	}
}

// receive takes a whole delivery. The reader calls it.
func (c *Consumer) receive(d *delivery) {
	if len(c.batch) == 0 {
		c.ch.conn.touched = append(c.ch.conn.touched, c)
	}
	c.batch = append(c.batch, d)
}

// handOver gives the ranges what one read brought. It reports whether the reader
// has to hold back.
func (c *Consumer) handOver() (full bool, err error) {
	if c.limit == 0 {
		bytes := int64(0)
		for _, d := range c.batch {
			bytes += int64(len(d.body)) + envelopeSize
		}
		c.buffered.Add(bytes)
	}
	pushed := c.stream.Push(c.batch...)
	if !pushed && !c.noAck {
		for _, d := range c.batch {
			c.ch.postGiveBack(d)
		}
	}
	c.ch.conn.stats.delivered.Add(uint64(len(c.batch)))
	clear(c.batch)
	if c.batch = c.batch[:0]; cap(c.batch) > sparse {
		c.batch = nil
	}
	if c.limit > 0 {
		// What was settled by a multiple ack before anybody took it, or was
		// taken back by basic.recover, is still in the stream.
		if n := c.stream.Len(); n > c.limit+math.MaxUint16 {
			return false, protocolError("the broker sent consumer %q %d messages ahead, beyond its prefetch of %d", c.tag, n, c.limit)
		}
	}
	return pushed && c.full(), nil
}

// envelopeSize is what a delivery takes beside its body, about.
const envelopeSize = 128

// full tells whether a consumer that bytes bound has too many.
func (c *Consumer) full() bool {
	return c.limit == 0 && c.buffered.Load() > byteBound && !c.unwanted.Load()
}

// swapped hears from the stream that a range took over what was buffered.
func (c *Consumer) swapped() {
	if c.limit == 0 && c.buffered.Swap(0) > byteBound {
		c.ch.conn.wake()
	}
}

// onCancel handles the broker's end of a consumer.
// https://www.rabbitmq.com/docs/consumer-cancel
func (ch *Channel) onCancel(m *wire.BasicCancel) error {
	c := ch.findConsumer(m.ConsumerTag)
	if c == nil {
		return nil // it crossed our own cancel
	}
	if err := ch.conn.handOver(); err != nil {
		return err
	}
	if ch.conn.acceptsCancelOk || !m.NoWait {
		// Wanted since RabbitMQ 4.3, also with no-wait set: the consumer stays
		// as a zombie otherwise. Older brokers take it for a violation.
		if buf, err := ch.conn.out.Begin(); err == nil {
			if !ch.shut {
				buf, _ = wire.AppendMethod(ch.flushAcks(buf), ch.id, &wire.BasicCancelOk{ConsumerTag: c.tag})
			}
			ch.conn.out.Commit(buf)
		}
	}
	c.cancelled.Store(true)
	c.stream.End(fmt.Errorf("%w: consumer %q", ErrConsumerCancelled, c.tag))
	if c.stream.Len() == 0 {
		c.drained()
	}
	return nil
}

// postCancel cancels a consumer that nobody has any more, without waiting. It
// stays enlisted until the broker has nothing more to send for it.
func (c *Consumer) postCancel() {
	c.unwanted.Store(true)
	c.stream.Stop(errConsumerScopeEnded)
	ch := c.ch
	p := newCall(&wire.BasicCancel{}, wire.BasicCancelOkID)
	p.abandoned = true
	p.late = func(wire.Method, *delivery) { ch.discharge(c) }
	ch.post(outgoing{method: &wire.BasicCancel{ConsumerTag: c.tag}, call: p})
	if !c.noAck {
		for _, d := range c.stream.Drain() {
			ch.postGiveBack(d)
		}
	}
}

// post is start for the reader, which never waits and to which the end of the
// channel is no news.
func (ch *Channel) post(o outgoing) {
	buf, err := ch.conn.out.Begin()
	if err != nil {
		return
	}
	if !ch.shut && ch.enqueue([]outgoing{o}) {
		buf, _ = wire.AppendMethod(ch.flushAcks(buf), ch.id, o.method)
	}
	ch.conn.out.Commit(buf)
}

// postGiveBack is giveBack for the reader.
func (ch *Channel) postGiveBack(d *delivery) {
	buf, err := ch.conn.out.Begin()
	if err != nil {
		return
	}
	if !ch.shut {
		buf = ch.flushAcks(buf)
		if tag, err := ch.ledger.take(d.DeliveryTag, false); err == nil {
			buf = wire.AppendNack(buf, ch.id, tag, false, true)
			ch.unproven = true
		}
	}
	ch.conn.out.Commit(buf)
}
