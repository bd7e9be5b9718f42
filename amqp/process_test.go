package amqp_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// consuming runs body with a consumer of a queue q that has so many messages.
func (w *world) consuming(messages int, opts amqp.Consume, body func(c *amqp.Consumer) error) error {
	w.Helper()
	w.queue("q", messages)
	opts.Queue = "q"
	return w.channel(func(ch *amqp.Channel) error { return ch.WithConsumer(context.Background(), opts, body) })
}

func TestProcessWorksOnSoManyAtOnce(t *testing.T) {
	for _, workers := range []int{1, 4, 10} {
		bubble(t, func(w *world) {
			var busy, most, done atomic.Int64
			begin := time.Now()
			require.NoError(w, w.consuming(40, amqp.Consume{Prefetch: 100}, func(c *amqp.Consumer) error {
				return c.Process(workers, func(context.Context, []byte, *amqp.Envelope) error {
					now := busy.Add(1)
					defer busy.Add(-1)
					for was := most.Load(); was < now && !most.CompareAndSwap(was, now); was = most.Load() {
					}
					time.Sleep(time.Second)
					if done.Add(1) == 40 {
						c.Stop()
					}
					return nil
				})
			}))
			assert.EqualValues(w, workers, most.Load())
			assert.Equal(w, time.Duration(40/workers)*time.Second, time.Since(begin))
			assert.Zero(w, w.state("q").Ready)
		})
	}
}

func TestProcessNeedsAWorker(t *testing.T) {
	bubble(t, func(w *world) {
		err := w.consuming(1, amqp.Consume{}, func(c *amqp.Consumer) error {
			return c.Process(0, func(context.Context, []byte, *amqp.Envelope) error { return nil })
		})
		require.ErrorContains(w, err, "0 workers")
		require.Equal(w, []string{"0"}, w.bodies("q"))
	})
}

// A handler that panics has failed: its message counts as attempted, and the broker knows before the panic goes on.
func TestProcessRejectsTheMessageOfAHandlerThatPanics(t *testing.T) {
	bubble(t, func(w *world) {
		var j journal
		j.listen(w.broker, "basic.ack", "basic.nack", "basic.reject")
		require.PanicsWithValue(w, "oops", func() {
			_ = w.consuming(3, amqp.Consume{Prefetch: 1}, func(c *amqp.Consumer) error {
				return c.Process(1, func(_ context.Context, body []byte, _ *amqp.Envelope) error {
					if string(body) == "1" {
						panic("oops")
					}
					return nil
				})
			})
		})
		require.Equal(w, []string{"basic.ack", "basic.reject"}, j.read()[:2])
		require.ElementsMatch(w, numbers(1, 3), w.bodies("q"))
	})
}

// With one worker gone the others would each be given what they have just given back, for ever.
func TestProcessEndsWithAWorkerThatIsGone(t *testing.T) {
	for name, c := range map[string]struct {
		callers bool
		leave   func()
		result  any
	}{
		"panic on the caller's goroutine":  {true, func() { panic("oops") }, "oops"},
		"Goexit on the caller's goroutine": {true, runtime.Goexit, nil},
		"Goexit on another":                {false, runtime.Goexit, "scope: a task called runtime.Goexit (a test's FailNow or SkipNow, perhaps)"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 2)
				var calls atomic.Int64
				result := make(chan any, 1)
				go func() {
					var got any
					defer func() {
						if v := recover(); v != nil {
							got = v
						}
						result <- got
					}()
					err := w.channel(func(ch *amqp.Channel) error {
						return ch.WithConsumer(context.Background(), amqp.Consume{Queue: "q"}, func(cons *amqp.Consumer) error {
							return cons.Process(2, func(ctx context.Context, _ []byte, _ *amqp.Envelope) error {
								if calls.Add(1) == 1000 {
									cons.Stop()
								}
								if ctx.Err() == nil && bytes.Contains(debug.Stack(), []byte("WithConsumer")) == c.callers {
									c.leave()
								}
								<-ctx.Done()
								return ctx.Err()
							})
						})
					})
					got = err.Error()
				}()
				assert.Equal(w, c.result, <-result)
				assert.EqualValues(w, 2, calls.Load())
				assert.ElementsMatch(w, numbers(0, 2), w.bodies("q"))
			})
		})
	}
}

