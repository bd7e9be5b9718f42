package amqp_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/scope"
)

// What a lost connection did to a message is no outcome: whoever publishes on an outbox hears nothing of the loss.
func TestOutboxTellsNobodyOfALoss(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("orders", 0)
		var published atomic.Int64
		w.broker.On("basic.publish", func(*amqptest.Event) amqptest.Action {
			if published.Add(1)%37 == 0 {
				return amqptest.Sever()
			}
			return amqptest.Pass()
		})
		outbox := amqp.NewOutbox(amqp.OutboxOptions{})
		require.NoError(w, scope.Run(context.Background(), func(s *scope.Scope) error {
			s.Go(func(ctx context.Context) error {
				return amqp.Supervise(ctx, w.cfg, amqp.Retry{Min: time.Millisecond, Max: time.Millisecond}, outbox.Run)
			})
			err := scope.Run(s.Context(), func(customers *scope.Scope) error {
				for c := range 8 {
					customers.Go(func(ctx context.Context) error {
						for i := range 200 {
							if err := outbox.Publish(ctx, "", "orders", amqp.Message{Body: fmt.Append(nil, c, "/", i)}); err != nil {
								return err
							}
						}
						return nil
					})
				}
				return nil
			})
			s.Cancel(nil)
			return err
		}))
		require.GreaterOrEqual(w, w.state("orders").Ready, 8*200)
	})
}

// Of several messages on their way, the one to a missing exchange is the one that is told.
func TestOutboxTellsTheCulpritAlone(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("orders", 0)
		outbox := amqp.NewOutbox(amqp.OutboxOptions{})
		require.NoError(w, scope.Run(context.Background(), func(s *scope.Scope) error {
			s.Go(func(ctx context.Context) error {
				return amqp.Supervise(ctx, w.cfg, amqp.Retry{}, outbox.Run)
			})
			err := scope.Run(s.Context(), func(customers *scope.Scope) error {
				for range 8 {
					customers.Go(func(ctx context.Context) error {
						for i := range 100 {
							if i%10 == 9 {
								require.ErrorIs(w, outbox.Publish(ctx, "missing", "", amqp.Message{}), amqp.NotFound)
							} else if err := outbox.Publish(ctx, "", "orders", amqp.Message{}); err != nil {
								return err
							}
						}
						return nil
					})
				}
				return nil
			})
			s.Cancel(nil)
			return err
		}))
		require.GreaterOrEqual(w, w.state("orders").Ready, 8*90)
	})
}
