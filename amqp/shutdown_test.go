package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/scope"
)

// Shutting down: what was begun is finished, what was not goes back, nothing is lost and nothing hangs.

var errSignal = errors.New("SIGTERM")

// Every message is handled once or back in the queue, whenever the signal comes.
func TestShutdownLosesAndDoublesNothing(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond, 47 * time.Millisecond} {
		for _, prefetch := range []int{1, 8, 0, -1} {
			t.Run(fmt.Sprintf("after %v with prefetch %d", after, prefetch), func(t *testing.T) {
				bubble(t, func(w *world) {
					const n = 500
					w.queue("q", n)
					w.queue("out", 0)
					ctx, cancel := context.WithCancelCause(context.Background())
					time.AfterFunc(after, func() { cancel(errSignal) })
					var mu sync.Mutex
					var handled []int
					err := amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
						if err := ch.Confirm(ctx); err != nil {
							return err
						}
						return ch.WithConsumer(ctx, amqp.Consume{Queue: "q", Prefetch: prefetch}, func(c *amqp.Consumer) error {
							return c.Process(5, func(ctx context.Context, body []byte, _ *amqp.Envelope) error {
								time.Sleep(2 * time.Millisecond)
								i, _ := strconv.Atoi(string(body))
								return scope.Shield(ctx, time.Second, func(ctx context.Context) error {
									if err := ch.Publish(ctx, "", "out", amqp.Message{Body: body}); err != nil {
										return err
									}
									mu.Lock()
									defer mu.Unlock()
									handled = append(handled, i)
									return nil
								})
							})
						})
					})
					assert.ErrorIs(w, err, errSignal)
					assert.Equal(w, 1, flat(err), "%v", err)
					left := w.state("q")
					assert.Zero(w, left.Unacked)
					assert.Equal(w, n, len(handled)+left.Ready)
					assert.Equal(w, len(handled), w.state("out").Ready)
					for _, body := range w.bodies("q") {
						i, _ := strconv.Atoi(body)
						handled = append(handled, i)
					}
					slices.Sort(handled)
					for i := range handled {
						require.Equal(w, i, handled[i])
					}
				})
			})
		}
	}
}

// Stop is the gentle way: what is in hand is finished with a live context, and what waits goes back.
func TestStopFinishesWhatIsInHandAndCancelsNothing(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 20)
		require.NoError(w, w.consume(amqp.Consume{}, func(_ *amqp.Channel, c *amqp.Consumer) error {
			return c.Process(3, func(ctx context.Context, _ []byte, env *amqp.Envelope) error {
				if env.DeliveryTag == 6 {
					c.Stop()
				}
				time.Sleep(time.Minute)
				return ctx.Err()
			})
		}))
		assert.Equal(w, numbers(6, 20), w.bodies("q"))
	})
}

func TestBrokerThatShutsDownSaysSo(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 100)
		live := context.Background()
		err := w.consume(amqp.Consume{}, func(ch *amqp.Channel, c *amqp.Consumer) error {
			c.Go(func(context.Context) error {
				for ch.Publish(live, "", "q", amqp.Message{}) == nil {
					time.Sleep(time.Millisecond)
				}
				return nil
			})
			for _, env := range c.Messages() {
				if env.DeliveryTag == 50 {
					w.broker.Close()
				}
				if err := env.Ack(); err != nil {
					return err
				}
			}
			return nil
		})
		assert.ErrorIs(w, err, amqp.ConnectionForced)
		assert.Equal(w, 1, flat(err), "%v", err)
	})
}

// Both sides say goodbye at the same time.
func TestGoodbyeCrossesTheBrokers(t *testing.T) {
	bubble(t, func(w *world) {
		for range 50 {
			w.cfg.CloseTimeout = time.Second
			begin := time.Now()
			err := w.connect(func(*amqp.Conn) error {
				w.broker.CloseConnections(320, "CONNECTION_FORCED")
				return nil
			})
			if err != nil {
				assert.ErrorIs(w, err, amqp.ConnectionForced)
			}
			assert.Less(w, time.Since(begin), w.cfg.CloseTimeout)
			assert.Zero(w, own())
		}
	})
}

