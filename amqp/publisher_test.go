package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// publisher runs body with a publisher and a queue q.
func (w *world) publisher(opts amqp.PublisherOptions, body func(p *amqp.Publisher) error) error {
	w.Helper()
	w.queue("q", 0)
	return w.channel(func(ch *amqp.Channel) error { return ch.WithPublisher(context.Background(), opts, body) })
}

func TestPublisherHoldsBackWhoIsTooFarAhead(t *testing.T) {
	bubble(t, func(w *world) {
		live := context.Background()
		w.slow("basic.ack", time.Minute)
		require.NoError(w, w.publisher(amqp.PublisherOptions{MaxInFlight: 3}, func(p *amqp.Publisher) error {
			begin := time.Now()
			for i := range 3 {
				_, err := p.Publish(live, "", "q", amqp.Message{Body: fmt.Append(nil, i)})
				require.NoError(w, err)
			}
			require.Zero(w, time.Since(begin), "so many are free")
			brief, cancel := context.WithTimeout(live, time.Second)
			defer cancel()
			_, err := p.Publish(brief, "", "q", amqp.Message{Body: []byte("never")})
			require.ErrorIs(w, err, context.DeadlineExceeded)
			require.NotErrorIs(w, err, amqp.ErrUnconfirmed, "it was not sent")
			_, err = p.Publish(live, "", "q", amqp.Message{Body: []byte("3")})
			require.GreaterOrEqual(w, time.Since(begin), time.Minute)
			return err
		}))
		require.Equal(w, numbers(0, 4), w.bodies("q"))
	})
}

func TestPublishersWaitIsABarrier(t *testing.T) {
	bubble(t, func(w *world) {
		live := context.Background()
		require.NoError(w, w.publisher(amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
			require.NoError(w, p.Wait(live), "of nothing")
			slow := w.slow("basic.ack", time.Minute)
			for range 5 {
				_, err := p.Publish(live, "", "q", amqp.Message{})
				require.NoError(w, err)
			}
			begin := time.Now()
			brief, cancel := context.WithTimeout(live, time.Second)
			defer cancel()
			require.ErrorIs(w, p.Wait(brief), context.DeadlineExceeded)
			require.NoError(w, p.Wait(live))
			require.GreaterOrEqual(w, time.Since(begin), time.Minute)
			slow()
			return nil
		}))
	})
}

func TestPublishersWaitReturnsTheFirstFailure(t *testing.T) {
	bubble(t, func(w *world) {
		err := w.publisher(amqp.PublisherOptions{Mandatory: true}, func(p *amqp.Publisher) error {
			for _, key := range []string{"q", "first", "second", "q"} {
				_, err := p.Publish(context.Background(), "", key, amqp.Message{})
				require.NoError(w, err)
			}
			return p.Wait(context.Background())
		})
		var failed *amqp.PublishError
		require.ErrorAs(w, err, &failed)
		require.Equal(w, "first", failed.RoutingKey)
		require.EqualValues(w, 2, failed.Sequence)
		require.Equal(w, 1, flat(err))
	})
}

func TestReceiptsTellEveryOutcome(t *testing.T) {
	bubble(t, func(w *world) {
		live := context.Background()
		goOn := func(*amqp.PublishError) error { return nil }
		var confirmed, refused, returned, unknown amqp.Receipt
		err := w.publisher(amqp.PublisherOptions{Mandatory: true, OnFailure: goOn}, func(p *amqp.Publisher) (err error) {
			publish := func(key string) amqp.Receipt {
				r, err := p.Publish(live, "", key, amqp.Message{})
				require.NoError(w, err)
				return r
			}
			confirmed = publish("q")
			require.NoError(w, p.Wait(live))
			w.broker.NackNext(1)
			refused = publish("q")
			returned = publish("nobody's")
			require.NoError(w, p.Wait(live), "OnFailure takes the failures")
			w.lose("basic.ack")
			unknown = publish("q")
			brief, cancel := context.WithTimeout(live, time.Second)
			defer cancel()
			require.Equal(w, context.DeadlineExceeded, unknown.Wait(brief), "it may still come")
			w.broker.Sever()
			return nil
		})
		require.ErrorIs(w, err, amqp.ErrConnectionClosed)
		for range 2 { // as often as one likes, and after the end
			assert.NoError(w, confirmed.Wait(live))
			assert.ErrorIs(w, refused.Wait(live), amqp.ErrNacked)
			assert.ErrorIs(w, returned.Wait(live), amqp.ErrReturned)
			assert.ErrorIs(w, unknown.Wait(live), amqp.ErrUnconfirmed)
			assert.ErrorIs(w, unknown.Wait(live), amqp.ErrConnectionClosed)
		}
	})
}

