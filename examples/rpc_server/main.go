// Rpc_server computes Fibonacci numbers for ../rpc_client, until Ctrl-C.
package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/rpc"
	"github.com/leveret-mq/leveret/examples/internal/demo"
)

func main() { demo.Consumer(server, client) }

func server(ctx context.Context, cfg amqp.Config) error {
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		queue, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "rpc_queue", Durable: true})
		if err != nil {
			return err
		}
		fmt.Println("waiting for requests; Ctrl-C ends this")
		return rpc.Serve(ctx, ch, queue.Name, 4, answer)
	})
}

// answer handles one request. What the client should hear of is a reply, also a
// mistake of its own; an error would have the request come again.
func answer(_ context.Context, body []byte, _ *amqp.Envelope) (amqp.Message, error) {
	n, err := strconv.Atoi(string(body))
	if err != nil || n < 0 || n > 90 {
		return amqp.Message{Body: []byte("want a number from 0 to 90")}, nil
	}
	fmt.Printf("fib(%d)\n", n)
	return amqp.Message{Body: strconv.AppendInt(nil, fib(n), 10)}, nil
}

func fib(n int) int64 {
	a, b := int64(0), int64(1)
	for range n {
		a, b = b, a+b
	}
	return a
}

// client is the other side when there is no broker to share with ../rpc_client.
func client(ctx context.Context, cfg amqp.Config) error {
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		return rpc.WithClient(ctx, ch, func(c *rpc.Client) error {
			reply, _, err := c.Call(ctx, "", "rpc_queue", amqp.Message{Body: []byte("30")})
			fmt.Printf("\t(the other side asked for fib(30) and got %s)\n", reply)
			return err
		})
	})
}
