package amqp_test

import (
	"context"
	"fmt"
	"time"

	"github.com/leveret-mq/leveret/amqp"
)

func ExampleChannel_QueueDeclare() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		mine, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true}) // the broker makes a name up
		if err != nil {
			return err
		}
		orders, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "orders", Durable: true})
		fmt.Println(mine.Name != "", orders.Name, orders.Messages)
		return err
	})
	// Output: true orders 0
}

func ExampleQueueArguments() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		return ch.Declare(ctx, amqp.Topology{
			Exchanges: []amqp.Exchange{{Name: "failed", Kind: amqp.Fanout, Durable: true}},
			Queues: []amqp.Queue{{Name: "orders", Durable: true, Arguments: amqp.QueueArguments{
				MessageTTL:         time.Hour,
				MaxLength:          10_000,
				Overflow:           amqp.RejectPublish,
				DeadLetterExchange: "failed",
			}.Table()}},
		})
	})
	// Output:
}

func ExampleQueueArguments_Table() {
	quorum := amqp.QueueArguments{Type: amqp.QuorumQueue, DeliveryLimit: 5, DeadLetterToDefault: true, DeadLetterRoutingKey: "failed"}
	fmt.Println(quorum.Table())
	stream := amqp.QueueArguments{Type: amqp.StreamQueue, MaxAge: "7D", MaxLengthBytes: 20e9}
	fmt.Println(stream.Table())
	// Output:
	// map[x-dead-letter-exchange: x-dead-letter-routing-key:failed x-delivery-limit:5 x-queue-type:quorum]
	// map[x-max-age:7D x-max-length-bytes:20000000000 x-queue-type:stream]
}

// Everything that an application needs, in one round trip.
func ExampleChannel_Declare() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		if err := ch.Declare(ctx, amqp.Topology{
			Exchanges: []amqp.Exchange{{Name: "events", Kind: amqp.Topic, Durable: true}},
			Queues:    []amqp.Queue{{Name: "billing", Durable: true}, {Name: "audit", Durable: true}},
			Bindings: []amqp.Binding{
				{Queue: "billing", Exchange: "events", RoutingKey: "order.*"},
				{Queue: "audit", Exchange: "events", RoutingKey: "#"},
			},
		}); err != nil {
			return err
		}
		if err := ch.Publish(ctx, "events", "order.paid", amqp.Message{Body: []byte("42")}); err != nil {
			return err
		}
		for _, queue := range []string{"billing", "audit"} {
			body, _, err := ch.Get(ctx, queue, true)
			if err != nil {
				return err
			}
			fmt.Printf("%s: %s\n", queue, body)
		}
		return nil
	})
	// Output:
	// billing: 42
	// audit: 42
}

func ExampleChannel_QueueBind() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		red := amqp.Binding{Queue: "jobs", Exchange: "amq.headers", Arguments: amqp.Table{"x-match": "all", "colour": "red"}}
		if err := ch.QueueBind(ctx, red); err != nil {
			return err
		}
		for _, colour := range []string{"red", "blue"} {
			msg := amqp.Message{Properties: amqp.Properties{Headers: amqp.Table{"colour": colour}}, Body: []byte(colour)}
			if err := ch.Publish(ctx, "amq.headers", "", msg); err != nil {
				return err
			}
		}
		body, env, err := ch.Get(ctx, "jobs", true)
		fmt.Printf("%s, and %d more\n", body, env.MessageCount)
		return err
	})
	// Output: red, and 0 more
}

func ExampleChannel_QueueUnbind() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		binding := amqp.Binding{Queue: "jobs", Exchange: "amq.direct", RoutingKey: "urgent"}
		if err := ch.QueueBind(ctx, binding); err != nil {
			return err
		}
		return ch.QueueUnbind(ctx, binding)
	})
	// Output:
}

func ExampleChannel_QueuePurge() {
	onChannel([]string{"a", "b", "c"}, func(ctx context.Context, ch *amqp.Channel) error {
		n, err := ch.QueuePurge(ctx, amqp.QueuePurge{Name: "jobs"})
		fmt.Println(n, "messages are gone")
		return err
	})
	// Output: 3 messages are gone
}

func ExampleChannel_QueueDelete() {
	onChannel([]string{"a"}, func(ctx context.Context, ch *amqp.Channel) error {
		n, err := ch.QueueDelete(ctx, amqp.QueueDelete{Name: "jobs", IfUnused: true})
		fmt.Println(n, "message is gone with the queue")
		return err
	})
	// Output: 1 message is gone with the queue
}

func ExampleChannel_ExchangeDeclare() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		return ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "events", Kind: amqp.Topic, Durable: true})
	})
	// Output:
}

func ExampleChannel_ExchangeDelete() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		if err := ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "events", Kind: amqp.Topic, Durable: true}); err != nil {
			return err
		}
		return ch.ExchangeDelete(ctx, amqp.ExchangeDelete{Name: "events", IfUnused: true})
	})
	// Output:
}

// What is published to amq.topic and matches comes to amq.fanout, too, until it is unbound.
func ExampleChannel_ExchangeBind() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		if err := ch.QueueBind(ctx, amqp.Binding{Queue: "jobs", Exchange: "amq.fanout"}); err != nil {
			return err
		}
		binding := amqp.ExchangeBinding{Source: "amq.topic", Destination: "amq.fanout", RoutingKey: "order.#"}
		if err := ch.ExchangeBind(ctx, binding); err != nil {
			return err
		}
		if err := ch.Publish(ctx, "amq.topic", "order.new", amqp.Message{Body: []byte("carrots")}); err != nil {
			return err
		}
		body, _, err := ch.Get(ctx, "jobs", true)
		fmt.Printf("%s\n", body)
		return err
	})
	// Output: carrots
}

func ExampleChannel_ExchangeUnbind() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		binding := amqp.ExchangeBinding{Source: "amq.topic", Destination: "amq.fanout", RoutingKey: "order.#"}
		if err := ch.ExchangeBind(ctx, binding); err != nil {
			return err
		}
		return ch.ExchangeUnbind(ctx, binding)
	})
	// Output:
}
