package amqp

import (
	"context"
	"errors"
	"fmt"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// The types of exchange that every broker has, for Exchange.Kind. Plugins add
// others.
const (
	Direct  = "direct"
	Fanout  = "fanout"
	Topic   = "topic"
	Headers = "headers"
)

// Queue is queue.declare: a queue to be made, unless there is one like it.
// https://www.rabbitmq.com/docs/queues
type Queue struct {
	Name    string // "": the broker makes one up
	Passive bool   // only look whether it is there; NotFound ends the channel, see Conn.QueueStatus
	// Durable queues survive a restart of the broker. RabbitMQ 4.3 and later
	// refuse queues that are neither durable nor exclusive, and close the
	// connection with 541.
	Durable    bool
	Exclusive  bool // of this connection alone, and deleted with it
	AutoDelete bool // deleted when its last consumer has gone
	NoWait     bool // do not wait for an answer: a refusal ends the channel
	Arguments  Table
}

// QueueStatus is what the broker says of a queue (queue.declare-ok).
type QueueStatus struct {
	Name      string // also the one that the broker made up
	Messages  int    // ready to be delivered; RabbitMQ may count before what was published or given back just now
	Consumers int
}

// QueueDelete is queue.delete: which queue goes, and on which conditions.
type QueueDelete struct {
	Name     string
	IfUnused bool // refuse when it has consumers
	IfEmpty  bool // refuse when it has messages
	NoWait   bool // do not wait for an answer: a refusal ends the channel
}

// QueuePurge is queue.purge: which queue is emptied.
type QueuePurge struct {
	Name   string
	NoWait bool // do not wait for an answer: a refusal ends the channel
}

// Binding is queue.bind and queue.unbind: the exchange routes what matches to the
// queue. NoWait is for binding alone.
type Binding struct {
	Queue, Exchange string
	RoutingKey      string // what a message's has to be, or a pattern of a topic exchange: order.*, order.#
	NoWait          bool   // do not wait for an answer: a refusal ends the channel
	Arguments       Table  // for a headers exchange: the headers, and x-match
}

// Exchange is exchange.declare: an exchange to be made, unless there is one like
// it.
// https://www.rabbitmq.com/docs/exchanges
type Exchange struct {
	Name       string
	Kind       string // Direct, Fanout, Topic, Headers or a plugin's
	Passive    bool   // only look whether it is there; NotFound ends the channel, see Conn.ExchangeExists
	Durable    bool   // survives a restart of the broker
	AutoDelete bool   // deleted when its last binding has gone
	Internal   bool   // takes messages from other exchanges alone
	NoWait     bool   // do not wait for an answer: a refusal ends the channel
	Arguments  Table  // such as alternate-exchange
}

// ExchangeDelete is exchange.delete: which exchange goes, and on which condition.
type ExchangeDelete struct {
	Name     string
	IfUnused bool // refuse when it has bindings
	NoWait   bool // do not wait for an answer: a refusal ends the channel
}

// ExchangeBinding is exchange.bind and exchange.unbind: Source routes what matches
// on to Destination.
// https://www.rabbitmq.com/docs/e2e
type ExchangeBinding struct {
	Destination, Source string
	RoutingKey          string // as that of a Binding
	NoWait              bool   // do not wait for an answer: a refusal ends the channel
	Arguments           Table  // as those of a Binding
}

// Topology is what Declare declares. NoWait in its parts is ignored: all of them
// are answered.
type Topology struct {
	Exchanges        []Exchange
	Queues           []Queue
	Bindings         []Binding
	ExchangeBindings []ExchangeBinding
}

// QueueDeclare makes a queue, or finds that there is one like it (queue.declare).
// One that differs is PreconditionFailed, another connection's exclusive one is
// ResourceLocked, and none is NotFound if Passive; all three end the channel. With
// NoWait the status holds nothing but the name.
func (ch *Channel) QueueDeclare(ctx context.Context, q Queue) (QueueStatus, error) {
	reply, err := ch.ask(ctx, q.wire(), wire.QueueDeclareOkID, q.NoWait)
	if err != nil {
		return QueueStatus{}, fmt.Errorf("amqp: declare queue %q: %w", q.Name, err)
	}
	status := QueueStatus{Name: q.Name}
	if ok, is := reply.(*wire.QueueDeclareOk); is {
		status = QueueStatus{ok.Queue, int(ok.MessageCount), int(ok.ConsumerCount)}
	}
	return status, nil
}

// QueueDelete deletes a queue (queue.delete), and returns how many messages went
// with it (-1 with NoWait). That there is none is no error to RabbitMQ; one that
// is in use or not empty, when that was forbidden, is PreconditionFailed, which
// ends the channel.
func (ch *Channel) QueueDelete(ctx context.Context, q QueueDelete) (messages int, err error) {
	m := &wire.QueueDelete{Queue: q.Name, IfUnused: q.IfUnused, IfEmpty: q.IfEmpty, NoWait: q.NoWait}
	reply, err := ch.ask(ctx, m, wire.QueueDeleteOkID, q.NoWait)
	if err != nil {
		return 0, fmt.Errorf("amqp: delete queue %q: %w", q.Name, err)
	}
	if ok, is := reply.(*wire.QueueDeleteOk); is {
		return int(ok.MessageCount), nil
	}
	return -1, nil
}

// QueueBind binds a queue to an exchange (queue.bind). Binding twice is binding
// once. A queue or exchange that is not there is NotFound, which ends the channel.
func (ch *Channel) QueueBind(ctx context.Context, b Binding) error {
	if _, err := ch.ask(ctx, b.wire(), wire.QueueBindOkID, b.NoWait); err != nil {
		return fmt.Errorf("amqp: bind queue %q to exchange %q: %w", b.Queue, b.Exchange, err)
	}
	return nil
}

// QueueUnbind takes back the binding of the same queue, exchange, routing key
// and arguments (queue.unbind). That there is none is no error to RabbitMQ.
func (ch *Channel) QueueUnbind(ctx context.Context, b Binding) error {
	m := &wire.QueueUnbind{Queue: b.Queue, Exchange: b.Exchange, RoutingKey: b.RoutingKey, Arguments: b.Arguments}
	if err := ch.roundTrip(ctx, m, wire.QueueUnbindOkID); err != nil {
		return fmt.Errorf("amqp: unbind queue %q from exchange %q: %w", b.Queue, b.Exchange, err)
	}
	return nil
}

// QueuePurge drops the messages of a queue that are ready (queue.purge), and
// returns how many there were (-1 with NoWait). Those that consumers have stay.
// That there is no queue is NotFound, which ends the channel.
func (ch *Channel) QueuePurge(ctx context.Context, q QueuePurge) (messages int, err error) {
	reply, err := ch.ask(ctx, &wire.QueuePurge{Queue: q.Name, NoWait: q.NoWait}, wire.QueuePurgeOkID, q.NoWait)
	if err != nil {
		return 0, fmt.Errorf("amqp: purge queue %q: %w", q.Name, err)
	}
	if ok, is := reply.(*wire.QueuePurgeOk); is {
		return int(ok.MessageCount), nil
	}
	return -1, nil
}

// ExchangeDeclare makes an exchange, or finds that there is one like it
// (exchange.declare). One that differs is PreconditionFailed, a name that starts
// with "amq." is AccessRefused, and none is NotFound if Passive; all three end the
// channel. A kind that the broker does not know is CommandInvalid, which ends the
// connection.
func (ch *Channel) ExchangeDeclare(ctx context.Context, e Exchange) error {
	if _, err := ch.ask(ctx, e.wire(), wire.ExchangeDeclareOkID, e.NoWait); err != nil {
		return fmt.Errorf("amqp: declare exchange %q: %w", e.Name, err)
	}
	return nil
}

// ExchangeDelete deletes an exchange (exchange.delete). That there is none is no
// error to RabbitMQ; one that is in use, when that was forbidden, is
// PreconditionFailed, which ends the channel.
func (ch *Channel) ExchangeDelete(ctx context.Context, e ExchangeDelete) error {
	m := &wire.ExchangeDelete{Exchange: e.Name, IfUnused: e.IfUnused, NoWait: e.NoWait}
	if _, err := ch.ask(ctx, m, wire.ExchangeDeleteOkID, e.NoWait); err != nil {
		return fmt.Errorf("amqp: delete exchange %q: %w", e.Name, err)
	}
	return nil
}

// ExchangeBind binds an exchange to another one (exchange.bind), whose messages it
// gets and routes on. One that is not there is NotFound, which ends the channel.
func (ch *Channel) ExchangeBind(ctx context.Context, b ExchangeBinding) error {
	if _, err := ch.ask(ctx, b.wire(), wire.ExchangeBindOkID, b.NoWait); err != nil {
		return fmt.Errorf("amqp: bind exchange %q to exchange %q: %w", b.Destination, b.Source, err)
	}
	return nil
}

// ExchangeUnbind takes back the binding of the same exchanges, routing key and
// arguments (exchange.unbind). That there is none is no error to RabbitMQ.
func (ch *Channel) ExchangeUnbind(ctx context.Context, b ExchangeBinding) error {
	m := &wire.ExchangeUnbind{Destination: b.Destination, Source: b.Source, RoutingKey: b.RoutingKey, NoWait: b.NoWait, Arguments: b.Arguments}
	if _, err := ch.ask(ctx, m, wire.ExchangeUnbindOkID, b.NoWait); err != nil {
		return fmt.Errorf("amqp: unbind exchange %q from exchange %q: %w", b.Destination, b.Source, err)
	}
	return nil
}

// Declare declares everything in t, exchanges before queues before bindings, in
// one round trip (exchange.declare, queue.declare, exchange.bind, queue.bind). The
// error names the first part that the broker refused, which ends the channel; what
// came before it has been declared. The queues that the broker names can't be
// bound this way, since their names come with the answer.
func (ch *Channel) Declare(ctx context.Context, t Topology) error {
	parts := t.parts()
	if len(parts) == 0 {
		return nil
	}
	methods := make([]outgoing, len(parts))
	calls := make([]*pendingCall, len(parts))
	for i, p := range parts {
		calls[i] = newCall(p.method, p.answer)
		methods[i] = outgoing{method: p.method, call: calls[i]}
	}
	if err := ch.start(ctx, methods...); err != nil {
		return fmt.Errorf("amqp: declare a topology: %w", err)
	}
	if err := ch.wait(ctx, calls...); err != nil {
		return fmt.Errorf("amqp: declare a topology: %s: %w", firstRefused(parts, calls), err)
	}
	return nil
}

// part is one method of a topology.
type part struct {
	method wire.Method
	answer wire.MethodID
	what   string
}

// parts lists the methods of a topology. All of them are answered, so that a
// refusal can be told from the others.
func (t *Topology) parts() (all []part) {
	for _, e := range t.Exchanges {
		e.NoWait = false
		all = append(all, part{e.wire(), wire.ExchangeDeclareOkID, fmt.Sprintf("exchange %q", e.Name)})
	}
	for _, q := range t.Queues {
		q.NoWait = false
		all = append(all, part{q.wire(), wire.QueueDeclareOkID, fmt.Sprintf("queue %q", q.Name)})
	}
	for _, b := range t.ExchangeBindings {
		b.NoWait = false
		all = append(all, part{b.wire(), wire.ExchangeBindOkID, fmt.Sprintf("binding of exchange %q to exchange %q", b.Destination, b.Source)})
	}
	for _, b := range t.Bindings {
		b.NoWait = false
		all = append(all, part{b.wire(), wire.QueueBindOkID, fmt.Sprintf("binding of queue %q to exchange %q", b.Queue, b.Exchange)})
	}
	return all
}

func firstRefused(parts []part, calls []*pendingCall) string {
	for i, p := range calls {
		select {
		case <-p.done:
			if p.err == nil {
				continue
			}
		default:
		}
		return parts[i].what
	}
	return "nothing"
}

// QueueStatus asks for a queue's state by a passive queue.declare on a channel of
// its own, so that NotFound costs the caller nothing. It takes three round trips.
func (c *Conn) QueueStatus(ctx context.Context, name string) (status QueueStatus, err error) {
	err = c.WithChannel(ctx, func(ch *Channel) (err error) {
		status, err = ch.QueueDeclare(ctx, Queue{Name: name, Passive: true})
		return err
	})
	return status, err
}

// ExchangeExists asks for an exchange by a passive exchange.declare on a channel
// of its own, in three round trips. That there is none is no error.
func (c *Conn) ExchangeExists(ctx context.Context, name string) (bool, error) {
	err := c.WithChannel(ctx, func(ch *Channel) error {
		return ch.ExchangeDeclare(ctx, Exchange{Name: name, Kind: Direct, Passive: true})
	})
	if errors.Is(err, NotFound) {
		return false, nil
	}
	return err == nil, err
}

// ask is call, or send for a method that waits for nothing.
func (ch *Channel) ask(ctx context.Context, m wire.Method, answer wire.MethodID, noWait bool) (wire.Method, error) {
	if noWait {
		return nil, ch.send(ctx, m)
	}
	return ch.call(ctx, m, answer)
}

func (q *Queue) wire() wire.Method {
	return &wire.QueueDeclare{
		Queue: q.Name, Passive: q.Passive, Durable: q.Durable, Exclusive: q.Exclusive,
		AutoDelete: q.AutoDelete, NoWait: q.NoWait, Arguments: q.Arguments,
	}
}

func (e *Exchange) wire() wire.Method {
	return &wire.ExchangeDeclare{
		Exchange: e.Name, Type: e.Kind, Passive: e.Passive, Durable: e.Durable,
		AutoDelete: e.AutoDelete, Internal: e.Internal, NoWait: e.NoWait, Arguments: e.Arguments,
	}
}

func (b *Binding) wire() wire.Method {
	return &wire.QueueBind{Queue: b.Queue, Exchange: b.Exchange, RoutingKey: b.RoutingKey, NoWait: b.NoWait, Arguments: b.Arguments}
}

func (b *ExchangeBinding) wire() wire.Method {
	return &wire.ExchangeBind{Destination: b.Destination, Source: b.Source, RoutingKey: b.RoutingKey, NoWait: b.NoWait, Arguments: b.Arguments}
}
