package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// Rule 7: everything is safe for concurrent use. These tests run on the wall clock and over TCP, for the race detector.

// hanging is after how much real time a test counts as hanging. The machine may be busy with a dozen other things.
const hanging = 5 * time.Minute

// overTCP runs test with a broker behind a real socket. ctx ends when that takes far too long.
func overTCP(t *testing.T, test func(ctx context.Context, w *world), opts ...amqptest.Option) {
	t.Helper()
	broker := amqptest.NewBroker(opts...)
	defer broker.Close()
	cfg, err := amqp.ParseURI(broker.URI())
	require.NoError(t, err)
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.DialTimeout, cfg.CloseTimeout = hanging, hanging
	ctx, cancel := context.WithTimeout(t.Context(), hanging)
	defer cancel()
	test(ctx, &world{t, broker, cfg})
}

func TestEverythingAtOnceOnOneChannel(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		const publishers, each = 8, 200
		w.queue("in", 0)
		w.queue("bystander", 1000)
		var consumed [publishers][each]atomic.Int32
		err := amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
			return ch.WithConsumer(ctx, amqp.Consume{Queue: "in", Prefetch: 50}, func(c *amqp.Consumer) error {
				var left atomic.Int32
				left.Store(publishers * each)
				for range 3 {
					c.Go(func(context.Context) error {
						for body, env := range c.Messages() {
							var p, i int
							if _, err := fmt.Sscanf(string(body), "%d %d", &p, &i); err != nil {
								return err
							}
							consumed[p][i].Add(1)
							if err := env.Ack(); err != nil {
								return err
							}
							if left.Add(-1) == 0 {
								c.Stop()
							}
						}
						return nil
					})
				}
				for p := range publishers {
					c.Go(func(ctx context.Context) error {
						for i := range each {
							if err := ch.Publish(ctx, "", "in", amqp.Message{Body: fmt.Appendf(nil, "%d %d", p, i)}); err != nil {
								return err
							}
						}
						return nil
					})
					c.Go(func(ctx context.Context) error { // each declares its own, and must get its own answer
						for i := range 30 {
							name := fmt.Sprintf("own %d %d", p, i)
							status, err := ch.QueueDeclare(ctx, amqp.Queue{Name: name, Exclusive: true})
							if err == nil && status.Name != name {
								err = fmt.Errorf("asked for %q, got %q", name, status.Name)
							}
							if err != nil {
								return err
							}
						}
						return nil
					})
					c.Go(func(ctx context.Context) error {
						for range 30 {
							_, env, err := ch.Get(ctx, "bystander", false)
							if err != nil {
								return err
							}
							if err := env.Ack(); err != nil {
								return err
							}
						}
						return nil
					})
				}
				return nil
			})
		})
		require.NoError(w, err)
		for p := range consumed {
			for i := range consumed[p] {
				assert.EqualValues(w, 1, consumed[p][i].Load(), "message %d of publisher %d", i, p)
			}
		}
		assert.Equal(w, 1000-publishers*30, w.state("bystander").Ready)
		assert.Zero(w, w.state("in").Ready+w.state("in").Unacked)
	})
}

func TestConcurrentCallsOfOneKindGetTheirOwnAnswers(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		const n = 40
		require.NoError(w, amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
			for i := range n {
				name := strconv.Itoa(i)
				if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: name, Exclusive: true}); err != nil {
					return err
				}
				for range i {
					if err := ch.Publish(ctx, "", name, amqp.Message{Body: []byte(name)}); err != nil {
						return err
					}
				}
			}
			var all sync.WaitGroup
			for i := range n {
				name := strconv.Itoa(i)
				all.Go(func() {
					status, err := ch.QueueDeclare(ctx, amqp.Queue{Name: name, Passive: true})
					assert.NoError(w, err)
					assert.Equal(w, amqp.QueueStatus{Name: name, Messages: i}, status)
				})
			}
			all.Wait()
			for i := range n {
				name := strconv.Itoa(i)
				all.Go(func() {
					body, _, err := ch.Get(ctx, name, true)
					if i == 0 {
						assert.ErrorIs(w, err, amqp.ErrEmptyQueue)
						return
					}
					assert.NoError(w, err)
					assert.Equal(w, name, string(body))
				})
			}
			all.Wait()
			for i := range n {
				all.Go(func() {
					purged, err := ch.QueuePurge(ctx, amqp.QueuePurge{Name: strconv.Itoa(i)})
					assert.NoError(w, err)
					assert.Equal(w, max(0, i-1), purged)
				})
			}
			all.Wait()
			return nil
		}))
	})
}

