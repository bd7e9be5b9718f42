package amqp

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"sync"
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
	// (1 MiB), and then TCP holds the broker back. While a call on the
	// connection waits for its answer, which comes after the messages, more is
	// buffered: up to 256 MiB and MaxMessageSize, where ErrSlowConsumer ends
	// the connection.
	Prefetch  int
	Arguments Table
}

const (
	defaultPrefetch = 256
	// byteBound is where a consumer without prefetch makes the reader stop.
	byteBound = 1 << 20
	// unreadBound is where it ends the connection, if calls that wait for their
	// answers make the reader go on: MaxMessageSize comes on top. RabbitMQ has
	// some 200 messages on the way, which are before an answer.
	unreadBound = 256 << 20
)

// directReplyTo is the pseudo-queue of replies that come without a queue. RabbitMQ
// sends each with the delivery tag that the channel's next delivery will have, too.
// https://www.rabbitmq.com/docs/direct-reply-to
const directReplyTo = "amq.rabbitmq.reply-to"

// Consumer is a subscription to a queue, and the scope of what handles its
// messages. It is valid inside the callback that WithConsumer gives it to.
type Consumer struct {
	*scope.Scope
	ch     *Channel
	tag    string
	queue  string
	noAck  bool
	direct bool // of direct replies, whose delivery tags are not theirs alone
	// ofStream has nothing refused or given back: a stream keeps what it delivers,
	// and before 4.0 RabbitMQ closes the connection for a basic.nack there.
	ofStream bool
	limit    int                          // unsettled messages at most; 0: bytes bound the buffer
	handle   atomic.Pointer[scope.Handle] // nil until its scope is open
	stream   xiter.Stream[*delivery]

	// kept are deliveries that came when no range took them any more, and
	// before the broker was asked to send no more: given back at once, they
	// would come again at once.
	mu      sync.Mutex
	kept    []*delivery
	leaving bool // what comes now is given back at once

	buffered atomic.Int64 // bytes that no range has taken over
	// cancelled is set when the broker has ended the consumer: to what its ranges
	// say of that, unless they had ended before.
	cancelled atomic.Pointer[error]
	told      atomic.Bool  // Err has said so
	ended     atomic.Bool  // the stream was stopped
	unwanted  atomic.Bool  // nobody will range any more: what comes is given back, or dropped
	workers   atomic.Int32 // of Process
	loops     atomic.Int32 // that range over it

	// What follows belongs to who reads.
	batch      []*delivery // of the read under way
	batchBytes int64
}

// WithConsumer starts a consumer (basic.consume), gives it to body, and cancels
// it when body and everything in its scope has ended. Messages that nobody took
// by then are given back (basic.nack with requeue), other than to a stream, which
// has them still.
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

// Queue is the queue that Consume named.
func (c *Consumer) Queue() string { return c.queue }

// Messages ranges over what is delivered, and waits for it. It ends with the
// consumer's scope, or when the broker ends the consumer; Err says why. After a
// break, ranging again continues with the next message. Several ranges share the
// messages.
func (c *Consumer) Messages() iter.Seq2[[]byte, *Envelope] {
	return func(yield func([]byte, *Envelope) bool) {
		c.stopIfCancelled()
		defer c.enterLoop()()
		for d := range c.stream.All() {
			if c.isVoid(d) {
				continue
			}
			if !yield(d.body(), &d.Envelope) {
				return
			}
			c.stopIfCancelled()
		}
		c.drained()
	}
}

// isVoid tells whether basic.recover took d back. What is no-ack was settled
// before, and comes but once.
func (c *Consumer) isVoid(d *delivery) bool { return !c.noAck && d.DeliveryTag <= c.ch.voided.Load() }

// stopIfCancelled ends the ranges at once when the scope has been cancelled,
// rather than when the news of that has come around.
func (c *Consumer) stopIfCancelled() {
	if c.Context().Err() != nil {
		c.stop(context.Cause(c.Context()))
	}
}

// stop ends the ranges, whose last item was the last.
func (c *Consumer) stop(why error) {
	c.stream.Stop(why)
	if !c.ended.Swap(true) {
		c.ch.conn.interrupt(c)
	}
}

// Err is why Messages ended: nil while the consumer lives and after Stop,
// ErrConsumerCancelled when the broker ended it, the cause of the channel's or connection's end, or
// that of the scope's.
func (c *Consumer) Err() error {
	c.stopIfCancelled()
	err := c.stream.Err()
	if err != nil && c.endedByBroker() != nil {
		c.told.Store(true)
	}
	return err
}

