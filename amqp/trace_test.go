package amqp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// tracing is a Trace that notes every event in the journal.
func (j *journal) tracing() *amqp.Trace {
	say := func(format string, args ...any) { j.note(fmt.Sprintf(format, args...)) }
	return &amqp.Trace{
		DialStart:       func(string) { say("dialling") },
		DialDone:        func(_ string, err error) { say("dialled: %v", err) },
		Connected:       func(*amqp.Conn) { say("connected") },
		Closed:          func(_ *amqp.Conn, err error) { say("closed: %v", err) },
		Retry:           func(attempt int, _ time.Duration, _ error) { say("retry %d", attempt) },
		Blocked:         func(_ *amqp.Conn, blocked bool, reason string) { say("blocked: %t %q", blocked, reason) },
		ChannelOpened:   func(ch *amqp.Channel) { say("channel %d opened", ch.ID()) },
		ChannelClosed:   func(ch *amqp.Channel, err error) { say("channel %d closed: %v", ch.ID(), err) },
		ConsumerStarted: func(c *amqp.Consumer) { say("consumer of %s started", c.Queue()) },
		ConsumerEnded:   func(c *amqp.Consumer, err error) { say("consumer of %s ended: %v", c.Queue(), err) },
		Published: func(_ *amqp.Channel, i amqp.PublishInfo) {
			say("published %d: %q %q %s, %d bytes", i.Sequence, i.Exchange, i.RoutingKey, i.MessageID, i.Size)
		},
		Returned: func(_ *amqp.Channel, ret *amqp.Return) { say("returned: %s", ret.ReplyText) },
		Confirmed: func(_ *amqp.Channel, i amqp.ConfirmInfo) {
			say("confirmed %d: %q %s", i.Sequence, i.RoutingKey, outcome(i.Err))
		},
		Delivered: func(_ *amqp.Channel, env *amqp.Envelope, size int) {
			say("delivered %d: %s, %d bytes", env.DeliveryTag, env.Properties.MessageID, size)
		},
		Settled: func(_ *amqp.Channel, i amqp.SettleInfo) {
			say("settled %d: %s multiple=%t requeue=%t", i.DeliveryTag, i.Method, i.Multiple, i.Requeue)
		},
	}
}

// outcome names what became of a message.
func outcome(err error) string {
	for _, known := range []error{amqp.ErrNacked, amqp.ErrReturned, amqp.ErrUnconfirmed} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return fmt.Sprint(err)
}

func TestTraceTellsASessionInOrder(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("jobs", 0)
		var j journal
		w.cfg.Trace = j.tracing()
		require.NoError(t, w.channel(func(ch *amqp.Channel) error {
			ctx := ch.Context()
			if err := ch.Publish(ctx, "", "jobs", amqp.Message{Properties: amqp.Properties{MessageID: "a"}, Body: []byte("12345")}); err != nil {
				return err
			}
			if err := ch.Confirm(ctx); err != nil {
				return err
			}
			if err := ch.Publish(ctx, "", "jobs", amqp.Message{Properties: amqp.Properties{MessageID: "b"}}); err != nil {
				return err
			}
			body, env, err := ch.Get(ctx, "jobs", false)
			if err != nil {
				return err
			}
			assert.Len(t, body, 5)
			if err := env.Nack(true); err != nil {
				return err
			}
			return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs", Prefetch: 1}, func(c *amqp.Consumer) error {
				for _, env := range c.Messages() {
					return env.Ack()
				}
				return c.Err()
			})
		}))
		assert.Equal(t, []string{
			"dialling", "dialled: <nil>", "connected", "channel 1 opened",
			`published 0: "" "jobs" a, 5 bytes`,
			`published 1: "" "jobs" b, 0 bytes`, `confirmed 1: "jobs" <nil>`,
			"delivered 1: a, 5 bytes", "settled 1: basic.nack multiple=false requeue=true",
		}, j.read()[:9])
		rest := j.read()[9:]
		// The reader may be first.
		assert.ElementsMatch(t, []string{"consumer of jobs started", "delivered 2: a, 5 bytes"}, rest[:2])
		assert.Equal(t, []string{
			"settled 2: basic.ack multiple=false requeue=false",
			// What the broker sends before the consumer's end is given back.
			"delivered 3: b, 0 bytes", "settled 3: basic.nack multiple=false requeue=true",
			"consumer of jobs ended: <nil>", "channel 1 closed: <nil>", "closed: <nil>",
		}, rest[2:])
	})
}