func TestConfirmedPublishesFromManyGoroutines(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		const n = 200
		w.queue("q", 0)
		require.NoError(w, amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
			if err := ch.Confirm(ctx); err != nil {
				return err
			}
			for i := range n {
				ch.Go(func(ctx context.Context) error {
					key := "q"
					if i%10 == 0 {
						key = "nowhere"
					}
					err := ch.Publish(ctx, "", key, amqp.Message{Mandatory: true, Body: fmt.Append(nil, i)})
					if key == "nowhere" {
						assert.ErrorIs(w, err, amqp.ErrReturned, "%d", i)
						return nil
					}
					return err
				})
			}
			return nil
		}))
		assert.Equal(w, n-n/10, w.state("q").Ready)
	})
}

func TestPublishersReceiptsUnderConcurrency(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		w.queue("q", 0)
		var failed atomic.Int32
		onFailure := func(e *amqp.PublishError) error {
			failed.Add(1)
			assert.Equal(w, "nowhere", e.RoutingKey)
			return nil
		}
		require.NoError(w, amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
			return ch.WithPublisher(ctx, amqp.PublisherOptions{MaxInFlight: 10, Mandatory: true, OnFailure: onFailure}, func(p *amqp.Publisher) error {
				for g := range 8 {
					p.Go(func(ctx context.Context) error {
						for i := range 50 {
							key := "q"
							if i%5 == 0 {
								key = "nowhere"
							}
							r, err := p.Publish(ctx, "", key, amqp.Message{})
							if err != nil {
								return err
							}
							if g%2 == 0 {
								err = r.Wait(ctx)
								if (key == "nowhere") != errors.Is(err, amqp.ErrReturned) || key == "q" && err != nil {
									return fmt.Errorf("receipt of %q: %w", key, err)
								}
							} else if i%10 == 9 {
								if err := p.Wait(ctx); err != nil {
									return err
								}
							}
						}
						return nil
					})
				}
				return nil
			})
		}))
		assert.EqualValues(w, 80, failed.Load())
		assert.Equal(w, 320, w.state("q").Ready)
	})
}

// Scopes begin and end on many goroutines while the neighbours work.
func TestScopesComeAndGoConcurrently(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		w.queue("q", 0)
		require.NoError(w, amqp.WithConnection(ctx, w.cfg, func(conn *amqp.Conn) error {
			for g := range 8 {
				conn.Go(func(ctx context.Context) error {
					for i := range 25 {
						err := conn.WithChannel(ctx, func(ch *amqp.Channel) error {
							switch (g + i) % 4 {
							case 0:
								_, _, err := ch.Get(ctx, "none", true)
								if !errors.Is(err, amqp.NotFound) {
									return fmt.Errorf("expected NOT_FOUND: %w", err)
								}
								return nil
							case 1:
								return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
									for range c.Messages() {
										break
									}
									return nil
								})
							case 2:
								return fill(ch, "q", 0, 5)
							default:
								if err := ch.Publish(ctx, "", "q", amqp.Message{}); err != nil {
									return err
								}
								_, err := conn.QueueStatus(ctx, "q")
								return err
							}
						})
						if err != nil {
							return err
						}
					}
					return nil
				})
			}
			return nil
		}))
		assert.Empty(w, w.broker.Consumers())
		assert.Zero(w, w.state("q").Unacked)
	})
}

// The connection dies in the middle of everything. Nobody hangs, and everybody hears the same.
func TestDeathInTheMiddleOfEverything(t *testing.T) {
	for _, d := range deaths {
		t.Run(d.name, func(t *testing.T) {
			overTCP(t, func(ctx context.Context, w *world) {
				w.queue("q", 0)
				for range 3 {
					busy := make(chan struct{}, 100)
					err := amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
						for g := range 4 {
							ch.Go(func(ctx context.Context) error {
								for {
									if err := ch.Publish(ctx, "", "q", amqp.Message{Body: make([]byte, 1000<<(4*g))}); err != nil {
										return err
									}
									select {
									case busy <- struct{}{}:
									default:
									}
								}
							})
							ch.Go(func(ctx context.Context) error {
								for {
									if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q", Passive: true}); err != nil {
										return err
									}
								}
							})
						}
						return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
							c.Go(func(context.Context) error {
								for _, env := range c.Messages() {
									if err := env.Ack(); err != nil {
										return err
									}
								}
								return c.Err()
							})
							for range 50 {
								<-busy
							}
							d.strike(w)
							return nil
						})
					})
					require.Error(w, err)
					require.NoError(w, ctx.Err())
					if d.name == "reset" { // a write may see another error than the reader
						assert.ErrorIs(w, err, amqp.ErrConnectionClosed)
					} else {
						d.proves(w, err, "WithChannel")
					}
				}
			})
		})
	}
}

