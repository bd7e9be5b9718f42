package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// Without confirms a message is on its way when Publish returns, and that is all that is known.
func ExampleChannel_Publish() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		msg := amqp.Message{
			Properties: amqp.Properties{
				ContentType:  "application/json",
				DeliveryMode: amqp.Persistent,
				MessageID:    "order-17",
				Headers:      amqp.Table{"attempt": 1},
			},
			Body: []byte(`{"carrots": 3}`),
		}
		if err := ch.Publish(ctx, "", "jobs", msg); err != nil {
			return err
		}
		body, env, err := ch.Get(ctx, "jobs", true)
		fmt.Printf("%s %s %v\n", body, env.Properties.ContentType, env.Properties.Headers)
		return err
	})
	// Output: {"carrots": 3} application/json map[attempt:1]
}

// With confirms it returns when the broker has the message, and Mandatory makes sure that a queue has it.
func ExampleChannel_Confirm() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		msg := amqp.Message{Body: []byte("carrots"), Mandatory: true}
		fmt.Println(ch.Publish(ctx, "", "jobs", msg))
		err := ch.Publish(ctx, "", "jbos", msg)
		fmt.Println(errors.Is(err, amqp.ErrReturned))
		return nil
	})
	// Output:
	// <nil>
	// true
}

func ExampleChannel_Returns() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		returns := ch.Returns() // from here on nothing is missed
		if err := ch.Publish(ctx, "", "jbos", amqp.Message{Body: []byte("carrots"), Mandatory: true}); err != nil {
			return err
		}
		for body, ret := range returns {
			fmt.Printf("%s came back from %q: %v\n", body, ret.RoutingKey, ret.ReplyCode)
			break
		}
		return nil
	})
	// Output: carrots came back from "jbos": 312 NO_ROUTE
}

// A publisher does not wait for one confirm after the other. Its scope ends when all have come, and the first message
// that failed fails it.
func ExampleChannel_WithPublisher() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		opts := amqp.PublisherOptions{MaxInFlight: 100, Mandatory: true}
		err := ch.WithPublisher(ctx, opts, func(p *amqp.Publisher) error {
			for i := range 1000 {
				if _, err := p.Publish(ctx, "", "jobs", amqp.Message{Body: fmt.Append(nil, i)}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		n, err := ch.QueuePurge(ctx, amqp.QueuePurge{Name: "jobs"})
		fmt.Println("the broker has", n)
		return err
	})
	// Output: the broker has 1000
}

// With OnFailure the program decides about each message that failed.
func ExamplePublisherOptions() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		opts := amqp.PublisherOptions{
			Mandatory: true,
			OnFailure: func(e *amqp.PublishError) error {
				fmt.Println("failed:", e.RoutingKey, e.Return.ReplyText)
				return nil // go on with the others; an error would end the publisher's scope
			},
		}
		return ch.WithPublisher(ctx, opts, func(p *amqp.Publisher) error {
			for _, queue := range []string{"jobs", "jbos", "jobs"} {
				if _, err := p.Publish(ctx, "", queue, amqp.Message{}); err != nil {
					return err
				}
			}
			return nil
		})
	})
	// Output: failed: jbos NO_ROUTE
}

// A receipt stands for the outcome of one message.
func ExamplePublisher_Publish() {
	onBroker(func(ctx context.Context, cfg amqp.Config, broker *amqptest.Broker) error {
		goOn := func(*amqp.PublishError) error { return nil }
		return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			return ch.WithPublisher(ctx, amqp.PublisherOptions{OnFailure: goOn}, func(p *amqp.Publisher) error {
				broker.NackNext(1) // the broker refuses the first
				first, err := p.Publish(ctx, "amq.fanout", "", amqp.Message{})
				if err != nil {
					return err
				}
				second, err := p.Publish(ctx, "amq.fanout", "", amqp.Message{})
				if err != nil {
					return err
				}
				fmt.Println(errors.Is(first.Wait(ctx), amqp.ErrNacked))
				fmt.Println(second.Wait(ctx))
				return nil
			})
		})
	})
	// Output:
	// true
	// <nil>
}

func ExampleReceipt_Wait() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithPublisher(ctx, amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
			receipt, err := p.Publish(ctx, "", "jobs", amqp.Message{Body: []byte("carrots")})
			if err != nil {
				return err
			}
			// … something else meanwhile …
			fmt.Println(receipt.Wait(ctx))
			return nil
		})
	})
	// Output: <nil>
}

// A barrier between two stages.
func ExamplePublisher_Wait() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithPublisher(ctx, amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
			for stage := range 2 {
				for range 10 {
					if _, err := p.Publish(ctx, "", "jobs", amqp.Message{Body: fmt.Append(nil, stage)}); err != nil {
						return err
					}
				}
				if err := p.Wait(ctx); err != nil {
					return err
				}
				fmt.Println("the broker has all of stage", stage)
			}
			return nil
		})
	})
	// Output:
	// the broker has all of stage 0
	// the broker has all of stage 1
}

// A message is moved: it is taken from one queue and put into the other, or neither.
func ExampleChannel_WithTx() {
	onChannel([]string{"carrots"}, func(ctx context.Context, ch *amqp.Channel) error {
		done, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
		if err != nil {
			return err
		}
		body, env, err := ch.Get(ctx, "jobs", false)
		if err != nil {
			return err
		}
		failure := errors.New("the disk is full")
		err = ch.WithTx(ctx, func() error {
			if err := ch.Publish(ctx, "", done.Name, amqp.Message{Body: body}); err != nil {
				return err
			}
			if err := env.Ack(); err != nil {
				return err
			}
			return failure // rolls both back
		})
		fmt.Println(err)
		return ch.WithTx(ctx, func() error {
			n, err := ch.QueuePurge(ctx, amqp.QueuePurge{Name: done.Name})
			fmt.Println(n, "were published")
			return err
		})
	})
	// Output:
	// the disk is full
	// 0 were published
}

func ExampleTTL() {
	fmt.Println(amqp.TTL(90*time.Second), amqp.TTL(time.Microsecond), amqp.TTL(-1))
	// Output: 90000 1 0
}

// Values that AMQP does not know are refused before anything is sent.
func ExampleTable() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		headers := amqp.Table{"customer": amqp.Table{"name": "Ann", "since": 2019, "card": struct{}{}}}
		err := ch.Publish(ctx, "", "jobs", amqp.Message{Properties: amqp.Properties{Headers: headers}})
		fmt.Println(err)
		return nil
	})
	// Output: amqp: publish to exchange "" with routing key "jobs": headers.customer.card: type struct {} can't be carried in a table
}

func ExampleDecimal() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		price := amqp.Table{"price": amqp.Decimal{Scale: 2, Value: 1999}}
		if err := ch.Publish(ctx, "", "jobs", amqp.Message{Properties: amqp.Properties{Headers: price}}); err != nil {
			return err
		}
		_, env, err := ch.Get(ctx, "jobs", true)
		if err != nil {
			return err
		}
		d := env.Properties.Headers["price"].(amqp.Decimal)
		fmt.Printf("%d / 10^%d\n", d.Value, d.Scale)
		return nil
	})
	// Output: 1999 / 10^2
}