// A publisher that waits for outcomes no longer has told so whoever else waits for them by the time it returns.
func TestWhoWaitsForAReceiptHearsThatThePublisherGaveUp(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		w.lose("basic.ack")
		failed := errors.New("failed")
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			early, late := make(chan error, 1), make(chan error, 1)
			err := ch.WithPublisher(context.Background(), amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
				r, err := p.Publish(context.Background(), "", "q", amqp.Message{})
				require.NoError(w, err)
				ch.Go(func(ctx context.Context) error { early <- r.Wait(ctx); return nil })
				context.AfterFunc(p.Context(), func() {
					time.Sleep(time.Hour)
					late <- r.Wait(context.Background())
				})
				return failed
			})
			assert.ErrorIs(w, err, failed)
			assert.ErrorIs(w, err, amqp.ErrUnconfirmed)
			assert.ErrorIs(w, <-early, amqp.ErrUnconfirmed)
			assert.ErrorIs(w, <-late, amqp.ErrUnconfirmed)
			return nil
		}))
	})
}

func TestOnFailureIsCalledOnceForEachAndOneAtATime(t *testing.T) {
	bubble(t, func(w *world) {
		at, busy := map[uint64]int{}, false
		opts := amqp.PublisherOptions{Mandatory: true, OnFailure: func(e *amqp.PublishError) error {
			assert.False(w, busy)
			busy = true
			time.Sleep(time.Second)
			busy = false
			at[e.Sequence]++
			return nil
		}}
		require.NoError(w, w.publisher(opts, func(p *amqp.Publisher) error {
			for i := range 20 {
				key := "q"
				if i%2 == 0 {
					key = "nobody's"
				}
				_, err := p.Publish(context.Background(), "", key, amqp.Message{})
				require.NoError(w, err)
			}
			return nil
		}))
		require.Len(w, at, 10)
		for n, count := range at {
			require.Equal(w, 1, count, "message %d", n)
		}
	})
}

// OnFailure may publish what failed again: it holds nobody up but itself.
func TestOnFailureMayPublishAgain(t *testing.T) {
	bubble(t, func(w *world) {
		var p *amqp.Publisher
		opts := amqp.PublisherOptions{MaxInFlight: 1, OnFailure: func(e *amqp.PublishError) error {
			_, err := p.Publish(context.Background(), e.Exchange, e.RoutingKey, amqp.Message{Body: []byte("again")})
			return err
		}}
		require.NoError(w, w.publisher(opts, func(its *amqp.Publisher) error {
			p = its
			w.broker.NackNext(2)
			_, err := p.Publish(context.Background(), "", "q", amqp.Message{})
			synctest.Wait()
			require.NoError(w, p.Wait(context.Background()))
			return err
		}))
		require.Equal(w, []string{"again"}, w.bodies("q"))
	})
}