// Whoever uses the channel at the moment of the exception hears of it, and not that the channel's scope has ended, which is
// what it ends with afterwards.
func TestTheExceptionIsHeardFromItsFirstMoment(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		require.NoError(w, amqp.WithConnection(ctx, w.cfg, func(conn *amqp.Conn) error {
			for range 60 {
				err := conn.WithChannel(ctx, func(ch *amqp.Channel) error {
					going := make(chan struct{}, 2)
					for range cap(going) {
						ch.Go(func(ctx context.Context) error {
							for i := 0; ; i++ {
								if i == 1 {
									going <- struct{}{}
								}
								// What was never delivered can't be refused, and nothing is sent.
								if err := ch.Nack(1, false, false); !errors.Is(err, amqp.PreconditionFailed) {
									return err
								}
							}
						})
					}
					<-going
					w.broker.CloseChannels(404, "NOT_FOUND - because")
					return nil
				})
				if !errors.Is(err, amqp.NotFound) {
					return fmt.Errorf("expected NOT_FOUND: %w", err)
				}
			}
			return nil
		}))
	})
}

// Whoever is turned away because the connection is lost finds that its channel is, too: one that ends at that moment
// does not claim that it was closed in order, after the broker had what was settled on it.
func TestAChannelThatEndsAtTheLossReportsIt(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		for range 50 {
			err := amqp.WithConnection(ctx, w.cfg, func(conn *amqp.Conn) error {
				return inChannels(ctx, w, conn, 100, func(ch *amqp.Channel) error {
					w.broker.Sever()
					for ch.Publish(context.WithoutCancel(ctx), "", "nowhere", amqp.Message{}) == nil {
					}
					assert.ErrorIs(w, context.Cause(ch.Context()), amqp.ErrConnectionClosed)
					assert.ErrorIs(w, context.Cause(conn.Context()), amqp.ErrConnectionClosed)
					return nil
				})
			})
			require.ErrorIs(w, err, amqp.ErrConnectionClosed)
		}
	})
}

// inChannels runs body in the last of n channels, each opened inside of the one before, and checks that every one
// reports the loss of the connection.
func inChannels(ctx context.Context, w *world, conn *amqp.Conn, n int, body func(*amqp.Channel) error) error {
	return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
		if n == 1 {
			return body(ch)
		}
		assert.ErrorIs(w, inChannels(ctx, w, conn, n-1, body), amqp.ErrConnectionClosed, "what WithChannel returns")
		return nil
	})
}

// A range over the alarms ends when the connection's scope has, and not before.
func TestTheEndOfARangeOverAlarmsIsTheConnections(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		for range 5 {
			err := amqp.WithConnection(ctx, w.cfg, func(conn *amqp.Conn) error {
				changes := conn.Blocked()
				for range 10_000 {
					conn.Blocked()
				}
				w.broker.Sever()
				for range changes { // there are none
				}
				assert.ErrorIs(w, context.Cause(conn.Context()), amqp.ErrConnectionClosed)
				return nil
			})
			require.ErrorIs(w, err, amqp.ErrConnectionClosed)
		}
	})
}

// Whoever has heard of the exception finds the channel's number free.
func TestTheNumberOfAnEndedChannelIsFree(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		require.NoError(w, amqp.WithConnection(ctx, w.cfg, func(conn *amqp.Conn) error {
			for range 300 {
				require.NoError(w, conn.WithChannel(ctx, func(ch *amqp.Channel) error {
					require.EqualValues(w, 1, ch.ID())
					_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "missing", Passive: true})
					require.ErrorIs(w, err, amqp.NotFound)
					return nil
				}))
			}
			return nil
		}))
	})
}
