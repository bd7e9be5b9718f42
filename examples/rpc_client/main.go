// Rpc_client asks ../rpc_server for several Fibonacci numbers at once.
package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/rpc"
	"github.com/leveret-mq/leveret/examples/internal/demo"
	"github.com/leveret-mq/leveret/scope"
)

func main() { demo.Publisher(client, server) }

func client(ctx context.Context, cfg amqp.Config) error {
	// A deadline goes around the scope, and bounds every call in it.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		return rpc.WithClient(ctx, ch, func(c *rpc.Client) error {
			return scope.Run(ctx, func(s *scope.Scope) error {
				for n := 10; n <= 50; n += 10 {
					s.Go(func(ctx context.Context) error { return ask(ctx, c, n) })
				}
				return nil
			})
		})
	})
}

func ask(ctx context.Context, c *rpc.Client, n int) error {
	reply, _, err := c.Call(ctx, "", "rpc_queue", amqp.Message{Body: strconv.AppendInt(nil, int64(n), 10)})
	if errors.Is(err, amqp.ErrReturned) {
		return errors.New("there is no queue for requests: start ./examples/rpc_server")
	}
	if err != nil {
		return err
	}
	fmt.Printf("fib(%d) = %s\n", n, reply)
	return nil
}

// server is the other side when there is no broker to share with ../rpc_server.
func server(ctx context.Context, cfg amqp.Config) error {
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		queue, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "rpc_queue", Durable: true})
		if err != nil {
			return err
		}
		return rpc.Serve(ctx, ch, queue.Name, 4, func(_ context.Context, body []byte, _ *amqp.Envelope) (amqp.Message, error) {
			fmt.Printf("\t(the other side is asked for %s)\n", body)
			n, err := strconv.Atoi(string(body))
			if err != nil {
				return amqp.Message{}, errors.Join(amqp.Drop, err)
			}
			a, b := 0, 1
			for range n {
				a, b = b, a+b
			}
			return amqp.Message{Body: strconv.AppendInt(nil, int64(a), 10)}, nil
		})
	})
}