// What OnFailure publishes has its outcome like everything else, and may fail again, after body has returned as well.
func TestOnFailureMayPublishAgainWhenBodyHasReturned(t *testing.T) {
	for _, inFlight := range []int{1, 5} {
		bubble(t, func(w *world) {
			w.slow("basic.nack", time.Second)
			var p *amqp.Publisher
			var again []amqp.Receipt
			opts := amqp.PublisherOptions{MaxInFlight: inFlight, OnFailure: func(e *amqp.PublishError) error {
				time.Sleep(time.Second) // every outcome may be known by then
				r, err := p.Publish(context.Background(), e.Exchange, e.RoutingKey, amqp.Message{Body: []byte("again")})
				again = append(again, r)
				return err
			}}
			require.NoError(w, w.publisher(opts, func(its *amqp.Publisher) error {
				p = its
				w.broker.NackNext(7)
				for range 5 {
					_, err := p.Publish(context.Background(), "", "q", amqp.Message{Body: []byte("once")})
					require.NoError(w, err)
				}
				return nil
			}))
			require.Len(w, again, 7)
			require.NoError(w, again[6].Wait(context.Background()))
			require.Equal(w, 5, w.state("q").Ready)
			require.Contains(w, w.bodies("q"), "again")
			_, err := p.Publish(context.Background(), "", "q", amqp.Message{})
			require.ErrorContains(w, err, "the publisher's scope has ended")
		})
	}
}

// A test's FailNow in OnFailure, say, leaves nobody to hear of failures: the scope fails.
func TestOnFailureThatExitsFailsTheScope(t *testing.T) {
	for name, body := range map[string]func(p *amqp.Publisher){
		"while body waits":       func(p *amqp.Publisher) { <-p.Context().Done() },
		"when body has returned": func(*amqp.Publisher) {},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				opts := amqp.PublisherOptions{Mandatory: true, OnFailure: func(*amqp.PublishError) error {
					time.Sleep(time.Second)
					runtime.Goexit()
					return nil
				}}
				err := w.publisher(opts, func(p *amqp.Publisher) error {
					_, err := p.Publish(context.Background(), "", "nobody's", amqp.Message{})
					body(p)
					return err
				})
				require.ErrorContains(w, err, "Goexit")
				require.Equal(w, 1, flat(err))
			})
		})
	}
}

// A slow OnFailure waits for nothing that the reader brings: meanwhile TCP holds back what a consumer does not take.
func TestSlowOnFailureAfterBodyLeavesBackPressure(t *testing.T) {
	bubble(t, func(w *world) {
		live := context.Background()
		w.queue("q", 0)
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			conn.SetUnreadBound(1_500_000)
			opts := amqp.PublisherOptions{OnFailure: func(*amqp.PublishError) error {
				synctest.Wait() // body has returned
				w.flood("q", 3000, 1000)
				synctest.Wait()
				require.True(w, conn.IsHeldBack())
				conn.Cancel(nil)
				return nil
			}}
			return conn.WithChannel(live, func(ch *amqp.Channel) error {
				return ch.WithConsumer(live, amqp.Consume{Queue: "q", NoAck: true}, func(*amqp.Consumer) error {
					return conn.WithChannel(live, func(ch *amqp.Channel) error {
						w.broker.NackNext(1)
						return ch.WithPublisher(live, opts, func(p *amqp.Publisher) error {
							_, err := p.Publish(live, "", "nobody's", amqp.Message{})
							return err
						})
					})
				})
			})
		}))
	})
}

// A goroutine that publishes on and on, and is none of the scope's, holds up nobody.
func TestPublisherEndsWhenAStrangerPublishes(t *testing.T) {
	for name, onFailure := range map[string]func(*amqp.PublishError) error{
		"with OnFailure": func(*amqp.PublishError) error { return nil }, "without": nil,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.slow("basic.ack", 20*time.Millisecond)
				begin, refused := time.Now(), make(chan error)
				require.NoError(w, w.publisher(amqp.PublisherOptions{OnFailure: onFailure}, func(p *amqp.Publisher) error {
					go func() {
						var err error
						for err == nil && time.Since(begin) < time.Minute {
							_, err = p.Publish(context.Background(), "", "q", amqp.Message{})
							time.Sleep(5 * time.Millisecond)
						}
						refused <- err
					}()
					time.Sleep(time.Second)
					return nil
				}))
				require.ErrorContains(w, <-refused, "the publisher's scope has ended")
			})
		})
	}
}