func TestTraceTellsEveryWayToSettle(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("jobs", 6)
		var j journal
		w.cfg.Trace = &amqp.Trace{Settled: j.tracing().Settled}
		require.NoError(t, w.channel(func(ch *amqp.Channel) error {
			return ch.WithConsumer(ch.Context(), amqp.Consume{Queue: "jobs"}, func(c *amqp.Consumer) error {
				n := 0
				for _, env := range c.Messages() {
					n++
					do := map[int]func() error{
						2: env.AckUpTo, 3: func() error { return env.Reject(false) },
						4: func() error { return ch.Nack(env.DeliveryTag, false, false) },
						5: func() error { return ch.Reject(env.DeliveryTag, false) },
						6: func() error { return ch.Nack(0, true, false) },
					}[n]
					if do != nil && !assert.NoError(t, do()) || n == 6 {
						break
					}
				}
				require.ErrorIs(t, ch.Ack(1, false), amqp.ErrAlreadySettled) // and is not told
				require.ErrorIs(t, ch.Nack(1, false, false), amqp.ErrAlreadySettled)
				return nil
			})
		}))
		assert.Equal(t, []string{
			"settled 2: basic.ack multiple=true requeue=false",
			"settled 3: basic.reject multiple=false requeue=false",
			"settled 4: basic.nack multiple=false requeue=false",
			"settled 5: basic.reject multiple=false requeue=false",
			"settled 0: basic.nack multiple=true requeue=false",
		}, j.read())
	})
}

// trying calls f as net/http does a handler.
func trying(f func() error) (panicked any, err error) {
	defer func() { panicked = recover() }()
	return nil, f()
}

// The message of a hook that panics is sent whole, and the connection goes on.
func TestAPanicInPublishedLeavesTheMessageOnItsWay(t *testing.T) {
	for name, size := range map[string]int{"small": 5, "written from the caller's memory": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			broker := amqptest.NewBroker()
			defer broker.Close()
			cfg, err := amqp.ParseURI(broker.URI())
			require.NoError(t, err)
			cfg.Trace = &amqp.Trace{Published: func(_ *amqp.Channel, info amqp.PublishInfo) {
				if info.Sequence%2 == 1 {
					panic("oops")
				}
			}}
			body := make([]byte, size)
			done := make(chan error, 1)
			go func() {
				done <- amqp.WithChannel(t.Context(), cfg, func(ch *amqp.Channel) error {
					if _, err := ch.QueueDeclare(ch.Context(), amqp.Queue{Name: "jobs"}); err != nil {
						return err
					}
					if err := ch.Confirm(ch.Context()); err != nil {
						return err
					}
					for i := range 4 {
						for at := range body {
							body[at] = byte(i)
						}
						panicked, err := trying(func() error { return ch.Publish(ch.Context(), "", "jobs", amqp.Message{Body: body}) })
						assert.NoError(t, err)
						assert.Equal(t, i%2 == 0, panicked != nil)
					}
					return nil
				})
			}()
			select {
			case err := <-done:
				require.NoError(t, err)
			case <-time.After(time.Minute):
				require.Fail(t, "the connection is locked")
			}
			got := broker.Messages("jobs")
			require.Len(t, got, 4)
			for i, m := range got {
				assert.True(t, bytes.Equal(bytes.Repeat([]byte{byte(i)}, size), m.Body), "message %d", i)
			}
		})
	}
}

