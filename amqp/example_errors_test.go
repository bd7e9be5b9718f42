package amqp_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/leveret-mq/leveret/amqp"
)

// A reply code is an error, so that errors.Is finds it.
func ExampleReplyCode() {
	onConn(func(ctx context.Context, conn *amqp.Conn) error {
		err := conn.WithChannel(ctx, func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "missing", Passive: true})
			return err
		})
		fmt.Println(errors.Is(err, amqp.NotFound), errors.Is(err, amqp.ErrChannelClosed), errors.Is(err, amqp.ErrConnectionClosed))
		return nil
	})
	// Output: true true false
}

// What the broker said, in its words.
func ExampleError() {
	onConn(func(ctx context.Context, conn *amqp.Conn) error {
		err := conn.WithChannel(ctx, func(ch *amqp.Channel) error {
			if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "jobs", Durable: true}); err != nil {
				return err
			}
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "jobs", Durable: true, AutoDelete: true})
			return err
		})
		var said *amqp.Error
		if errors.As(err, &said) {
			fmt.Println(uint16(said.Code), said.Connection)
			fmt.Println(said.Text)
		}
		return nil
	})
	// Output:
	// 406 false
	// PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue 'jobs' in vhost '/': received 'true' but current is 'false'
}

// An exception that answers a call is that call's error. The caller may handle it, and then nobody else hears of it.
func ExampleError_handled() {
	onConn(func(ctx context.Context, conn *amqp.Conn) error {
		err := conn.WithChannel(ctx, func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "missing", Passive: true})
			if errors.Is(err, amqp.NotFound) {
				return nil // but this channel is gone: see Conn.QueueStatus
			}
			return err
		})
		fmt.Println(err)
		return nil
	})
	// Output: <nil>
}

// An exception that no call was told comes out of the scope, even when its body returned nil.
func ExampleError_untold() {
	onConn(func(ctx context.Context, conn *amqp.Conn) error {
		err := conn.WithChannel(ctx, func(ch *amqp.Channel) error {
			if err := ch.Publish(ctx, "missing", "", amqp.Message{}); err != nil { // returns before the broker objects
				return err
			}
			<-ch.Context().Done()
			return nil
		})
		fmt.Println(errors.Is(err, amqp.NotFound))
		return nil
	})
	// Output: true
}

func ExamplePublishError() {
	onChannel(nil, func(ctx context.Context, ch *amqp.Channel) error {
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		err := ch.Publish(ctx, "", "jbos", amqp.Message{Mandatory: true})
		var failure *amqp.PublishError
		if errors.As(err, &failure) {
			fmt.Println(failure.RoutingKey, failure.Sequence, failure.Return.ReplyText)
		}
		return nil
	})
	// Output: jbos 1 NO_ROUTE
}
