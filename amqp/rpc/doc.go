// Package rpc is request and reply over RabbitMQ's direct reply-to: replies come
// straight to the channel that sent the request, without a queue. It is built on
// the exported parts of package amqp alone.
//
// A server answers requests from a queue, with several workers:
//
//	err := rpc.Serve(ctx, ch, "shout", 4, func(ctx context.Context, body []byte, env *amqp.Envelope) (amqp.Message, error) {
//		return amqp.Message{Body: bytes.ToUpper(body)}, nil
//	})
//
// A [Client] has many calls under way on one channel:
//
//	err := rpc.WithClient(ctx, ch, func(c *rpc.Client) error {
//		body, _, err := c.Call(ctx, "", "shout", amqp.Message{Body: []byte("hello")})
//		…
//	})
//
// # What a failure means
//
// A request that no queue takes fails at once, with amqp.ErrReturned. A request
// that a server has got and cannot handle comes again, to it or another one, and
// is not answered: the caller waits until its ctx ends. So what the caller should
// hear of is a reply, marked as a failure by a property or in its body.
//
// A reply exists once, and for the channel that asked. When the connection is lost
// before it comes, the call fails, and whether the request was handled is not
// known: let it do no harm the second time, and call again.
//
// https://www.rabbitmq.com/docs/direct-reply-to
package rpc
