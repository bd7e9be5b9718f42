package integration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

func TestPublisher(t *testing.T) {
	const messages = 3000
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				require.NoError(t, ch.WithPublisher(ctx, amqp.PublisherOptions{MaxInFlight: 100}, func(p *amqp.Publisher) error {
					var last amqp.Receipt
					for i := range messages {
						receipt, err := p.Publish(ctx, "", q, amqp.Message{Body: fmt.Append(nil, i)})
						if err != nil {
							return err
						}
						last = receipt
					}
					require.NoError(t, last.Wait(ctx))
					require.NoError(t, last.Wait(ctx), "an outcome stays")
					return p.Wait(ctx)
				}))
				requireCount(t, ctx, conn, q, messages)
			}))
		})
	})
}

// The scope does not end before every message has its outcome.
func TestPublisherScopeWaitsForOutcomes(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			for range 20 {
				require.NoError(t, ch.WithPublisher(ctx, amqp.PublisherOptions{Mandatory: true}, func(p *amqp.Publisher) error {
					for range 50 {
						if _, err := p.Publish(ctx, "", q, amqp.Message{}); err != nil {
							return err
						}
					}
					return nil
				}))
			}
			n, err := ch.QueuePurge(ctx, amqp.QueuePurge{Name: q})
			require.NoError(t, err)
			assert.Equal(t, 1000, n)
		})
	})
}

// A message that comes back is told from its neighbours exactly.
func TestPublisherMatchesReturns(t *testing.T) {
	const messages = 300
	stray := func(i int) bool { return i%3 == 0 || i%7 == 0 }
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			var mu sync.Mutex
			var told []string
			opts := amqp.PublisherOptions{Mandatory: true, OnFailure: func(failure *amqp.PublishError) error {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, failure.Return.Properties.MessageID)
				assert.ErrorIs(t, failure, amqp.ErrReturned)
				return nil
			}}
			var want []string
			require.NoError(t, ch.WithPublisher(ctx, opts, func(p *amqp.Publisher) error {
				receipts := make([]amqp.Receipt, messages)
				for i := range receipts {
					key := q
					if stray(i) {
						key = "nowhere"
						want = append(want, fmt.Sprint(i))
					}
					var err error
					receipts[i], err = p.Publish(ctx, "", key, amqp.Message{Properties: amqp.Properties{MessageID: fmt.Sprint(i)}})
					require.NoError(t, err)
				}
				for i, receipt := range receipts {
					err := receipt.Wait(ctx)
					if !stray(i) {
						require.NoError(t, err)
						continue
					}
					require.ErrorIs(t, err, amqp.ErrReturned)
					var failure *amqp.PublishError
					require.ErrorAs(t, err, &failure)
					require.Equal(t, fmt.Sprint(i), failure.Return.Properties.MessageID)
				}
				return nil
			}))
			assert.Equal(t, want, told)
		})
	})
}

func TestPublisherFailsItsScope(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			err := ch.WithPublisher(ctx, amqp.PublisherOptions{Mandatory: true}, func(p *amqp.Publisher) error {
				_, err := p.Publish(ctx, "", "nowhere", amqp.Message{})
				require.NoError(t, err)
				<-p.Context().Done()
				return nil
			})
			require.ErrorIs(t, err, amqp.ErrReturned)

			mine := errors.New("mine")
			opts := amqp.PublisherOptions{Mandatory: true, OnFailure: func(*amqp.PublishError) error { return mine }}
			err = ch.WithPublisher(ctx, opts, func(p *amqp.Publisher) error {
				_, err := p.Publish(ctx, "", "nowhere", amqp.Message{})
				return err
			})
			require.ErrorIs(t, err, mine)
		})
	})
}

func TestPublisherHearsOfRefusedMessages(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, amqp.Table{"x-max-length": 2, "x-overflow": "reject-publish"})
			refused := 0
			opts := amqp.PublisherOptions{OnFailure: func(failure *amqp.PublishError) error {
				refused++
				assert.ErrorIs(t, failure, amqp.ErrNacked)
				assert.Equal(t, q, failure.RoutingKey)
				return nil
			}}
			require.NoError(t, ch.WithPublisher(ctx, opts, func(p *amqp.Publisher) error {
				for range 10 {
					if _, err := p.Publish(ctx, "", q, amqp.Message{}); err != nil {
						return err
					}
				}
				return p.Wait(ctx)
			}))
			assert.Equal(t, 8, refused)
		})
	})
}

func TestPublisherToAMissingExchange(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			err := conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				return ch.WithPublisher(ctx, amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
					receipt, err := p.Publish(ctx, "missing", "k", amqp.Message{})
					if err != nil {
						return err
					}
					err = receipt.Wait(ctx)
					require.ErrorIs(t, err, amqp.ErrUnconfirmed)
					return err
				})
			})
			requireException(t, err, amqp.NotFound, "no exchange 'missing'")
		})
	})
}

func TestPublisherFromManyGoroutines(t *testing.T) {
	const publishers, each = 8, 250
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				require.NoError(t, ch.WithPublisher(ctx, amqp.PublisherOptions{MaxInFlight: 10}, func(p *amqp.Publisher) error {
					for range publishers {
						p.Go(func(ctx context.Context) error {
							for i := range each {
								receipt, err := p.Publish(ctx, "", q, amqp.Message{Body: checked(i)})
								if err != nil {
									return err
								}
								if i%10 == 0 {
									if err := receipt.Wait(ctx); err != nil {
										return err
									}
								}
							}
							return nil
						})
					}
					return nil
				}))
				requireCount(t, ctx, conn, q, publishers*each)
			}))
		})
	})
}
