package amqp_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

func TestConsumerThatTheBrokerEndedIsReportedUnlessErrWasAsked(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		live := context.Background()
		consume := func(body func(*amqp.Consumer) error) error {
			return w.channel(func(ch *amqp.Channel) error { return ch.WithConsumer(live, amqp.Consume{Queue: "q"}, body) })
		}
		drain := func(c *amqp.Consumer) {
			w.broker.CancelConsumers("q")
			for range c.Messages() {
				assert.Fail(w, "a message")
			}
		}
		err := consume(func(c *amqp.Consumer) error { drain(c); return nil })
		assert.ErrorIs(w, err, amqp.ErrConsumerCancelled)
		assert.Equal(w, 1, flat(err))

		assert.NoError(w, consume(func(c *amqp.Consumer) error {
			drain(c)
			assert.ErrorIs(w, c.Err(), amqp.ErrConsumerCancelled)
			assert.ErrorIs(w, context.Cause(c.Context()), amqp.ErrConsumerCancelled)
			return nil
		}))

		err = consume(func(c *amqp.Consumer) error { drain(c); return c.Err() })
		assert.ErrorIs(w, err, amqp.ErrConsumerCancelled)
		assert.Equal(w, 1, flat(err))

		err = consume(func(c *amqp.Consumer) error { drain(c); return c.Context().Err() })
		assert.ErrorIs(w, err, amqp.ErrConsumerCancelled, "an echo stands for the cause")
		assert.Equal(w, 1, flat(err))

		assert.ErrorIs(w, consume(func(c *amqp.Consumer) error { // a task that the body waits for
			done := make(chan struct{})
			c.Go(func(context.Context) error { drain(c); close(done); return nil })
			<-done
			return nil
		}), amqp.ErrConsumerCancelled)
	})
}

func TestConsumersOfADeletedQueueAreTold(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 3)
		live := context.Background()
		got := 0
		err := w.channel(func(ch *amqp.Channel) error {
			return ch.WithConsumer(live, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
				synctest.Wait()
				if _, err := ch.QueueDelete(live, amqp.QueueDelete{Name: "q"}); err != nil {
					return err
				}
				for _, env := range c.Messages() {
					got++
					if err := env.Ack(); err != nil {
						return err
					}
				}
				return nil
			})
		})
		assert.ErrorIs(w, err, amqp.ErrConsumerCancelled)
		assert.Equal(w, 3, got, "what came before is still handed out")
	})
}

func TestNackedAndReturnedMessagesAreToldOnce(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		live := context.Background()
		publish := func(opts amqp.PublisherOptions, key string, n int) error {
			return w.channel(func(ch *amqp.Channel) error {
				return ch.WithPublisher(live, opts, func(p *amqp.Publisher) error {
					for range n {
						if _, err := p.Publish(live, "", key, amqp.Message{}); err != nil {
							return err
						}
					}
					return nil
				})
			})
		}
		w.broker.NackNext(1)
		err := publish(amqp.PublisherOptions{}, "q", 1)
		assert.ErrorIs(w, err, amqp.ErrNacked)
		assert.Equal(w, 1, flat(err), "%v", err)
		var failed *amqp.PublishError
		if assert.ErrorAs(w, err, &failed) {
			assert.Equal(w, "q", failed.RoutingKey)
			assert.EqualValues(w, 1, failed.Sequence)
		}

		err = publish(amqp.PublisherOptions{Mandatory: true}, "nowhere", 1)
		assert.ErrorIs(w, err, amqp.ErrReturned)
		assert.Equal(w, 1, flat(err), "%v", err)
		if assert.ErrorAs(w, err, &failed) && assert.NotNil(w, failed.Return) {
			assert.Equal(w, amqp.NoRoute, failed.Return.ReplyCode)
		}

		var told []*amqp.PublishError
		require.NoError(w, publish(amqp.PublisherOptions{Mandatory: true, OnFailure: func(e *amqp.PublishError) error {
			told = append(told, e)
			return nil
		}}, "nowhere", 3), "OnFailure took them")
		assert.Len(w, told, 3)

		enough := errors.New("enough")
		err = publish(amqp.PublisherOptions{Mandatory: true, OnFailure: func(*amqp.PublishError) error { return enough }}, "nowhere", 1)
		assert.Equal(w, enough, err)
	})
}

// The first failure ends a publisher's scope. Those of the messages that were on the way as well would only repeat it,
// and there may be thousands of them.
func TestPublisherReportsItsFirstFailureAlone(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		live := context.Background()
		for name, end := range map[string]func(){
			"nack":  func() {},
			"reset": w.broker.Sever,
		} {
			err := w.channel(func(ch *amqp.Channel) error {
				return ch.WithPublisher(live, amqp.PublisherOptions{MaxInFlight: 5000}, func(p *amqp.Publisher) error {
					lost := func() {}
					if name == "nack" {
						w.broker.NackNext(1000)
					} else {
						lost = w.lose("basic.publish")
					}
					defer lost()
					for range 1000 {
						if _, err := p.Publish(live, "", "q", amqp.Message{}); err != nil {
							return err
						}
					}
					end()
					<-p.Context().Done()
					synctest.Wait()
					return nil
				})
			})
			var first *amqp.PublishError
			require.ErrorAs(w, err, &first, name)
			assert.EqualValues(w, 1, first.Sequence, name)
			assert.Equal(w, 1, flat(err), name)
		}
	})
}
