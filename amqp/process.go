package amqp

import (
	"context"
	"errors"
	"fmt"

	"github.com/leveret-mq/leveret/scope"
)

// Drop is wrapped by the error of a handler that does not want its message to
// come again: it is dead-lettered, or dropped.
var Drop error = errors.New("drop the message")

// Process calls handle for every message, in as many goroutines as workers says,
// and settles each by how its handler ended:
//
//   - nil: basic.ack.
//   - an error: basic.reject with requeue, which counts as a failed attempt
//     against a delivery limit. If it wraps Drop: without requeue.
//   - an error that only echoes the end of ctx: basic.nack with requeue, which
//     does not count. So does a message that no handler got to see.
//   - from a stream, which keeps its messages and takes no refusal: basic.ack,
//     whatever happened. A consumer of one is told by its StreamFrom.
//   - a panic: as an error, and the panic goes on; with one worker up through
//     Process, with several it crashes the program.
//
// ctx ends with the consumer's scope, and when a message can't be settled any
// more, or a handler has panicked or called runtime.Goexit. Messages ends then as
// well, and what nobody took goes back. Process returns when Messages has ended and
// the handlers have returned: nil after Stop, and why Messages ended otherwise.
//
// Keep a delivery limit or a dead-letter exchange on the queue: a message that
// every handler fails on comes back for ever without.
// https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling
func (c *Consumer) Process(workers int, handle func(ctx context.Context, body []byte, env *Envelope) error) error {
	if workers < 1 {
		return fmt.Errorf("amqp: process: %d workers", workers)
	}
	work := func(ctx context.Context) error {
		c.workers.Add(1)
		defer c.workers.Add(-1)
		for body, env := range c.Messages() {
			if err := c.process(ctx, body, env, handle); err != nil {
				return err
			}
			if ctx.Err() != nil {
				break // the next one would be given back at once, and come again at once
			}
		}
		return nil
	}
	crew := scope.Open(c.Context(), c.Scope)
	s := crew.Scope()
	// The workers who wait for a message would not learn that another is gone.
	crew.OnEnd(func() { c.stop(context.Cause(s.Context())) })
	err, _ := crew.Run(func() error {
		for range workers - 1 {
			s.Go(work)
		}
		return work(s.Context())
	})
	return joinCause(err, c.Err())
}

// Stop ends Messages, Batches and Process without cancelling anything: what is
// being handled goes on, and what nobody took goes back to the queue at the end
// of the scope. It is how a graceful shutdown begins.
func (c *Consumer) Stop() { c.stop(nil) }

// process handles one message. It fails when the message could not be settled
// since the channel has ended.
func (c *Consumer) process(ctx context.Context, body []byte, env *Envelope, handle func(context.Context, []byte, *Envelope) error) error {
	returned := false
	defer func() {
		if !returned {
			c.afterPanic(env)
		}
	}()
	err := handle(ctx, body, env)
	returned = true
	switch {
	case c.noAck:
		if err != nil {
			c.log(env, err, "message_lost", true)
		}
		return nil
	case err == nil:
		err = env.Ack()
	case c.ofStream:
		c.log(env, err, "message_lost", false)
		err = env.Ack()
	case errors.Is(err, Drop):
		err = c.failed(env, err, false)
	case ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))):
		err = env.Nack(true)
	default:
		err = c.failed(env, err, true)
	}
	if errors.Is(err, ErrAlreadySettled) {
		return nil // by the handler itself
	}
	return err
}

// failed rejects a message, and says why where an operator may look for it.
func (c *Consumer) failed(env *Envelope, why error, requeue bool) error {
	c.log(env, why, "requeue", requeue)
	return env.Reject(requeue)
}

func (c *Consumer) log(env *Envelope, why error, key string, value bool) {
	c.ch.conn.cfg.Logger.Warn("amqp: a handler failed", "consumer", c.tag, "exchange", env.Exchange,
		"routing_key", env.RoutingKey, "message_id", env.Properties.MessageID, "error", why, key, value)
}

// afterPanic rejects the message of a handler that panicked or called
// runtime.Goexit, and makes sure that the broker has heard of it, since the
// program may be about to crash.
func (c *Consumer) afterPanic(env *Envelope) {
	if c.noAck || c.ofStream || env.Reject(true) != nil {
		return
	}
	_ = c.ch.conn.polite("channel.flow-ok", c.ch.prove)
}