func TestShutdownWhileEverythingIsStuck(t *testing.T) {
	sticks := map[string]func(w *world){
		"stalled broker": func(w *world) { w.broker.Stall() },
		"alarm":          func(w *world) { w.broker.Block("disk") },
	}
	for name, stick := range sticks {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 100)
				w.cfg.CloseTimeout = 4 * time.Second
				ctx, cancel := context.WithCancelCause(context.Background())
				var begin time.Time
				err := amqp.WithConnection(ctx, w.cfg, func(conn *amqp.Conn) error {
					for range 3 {
						conn.Go(func(ctx context.Context) error {
							return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
								return ch.WithPublisher(ctx, amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
									for {
										if _, err := p.Publish(ctx, "", "q", amqp.Message{Body: make([]byte, 20<<10)}); err != nil {
											return err
										}
										time.Sleep(time.Millisecond)
									}
								})
							})
						})
						conn.Go(func(ctx context.Context) error {
							return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
								return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
									return c.Process(2, func(context.Context, []byte, *amqp.Envelope) error { time.Sleep(time.Millisecond); return nil })
								})
							})
						})
					}
					time.Sleep(50 * time.Millisecond)
					stick(w)
					time.Sleep(10 * time.Second)
					begin = time.Now()
					cancel(errSignal)
					return nil
				})
				assert.ErrorIs(w, err, errSignal)
				assert.LessOrEqual(w, time.Since(begin), w.cfg.CloseTimeout, "%v", err)
				assert.Zero(w, own())
				w.broker.Resume()
				w.broker.Unblock()
			})
		})
	}
}

// The signal comes while something is being opened.
func TestShutdownWhileOpening(t *testing.T) {
	for _, step := range []string{"connection.start-ok", "connection.open", "channel.open", "confirm.select", "basic.qos", "basic.consume"} {
		t.Run(step, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 10)
				remove := w.slow(step, 3*time.Second)
				defer remove()
				ctx, cancel := context.WithCancelCause(context.Background())
				time.AfterFunc(time.Second, func() { cancel(errSignal) })
				err := amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
					if err := ch.Confirm(ctx); err != nil {
						return err
					}
					return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(*amqp.Consumer) error { return errors.New("consumed") })
				})
				assert.ErrorIs(w, err, errSignal)
				assert.Equal(w, 1, flat(err), "%v", err)
				synctest.Wait()
				time.Sleep(10 * time.Second)
				assert.Equal(w, 10, w.state("q").Ready)
				assert.Empty(w, w.broker.Connections())
				assert.Zero(w, own())
			})
		})
	}
}

// A program that supervises its connection ends when its context does, also in the middle of a wait.
func TestShutdownOfASupervisedProgram(t *testing.T) {
	bubble(t, func(w *world) {
		ctx, cancel := context.WithCancelCause(context.Background())
		w.broker.Close()
		time.AfterFunc(time.Hour, func() { cancel(errSignal) })
		begin := time.Now()
		err := amqp.Supervise(ctx, w.cfg, amqp.Retry{}, func(*amqp.Conn) error { return nil })
		assert.ErrorIs(w, err, errSignal)
		assert.Equal(w, time.Hour, time.Since(begin))
		assert.Zero(w, own())
	})
}

// Outcomes that are on their way when the signal comes are still waited for.
func TestPublisherGetsItsOutcomesAtShutdown(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		late := amqptest.Delay(2 * time.Second)
		w.broker.On("basic.ack", func(*amqptest.Event) amqptest.Action {
			first := late
			late = amqptest.Pass()
			return first
		})
		ctx, cancel := context.WithCancelCause(context.Background())
		var receipts []amqp.Receipt
		err := amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
			err := ch.WithPublisher(ctx, amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
				for range 10 {
					r, err := p.Publish(ctx, "", "q", amqp.Message{})
					if err != nil {
						return err
					}
					receipts = append(receipts, r)
				}
				cancel(errSignal)
				return nil
			})
			for _, r := range receipts {
				assert.NoError(w, r.Wait(context.Background()))
			}
			return err
		})
		assert.Equal(w, errSignal, err)
		assert.Equal(w, 10, w.state("q").Ready)
	})
}

func TestPublisherThatGetsNoOutcomesSaysHowMany(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		w.lose("basic.ack")
		ctx, cancel := context.WithCancelCause(context.Background())
		begin := time.Now()
		err := amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
			return ch.WithPublisher(ctx, amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
				for range 10 {
					if _, err := p.Publish(ctx, "", "q", amqp.Message{}); err != nil {
						return err
					}
				}
				cancel(errSignal)
				return nil
			})
		})
		assert.ErrorIs(w, err, errSignal)
		assert.ErrorIs(w, err, amqp.ErrUnconfirmed)
		assert.ErrorContains(w, err, "10 messages")
		assert.LessOrEqual(w, time.Since(begin), 5*time.Second)
	})
}
