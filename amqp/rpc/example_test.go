package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/amqp/rpc"
	"github.com/leveret-mq/leveret/scope"
)

// A server and a client, in one program here.
func Example() {
	broker := amqptest.NewBroker()
	defer broker.Close()
	cfg, err := amqp.ParseURI(broker.URI())
	if err != nil {
		fmt.Println(err)
		return
	}
	err = amqp.WithConnection(context.Background(), cfg, func(conn *amqp.Conn) error {
		if err := conn.Start(serve(conn)); err != nil { // returns when the queue is there
			return err
		}
		return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
			return rpc.WithClient(ch.Context(), ch, func(c *rpc.Client) error {
				body, _, err := c.Call(ch.Context(), "", "shout", amqp.Message{Body: []byte("hello")})
				fmt.Printf("%s\n", body)
				conn.Cancel(nil) // ends the server
				return err
			})
		})
	})
	fmt.Println(err)
	// Output:
	// HELLO
	// <nil>
}

func serve(conn *amqp.Conn) func(ctx context.Context, started func()) error {
	return func(ctx context.Context, started func()) error {
		return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
			queue, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "shout", Durable: true})
			if err != nil {
				return err
			}
			started()
			return rpc.Serve(ctx, ch, queue.Name, 4, func(_ context.Context, body []byte, _ *amqp.Envelope) (amqp.Message, error) {
				return amqp.Message{Body: []byte(strings.ToUpper(string(body)))}, nil
			})
		})
	}
}

// withServer runs an example beside a server that shouts.
func withServer(example func(ctx context.Context, ch *amqp.Channel) error) {
	broker := amqptest.NewBroker()
	defer broker.Close()
	cfg, err := amqp.ParseURI(broker.URI())
	if err == nil {
		err = amqp.WithConnection(context.Background(), cfg, func(conn *amqp.Conn) error {
			if err := conn.Start(serve(conn)); err != nil {
				return err
			}
			defer conn.Cancel(nil)
			return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error { return example(ch.Context(), ch) })
		})
	}
	if err != nil {
		fmt.Println("failed:", err)
	}
}

// A request that no queue takes fails at once.
func ExampleWithClient() {
	withServer(func(ctx context.Context, ch *amqp.Channel) error {
		return rpc.WithClient(ctx, ch, func(c *rpc.Client) error {
			_, _, err := c.Call(ctx, "", "whisper", amqp.Message{Body: []byte("hello")})
			fmt.Println(errors.Is(err, amqp.ErrReturned))
			return nil
		})
	})
	// Output: true
}

// Many calls are under way on one channel, and each gets its own reply.
func ExampleClient_Call() {
	withServer(func(ctx context.Context, ch *amqp.Channel) error {
		return rpc.WithClient(ctx, ch, func(c *rpc.Client) error {
			replies := make([]string, 3)
			err := scope.Run(ctx, func(s *scope.Scope) error {
				for i, word := range []string{"one", "two", "three"} {
					s.Go(func(ctx context.Context) error {
						body, _, err := c.Call(ctx, "", "shout", amqp.Message{Body: []byte(word)})
						replies[i] = string(body)
						return err
					})
				}
				return nil
			})
			fmt.Println(replies)
			return err
		})
	})
	// Output: [ONE TWO THREE]
}

// What the caller should hear of is a reply, also when it is a failure. An error has the request come again, or
// dead-lettered if it wraps amqp.Drop.
func ExampleServe() {
	withServer(func(ctx context.Context, ch *amqp.Channel) error {
		queue, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
		if err != nil {
			return err
		}
		ch.Go(func(ctx context.Context) error {
			return rpc.Serve(ctx, ch, queue.Name, 1, func(_ context.Context, body []byte, _ *amqp.Envelope) (amqp.Message, error) {
				if len(body) == 0 {
					return amqp.Message{Properties: amqp.Properties{Type: "error"}, Body: []byte("nothing to say")}, nil
				}
				return amqp.Message{Body: body}, nil
			})
		})
		defer ch.Cancel(nil)
		return rpc.WithClient(ctx, ch, func(c *rpc.Client) error {
			body, env, err := c.Call(ctx, "", queue.Name, amqp.Message{})
			if err != nil {
				return err
			}
			fmt.Printf("%s: %s\n", env.Properties.Type, body)
			return nil
		})
	})
	// Output: error: nothing to say
}
