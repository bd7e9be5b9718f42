// Package rpc is request and reply over RabbitMQ's direct reply-to: replies come
// straight to the channel that sent the request, without a queue. It is built on
// the exported parts of package amqp alone.
//
// A [Client] has many calls under way on one channel. [Serve] answers requests
// from a queue with several workers.
// https://www.rabbitmq.com/docs/direct-reply-to
package rpc