// A worker's failure is not held back by those who wait for a message.
func TestProcessEndsWhenAMessageCantBeSettled(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 1)
		err := w.channel(func(ch *amqp.Channel) error {
			require.NoError(w, ch.WithTx(ch.Context(), func() error { return nil }))
			return ch.WithConsumer(ch.Context(), amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
				err := c.Process(4, func(context.Context, []byte, *amqp.Envelope) error { return nil })
				assert.Equal(w, err, c.Err())
				return err
			})
		})
		require.ErrorContains(w, err, "inside WithTx only")
		require.Equal(w, 1, flat(err))
		require.Equal(w, []string{"0"}, w.bodies("q"))
	})
}

func TestProcessSettlesNothingWithoutAcknowledgements(t *testing.T) {
	bubble(t, func(w *world) {
		var j journal
		j.listen(w.broker, "basic.ack", "basic.nack", "basic.reject")
		handled := 0
		require.NoError(w, w.consuming(3, amqp.Consume{NoAck: true}, func(c *amqp.Consumer) error {
			return c.Process(1, func(context.Context, []byte, *amqp.Envelope) error {
				if handled++; handled == 3 {
					c.Stop()
				}
				return errors.New("failed")
			})
		}))
		require.Empty(w, j.read())
	})
}

// Handlers hear of the end of what their message came on, with its cause, and so does the caller of Process.
func TestProcessEndsWithItsChannel(t *testing.T) {
	bubble(t, func(w *world) {
		var causes atomic.Int64
		err := w.consuming(10, amqp.Consume{}, func(c *amqp.Consumer) error {
			c.Go(func(context.Context) error {
				synctest.Wait()
				w.broker.CloseChannels(406, "PRECONDITION_FAILED - timeout")
				return nil
			})
			err := c.Process(3, func(ctx context.Context, _ []byte, env *amqp.Envelope) error {
				<-ctx.Done()
				assert.ErrorIs(w, context.Cause(ctx), amqp.PreconditionFailed)
				assert.ErrorIs(w, context.Cause(env.Context()), amqp.PreconditionFailed)
				causes.Add(1)
				return nil // it did its work, and can't say so
			})
			assert.ErrorIs(w, err, amqp.PreconditionFailed)
			return err
		})
		require.ErrorIs(w, err, amqp.PreconditionFailed)
		require.EqualValues(w, 3, causes.Load())
		require.Len(w, w.bodies("q"), 10)
	})
}

// A batch is acknowledged in one frame, and what is left of it can be given back.
func TestBatchIsSettledTogether(t *testing.T) {
	bubble(t, func(w *world) {
		var acks []any
		w.broker.On("basic.ack", func(e *amqptest.Event) amqptest.Action {
			if e.Direction == amqptest.ToBroker {
				acks = append(acks, e.Field("delivery-tag"), e.Field("multiple"))
			}
			return amqptest.Pass()
		})
		require.NoError(w, w.consuming(10, amqp.Consume{}, func(c *amqp.Consumer) error {
			for b := range c.Batches(4, time.Second) {
				require.Equal(w, 4, b.Len())
				if len(acks) == 0 {
					require.NoError(w, b.Ack())
					synctest.Wait()
					continue
				}
				for _, env := range b.All() {
					require.NoError(w, env.Ack())
					break
				}
				require.NoError(w, b.Nack(true), "those that are left")
				require.ErrorIs(w, b.Nack(true), amqp.ErrAlreadySettled)
				break
			}
			return nil
		}))
		require.Equal(w, []any{uint64(4), true}, acks[:2])
		require.ElementsMatch(w, numbers(5, 10), w.bodies("q"))
	})
}

// Stop ends the batches; what nobody took goes back.
func TestBatchesEndWithStop(t *testing.T) {
	bubble(t, func(w *world) {
		require.NoError(w, w.consuming(10, amqp.Consume{}, func(c *amqp.Consumer) error {
			for b := range c.Batches(3, time.Hour) {
				c.Stop()
				require.NoError(w, b.Ack())
			}
			return c.Err()
		}))
		require.Equal(w, numbers(3, 10), w.bodies("q"))
	})
}