// Acknowledgements after that of a hook that panics are sent, and it as well.
func TestAPanicInSettledHoldsNoAcknowledgementBack(t *testing.T) {
	for name, ack := range map[string]func(*amqp.Batch, *amqp.Envelope) error{
		"Ack":       func(_ *amqp.Batch, env *amqp.Envelope) error { return env.Ack() },
		"AckUpTo":   func(_ *amqp.Batch, env *amqp.Envelope) error { return env.AckUpTo() },
		"Batch.Ack": func(b *amqp.Batch, _ *amqp.Envelope) error { return b.Ack() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				first := true
				w.cfg.Trace = &amqp.Trace{Settled: func(*amqp.Channel, amqp.SettleInfo) {
					if first {
						first = false
						panic("oops")
					}
				}}
				left := 5
				require.NoError(t, w.consuming(left, amqp.Consume{Prefetch: 1}, func(c *amqp.Consumer) error {
					for b := range c.Batches(1, time.Hour) {
						for _, env := range b.All() {
							panicked, _ := trying(func() error { return ack(b, env) })
							assert.Equal(t, left == 5, panicked != nil)
						}
						if left--; left == 0 {
							return nil
						}
					}
					return c.Err()
				}))
				assert.Empty(t, w.bodies("q"))
			})
		})
	}
}

func TestTraceTellsBatchAcks(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("jobs", 2)
		var j journal
		w.cfg.Trace = &amqp.Trace{Settled: j.tracing().Settled}
		require.NoError(t, w.channel(func(ch *amqp.Channel) error {
			return ch.WithConsumer(ch.Context(), amqp.Consume{Queue: "jobs"}, func(c *amqp.Consumer) error {
				for b := range c.Batches(2, time.Second) {
					return b.Ack()
				}
				return c.Err()
			})
		}))
		assert.Equal(t, []string{
			"settled 1: basic.ack multiple=false requeue=false", "settled 2: basic.ack multiple=false requeue=false",
		}, j.read())
	})
}

// Each message with confirms has one outcome, whatever becomes of it, and after its Published.
func TestTraceTellsEachOutcomeOnce(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("jobs", 0)
		var j journal
		all := j.tracing()
		w.cfg.Trace = &amqp.Trace{Published: all.Published, Returned: all.Returned, Confirmed: all.Confirmed}
		err := w.channel(func(ch *amqp.Channel) error {
			goOn := amqp.PublisherOptions{Mandatory: true, OnFailure: func(*amqp.PublishError) error { return nil }}
			return ch.WithPublisher(ch.Context(), goOn, func(p *amqp.Publisher) error {
				publish := func(key string) { // and wait, so that the order is known
					r, err := p.Publish(p.Context(), "", key, amqp.Message{})
					require.NoError(t, err)
					_ = r.Wait(p.Context())
				}
				publish("jobs")
				publish("nobody")
				w.broker.NackNext(1)
				publish("jobs")
				w.lose("basic.ack")
				_, err := p.Publish(p.Context(), "", "jobs", amqp.Message{})
				require.NoError(t, err)
				time.Sleep(time.Second) // of the bubble: the broker has the message
				w.broker.Sever()
				<-p.Context().Done()
				return nil
			})
		})
		require.ErrorIs(t, err, amqp.ErrConnectionClosed)
		assert.Equal(t, []string{
			`published 1: "" "jobs" , 0 bytes`, `confirmed 1: "jobs" <nil>`,
			`published 2: "" "nobody" , 0 bytes`, "returned: NO_ROUTE", `confirmed 2: "nobody" ` + amqp.ErrReturned.Error(),
			`published 3: "" "jobs" , 0 bytes`, `confirmed 3: "jobs" ` + amqp.ErrNacked.Error(),
			`published 4: "" "jobs" , 0 bytes`, `confirmed 4: "jobs" ` + amqp.ErrUnconfirmed.Error(),
		}, j.read())
	})
}

// Whoever counts outcomes by the trace has counted a message when its publisher is told of it.
func TestTraceTellsAnOutcomeBeforeItsPublisherHearsOfIt(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("jobs", 0)
		var told atomic.Int64
		w.cfg.Trace = &amqp.Trace{Confirmed: func(*amqp.Channel, amqp.ConfirmInfo) {
			time.Sleep(time.Second) // of the bubble: whoever is told before this is over goes on meanwhile
			told.Add(1)
		}}
		require.NoError(t, w.channel(func(ch *amqp.Channel) error {
			require.NoError(t, ch.Confirm(ch.Context()))
			for n := range int64(3) {
				require.NoError(t, ch.Publish(ch.Context(), "", "jobs", amqp.Message{}))
				require.Equal(t, n+1, told.Load())
			}
			return nil
		}))
	})
}

