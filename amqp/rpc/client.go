package rpc

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/leveret-mq/leveret/amqp"
)

// replyTo is the queue that stands for the channel itself.
const replyTo = "amq.rabbitmq.reply-to"

// Client sends requests and takes their replies. It is valid inside the callback
// that WithClient gives it to. Its methods are safe for concurrent use.
type Client struct {
	ch       *amqp.Channel
	consumer *amqp.Consumer

	mu    sync.Mutex
	last  uint64
	calls map[string]chan answer // by correlation id; each has room for its answer
}

type answer struct {
	body []byte
	env  *amqp.Envelope
}

// WithClient gives body a client on ch, and returns when body has. It puts the
// channel into confirm mode, which is how a request that no queue takes is heard
// of; there is one consumer of direct replies a channel. ctx bounds the start, and
// ends the calls when it ends. Errors are those of amqp.Channel.WithConsumer.
func WithClient(ctx context.Context, ch *amqp.Channel, body func(*Client) error) error {
	if err := ch.Confirm(ctx); err != nil {
		return fmt.Errorf("rpc: %w", err)
	}
	c := &Client{ch: ch, calls: make(map[string]chan answer)}
	return ch.WithConsumer(ctx, amqp.Consume{Queue: replyTo, NoAck: true}, func(consumer *amqp.Consumer) error {
		c.consumer = consumer
		consumer.Go(func(context.Context) error {
			for body, env := range consumer.Messages() {
				c.deliver(env.Properties.CorrelationID, answer{body, env})
			}
			return nil
		})
		defer consumer.Stop() // ends the task, so that the scope can end
		return body(c)
	})
}

// Call sends msg as a request to an exchange and waits for the reply, until ctx
// or the client's scope ends; a reply that comes later is dropped. It sets the
// message's ReplyTo, and its CorrelationID and Mandatory: a request that no queue
// takes fails at once with amqp.ErrReturned. Whether a request was handled is not
// known when its Call fails otherwise.
func (c *Client) Call(ctx context.Context, exchange, routingKey string, msg amqp.Message) (body []byte, env *amqp.Envelope, err error) {
	if c.consumer.Context().Err() != nil {
		// The broker would close the channel: it knows no consumer of the reply any more.
		return nil, nil, fmt.Errorf("rpc: call: %w", c.ended())
	}
	id, done := c.expect()
	defer c.forget(id)
	msg.Properties.ReplyTo, msg.Properties.CorrelationID, msg.Mandatory = replyTo, id, true
	if err := c.ch.Publish(ctx, exchange, routingKey, msg); err != nil {
		return nil, nil, fmt.Errorf("rpc: call: %w", err)
	}
	select {
	case a := <-done:
		return a.body, a.env, nil
	case <-c.consumer.Context().Done():
		err = c.ended()
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return nil, nil, fmt.Errorf("rpc: call to exchange %q with routing key %q: %w", exchange, routingKey, err)
}

// ended is why the client's scope is over.
func (c *Client) ended() error { return context.Cause(c.consumer.Context()) }

func (c *Client) expect() (id string, done chan answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	id = strconv.FormatUint(c.last, 36)
	done = make(chan answer, 1)
	c.calls[id] = done
	return id, done
}

func (c *Client) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, id)
}

// deliver gives a its call, unless that has given up.
func (c *Client) deliver(id string, a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if done, ok := c.calls[id]; ok {
		delete(c.calls, id)
		done <- a
	}
}