// endedByBroker is ErrConsumerCancelled if that is what ended the ranges. A
// broker may end a consumer that is being stopped, or is over.
func (c *Consumer) endedByBroker() error {
	why := c.cancelled.Load()
	if why == nil || c.stream.Err() != *why { //nolint:errorlint // the very same
		return nil
	}
	return *why
}

// drained interrupts a scope whose consumer the broker has ended, once all that
// was delivered before has been taken: nothing will come for those who wait.
func (c *Consumer) drained() {
	if why := c.endedByBroker(); why != nil {
		if h := c.handle.Load(); h != nil {
			h.Interrupt(why)
		}
	}
}

func (ch *Channel) consume(ctx context.Context, opts Consume) (*Consumer, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	c := &Consumer{
		ch: ch, tag: opts.Tag, queue: opts.Queue,
		noAck: opts.NoAck, direct: opts.Queue == directReplyTo, ofStream: opts.ofStream(),
	}
	if c.tag == "" {
		c.tag = "leveret-" + strconv.FormatUint(ch.conn.tags.Add(1), 10)
	}
	c.stream.OnSwap(c.swapped)
	c.stream.OnLook(func() { ch.conn.readFor(c) })
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
		for _, p := range calls {
			p.abandoned = true
		}
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
	c.ch.conn.watch(handle, c.name, nil, &c.workers)
	c.ch.inner.Add(1)
	defer c.ch.inner.Add(-1)
	inner := c.Context()
	handle.OnEnd(func() { c.stop(context.Cause(inner)) })
	if c.stream.Len() == 0 {
		c.drained()
	}
	echoed := false
	defer func() {
		closing := c.close()
		if !c.told.Load() || echoed {
			err = joinCause(err, c.endedByBroker())
		}
		err = joinCause(err, closing)
		c.ch.conn.cfg.Trace.consumerEnded(c, err)
	}()
	c.ch.conn.cfg.Trace.consumerStarted(c)
	err, echoed = handle.Run(func() error { return body(c) })
	return err
}

// close cancels the consumer at the broker and gives back what nobody took.
func (c *Consumer) close() (err error) {
	ch := c.ch
	c.stop(errConsumerScopeEnded)
	c.unwanted.Store(true)
	if c.cancelled.Load() != nil {
		ch.discharge(c)
	} else {
		err = ch.conn.polite("basic.cancel-ok", c.cancel)
	}
	if !c.leave() && c.cancelled.Load() == nil {
		c.postCancel() // which did not get a chance: the broker has been silent for too long
	}
	if c.givesBack() {
		c.mu.Lock()
		kept := c.kept
		c.mu.Unlock()
		err = joinCause(err, ch.giveBack(append(c.stream.Drain(), kept...)))
	}
	return err
}

// cancel asks the broker to send no more. The consumer stays enlisted until the
// broker has answered, however late that is. A failure is the channel's, and told
// by it.
func (c *Consumer) cancel(ctx context.Context) error {
	m := &wire.BasicCancel{ConsumerTag: c.tag}
	p := newCall(m, wire.BasicCancelOkID)
	p.farewell = true
	p.late = func(wire.Method, *delivery) { c.ch.discharge(c) }
	if c.ch.start(ctx, outgoing{method: m, call: p, sent: func() { c.leave() }}) == nil && c.ch.wait(ctx, p) == nil {
		c.ch.discharge(c)
	}
	return nil
}

var errConsumerScopeEnded = errors.New("the consumer's scope has ended")

// givesBack tells whether what nobody takes goes back to the queue.
func (c *Consumer) givesBack() bool { return !c.noAck && !c.ofStream }

// giveBack returns deliveries that nobody took to their queue. One that has been
// settled, or whose channel has ended, needs that no more. Between two transactions
// it takes one of its own; the error is that of a broker who is silent.
func (ch *Channel) giveBack(all []*delivery) error {
	for i, d := range all {
		if err := ch.Nack(d.DeliveryTag, false, true); errors.Is(err, errOutsideTx) {
			return ch.conn.polite("tx.commit-ok", func(ctx context.Context) error {
				_ = ch.WithTx(ctx, func() error { return ch.giveBack(all[i:]) })
				return nil // the end of the channel is told by its scope
			})
		}
	}
	return nil
}