func TestTraceTellsFailuresToConnectAndRetries(t *testing.T) {
	bubble(t, func(w *world) {
		var j journal
		w.cfg.Trace = j.tracing()
		dial, dials := w.cfg.Dial, 0
		w.cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dials++; dials == 1 {
				return nil, errNoRoute
			}
			return dial(ctx, network, addr)
		}
		require.NoError(t, amqp.Supervise(context.Background(), w.cfg, amqp.Retry{}, func(conn *amqp.Conn) error {
			if dials == 3 {
				return nil
			}
			w.broker.CloseConnections(uint16(amqp.ConnectionForced), "maintenance")
			<-conn.Context().Done()
			return nil
		}))
		assert.Equal(t, []string{
			"dialling", "dialled: TCP: no route to host", "retry 1",
			"dialling", "dialled: <nil>", "connected", `closed: the broker closed the connection: 320 maintenance`, "retry 2",
			"dialling", "dialled: <nil>", "connected", "closed: <nil>",
		}, j.read())
	})
}

func TestTraceTellsAlarms(t *testing.T) {
	bubble(t, func(w *world) {
		var j journal
		w.cfg.Trace = &amqp.Trace{Blocked: j.tracing().Blocked}
		require.NoError(t, w.connect(func(conn *amqp.Conn) error {
			changes := conn.Blocked()
			w.broker.Block("low on memory")
			conn.Go(func(ctx context.Context) error {
				return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
					return ch.Publish(ctx, "amq.fanout", "", amqp.Message{})
				})
			})
			for blocked := range changes {
				if !blocked {
					return nil
				}
				w.broker.Unblock()
			}
			return nil
		}))
		assert.Equal(t, []string{`blocked: true "low on memory"`, `blocked: false ""`}, j.read())
	})
}

// Whose Publish goes on after an alarm finds it over, wherever it looks.
func TestWhosePublishGoesOnFindsTheAlarmOver(t *testing.T) {
	bubble(t, func(w *world) {
		var over atomic.Bool
		w.cfg.Trace = &amqp.Trace{Blocked: func(_ *amqp.Conn, blocked bool, _ string) {
			time.Sleep(time.Second) // of the bubble, as above
			over.Store(!blocked)
		}}
		require.NoError(t, w.connect(func(conn *amqp.Conn) error {
			return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
				w.broker.Block("low on memory")
				require.NoError(t, ch.Publish(ch.Context(), "amq.fanout", "", amqp.Message{}))
				time.Sleep(time.Minute)
				require.True(t, conn.Stats().Blocked)
				time.AfterFunc(time.Minute, w.broker.Unblock)
				require.NoError(t, ch.Publish(ch.Context(), "amq.fanout", "", amqp.Message{}))
				assert.True(t, over.Load())
				assert.False(t, conn.Stats().Blocked)
				return nil
			})
		}))
	})
}

// JoinTraces knows every hook there is.
func TestJoinTracesCallsEveryHookOfAll(t *testing.T) {
	var called []int
	counting := func(i int) *amqp.Trace {
		var tr amqp.Trace
		v := reflect.ValueOf(&tr).Elem()
		for _, field := range v.Fields() {
			field.Set(reflect.MakeFunc(field.Type(), func([]reflect.Value) []reflect.Value {
				called = append(called, i)
				return nil
			}))
		}
		return &tr
	}
	for name, c := range map[string]struct {
		traces []*amqp.Trace
		want   []int
	}{
		"none":           {nil, nil},
		"nil and empty":  {[]*amqp.Trace{nil, {}}, nil},
		"one":            {[]*amqp.Trace{nil, counting(1), {}}, []int{1}},
		"one after none": {[]*amqp.Trace{{}, counting(1)}, []int{1}},
		"three":          {[]*amqp.Trace{counting(1), counting(2), counting(3)}, []int{1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			joined := reflect.ValueOf(amqp.JoinTraces(c.traces...)).Elem()
			for f := range joined.NumField() {
				hook := joined.Type().Field(f)
				if called = nil; joined.Field(f).IsNil() {
					assert.Empty(t, c.want, hook.Name)
					continue
				}
				var args []reflect.Value
				for in := range hook.Type.Ins() {
					args = append(args, reflect.Zero(in))
				}
				joined.Field(f).Call(args)
				assert.Equal(t, c.want, called, hook.Name)
			}
		})
	}
}
