package demo

import (
	"context"
	"fmt"

	"github.com/leveret-mq/leveret/amqp"
)

// Text is a message with its routing key.
type Text struct{ RoutingKey, Body string }

// Publish is a counterpart that publishes texts to an exchange.
func Publish(exchange string, texts ...Text) Program {
	return func(ctx context.Context, cfg amqp.Config) error {
		return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			if err := ch.Confirm(ctx); err != nil {
				return err
			}
			for _, t := range texts {
				fmt.Printf("\t(the other side sends %q with routing key %q)\n", t.Body, t.RoutingKey)
				if err := ch.Publish(ctx, exchange, t.RoutingKey, amqp.Message{Body: []byte(t.Body)}); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// PrintQueue is a counterpart that prints what comes to a durable queue.
func PrintQueue(name string) Program {
	return func(ctx context.Context, cfg amqp.Config) error {
		return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: name, Durable: true}); err != nil {
				return err
			}
			return show(ctx, ch, name)
		})
	}
}

// PrintExchange is a counterpart that prints what an exchange routes by a key.
func PrintExchange(e amqp.Exchange, routingKey string) Program {
	return func(ctx context.Context, cfg amqp.Config) error {
		return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			if err := ch.ExchangeDeclare(ctx, e); err != nil {
				return err
			}
			queue, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
			if err != nil {
				return err
			}
			if err := ch.QueueBind(ctx, amqp.Binding{Queue: queue.Name, Exchange: e.Name, RoutingKey: routingKey}); err != nil {
				return err
			}
			return show(ctx, ch, queue.Name)
		})
	}
}

func show(ctx context.Context, ch *amqp.Channel, queue string) error {
	return ch.WithConsumer(ctx, amqp.Consume{Queue: queue}, func(c *amqp.Consumer) error {
		for body, env := range c.Messages() {
			fmt.Printf("\t(the other side received %q)\n", body)
			if err := env.Ack(); err != nil {
				return err
			}
		}
		return c.Err()
	})
}