// Failures that come when body has returned, and that OnFailure never hears of since too many wait, are not lost in silence.
func TestFailuresBeyondTheBoundFailThePublisherAfterBody(t *testing.T) {
	const n = 1<<16 + 100
	bubble(t, func(w *world) {
		w.cfg.Heartbeat = -1
		w.broker.NackNext(n)
		w.slow("basic.nack", time.Second) // by then body has returned
		calls := 0
		opts := amqp.PublisherOptions{MaxInFlight: n, OnFailure: func(*amqp.PublishError) error {
			if calls++; calls == 1 {
				time.Sleep(patience / 2) // until all have come
			}
			return nil
		}}
		err := w.publisher(opts, func(p *amqp.Publisher) error {
			for range n {
				if _, err := p.Publish(context.Background(), "", "q", amqp.Message{}); err != nil {
					return err
				}
			}
			return nil
		})
		require.Less(w, calls, n)
		require.ErrorContains(w, err, "65536 failures wait for OnFailure")
		require.Equal(w, 1, flat(err))
	})
}

// A failure of OnFailure's bounds the wait for the other outcomes, also when body has returned.
func TestOnFailureThatFailsAfterBodyEndsTheWaitForOutcomes(t *testing.T) {
	bubble(t, func(w *world) {
		oops := errors.New("the order of a customer")
		begin := time.Now()
		opts := amqp.PublisherOptions{OnFailure: func(*amqp.PublishError) error { time.Sleep(time.Second); return oops }}
		err := w.publisher(opts, func(p *amqp.Publisher) error {
			w.broker.NackNext(1)
			w.lose("basic.ack")
			for range 2 {
				_, err := p.Publish(context.Background(), "", "q", amqp.Message{})
				require.NoError(w, err)
			}
			return nil
		})
		require.ErrorIs(w, err, oops)
		require.ErrorIs(w, err, amqp.ErrUnconfirmed)
		require.Less(w, time.Since(begin), time.Minute)
	})
}

// The first failure ends the scope, if nobody takes it, and its cause says which message it was.
func TestAFailureEndsThePublishersScope(t *testing.T) {
	bubble(t, func(w *world) {
		oops := errors.New("the order of a customer")
		for name, opts := range map[string]amqp.PublisherOptions{
			"without OnFailure":  {Mandatory: true},
			"OnFailure fails it": {Mandatory: true, OnFailure: func(*amqp.PublishError) error { return oops }},
		} {
			var cause error
			err := w.publisher(opts, func(p *amqp.Publisher) error {
				_, err := p.Publish(context.Background(), "", "nobody's", amqp.Message{})
				<-p.Context().Done()
				cause = context.Cause(p.Context())
				return err
			})
			want := amqp.ErrReturned
			if opts.OnFailure != nil {
				want = oops
			}
			require.ErrorIs(w, err, want, name)
			require.ErrorIs(w, cause, want, name)
			require.Equal(w, 1, flat(err), name)
		}
	})
}

// The id by which a return finds its message is taken out of what comes back, and changes nothing of the caller's.
func TestReturnedMessageLooksAsItDidWhenItLeft(t *testing.T) {
	for name, headers := range map[string]amqp.Table{"none": nil, "some": {"color": "red", "x-size": int32(3)}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				seen := 0
				w.broker.On("basic.return", func(e *amqptest.Event) amqptest.Action {
					seen = len(e.Message.Properties.Headers)
					return amqptest.Pass()
				})
				err := w.publisher(amqp.PublisherOptions{Mandatory: true}, func(p *amqp.Publisher) error {
					r, err := p.Publish(context.Background(), "", "nobody's", amqp.Message{Properties: amqp.Properties{MessageID: "7", Headers: headers}})
					if err != nil {
						return err
					}
					return r.Wait(context.Background())
				})
				var failed *amqp.PublishError
				require.ErrorAs(w, err, &failed)
				require.Equal(w, amqp.Properties{MessageID: "7", Headers: headers}, failed.Return.Properties)
				require.Equal(w, len(headers)+1, seen, "it did carry the id")
			})
		})
	}
}
