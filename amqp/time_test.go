package amqp_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// What takes time, on the bubble's clock.

const beat = 10 * time.Second

var beating = amqptest.WithTuning(2047, 131072, beat)

// watched is a connection that notes when something was written, and can be slow to read.
type watched struct {
	net.Conn
	mu     sync.Mutex
	writes []time.Time
	chunk  int           // bytes that one Read gives at most; 0: no limit
	pause  time.Duration // before each Read
}

func (c *watched) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.writes = append(c.writes, time.Now())
	c.mu.Unlock()
	return c.Conn.Write(p)
}

func (c *watched) Read(p []byte) (int, error) {
	c.mu.Lock()
	chunk, pause := c.chunk, c.pause
	c.mu.Unlock()
	if pause > 0 {
		time.Sleep(pause)
		p = p[:min(chunk, len(p))]
	}
	return c.Conn.Read(p)
}

// written counts the writes.
func (c *watched) written() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.writes)
}

// longestSilence is the longest time between two writes since from.
func (c *watched) longestSilence(from time.Time) (longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range append(c.writes, time.Now()) {
		if t.After(from) {
			longest = max(longest, t.Sub(from))
			from = t
		}
	}
	return longest
}

// watch makes the world's connections watched ones.
func (w *world) watch() (latest func() *watched) {
	var c *watched
	w.cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		inner, err := w.broker.Dial(ctx, network, addr)
		c = &watched{Conn: inner}
		return c, err
	}
	return func() *watched { return c }
}

// faulty makes the world's connections such that faults can be done to them.
func (w *world) faulty() (latest func() *amqptest.FaultyConn) {
	var c *amqptest.FaultyConn
	w.cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		inner, err := w.broker.Dial(ctx, network, addr)
		c = amqptest.Faulty(inner, amqptest.ConnFaults{})
		return c, err
	}
	return func() *amqptest.FaultyConn { return c }
}

func TestIdleConnectionLivesByHeartbeats(t *testing.T) {
	bubble(t, func(w *world) {
		nc := w.watch()
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			assert.Equal(w, beat, conn.Tuning().Heartbeat)
			begin := time.Now()
			time.Sleep(10 * time.Hour) // the broker drops a client that is silent for 20 s
			assert.LessOrEqual(w, nc().longestSilence(begin), beat)
			assert.Less(w, nc().written(), 10*3600/5+20, "no more of them than two in an interval")
			return conn.Context().Err()
		}))
	}, beating)
}

func TestBusyConnectionSendsNoHeartbeats(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		nc := w.watch()
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			before := nc().written()
			for range 1000 {
				time.Sleep(time.Second)
				if err := ch.Publish(ch.Context(), "", "q", amqp.Message{}); err != nil {
					return err
				}
			}
			synctest.Wait()
			assert.Equal(w, 1000, nc().written()-before)
			return nil
		}))
	}, beating)
}

func TestSmallerHeartbeatWins(t *testing.T) {
	for _, c := range []struct{ ours, agreed time.Duration }{
		{0, beat}, {3 * time.Second, 3 * time.Second}, {2500 * time.Millisecond, 3 * time.Second}, {time.Hour, beat}, {-1, 0},
	} {
		bubble(t, func(w *world) {
			w.cfg.Heartbeat = c.ours
			require.NoError(w, w.connect(func(conn *amqp.Conn) error {
				assert.Equal(w, c.agreed, conn.Tuning().Heartbeat)
				assert.Equal(w, c.agreed, w.broker.Connections()[0].Heartbeat)
				return nil
			}))
		}, beating)
	}
}

func TestSilentBrokerIsNoticedAfterTwoIntervals(t *testing.T) {
	for _, idle := range []time.Duration{0, 1 * time.Second, 7 * time.Second, 63 * time.Second} {
		t.Run(idle.String(), func(t *testing.T) {
			bubble(t, func(w *world) {
				begin := time.Now()
				err := w.connect(func(conn *amqp.Conn) error {
					time.Sleep(idle) // 0: it goes silent with the first breath
					w.broker.Stall()
					begin := time.Now()
					<-conn.Context().Done()
					assert.LessOrEqual(w, time.Since(begin), 5*beat/2)
					// The last sign of life came up to half an interval before.
					assert.GreaterOrEqual(w, time.Since(begin), 3*beat/2)
					return nil
				})
				w.broker.Resume()
				assert.ErrorIs(w, err, amqp.ErrHeartbeatTimeout)
				assert.ErrorIs(w, err, amqp.ErrConnectionClosed)
				assert.Equal(w, 1, flat(err))
				assert.LessOrEqual(w, time.Since(begin), idle+5*beat/2, "and the end of a dead connection takes no time")
			}, beating)
		})
	}
}

func TestBrokerThatRecoversInTimeIsForgiven(t *testing.T) {
	bubble(t, func(w *world) {
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			for range 50 {
				w.broker.Stall()
				time.Sleep(beat * 4 / 10) // one heartbeat of two in an interval is lost
				w.broker.Resume()
				time.Sleep(beat * 6 / 10)
			}
			_, err := ch.QueueDeclare(ch.Context(), amqp.Queue{Name: "q", Exclusive: true})
			return err
		}))
	}, beating)
}

// A silence of one and a half intervals is none to die of.
func TestBrokerThatBeatsTooRarelyIsForgiven(t *testing.T) {
	bubble(t, func(w *world) {
		var last time.Time
		w.broker.On("heartbeat", func(e *amqptest.Event) amqptest.Action {
			if e.Direction == amqptest.ToBroker {
				return amqptest.Pass()
			}
			if time.Since(last) < 3*beat/2-time.Second {
				return amqptest.Drop() // two of three
			}
			last = time.Now()
			return amqptest.Pass()
		})
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			for range 20 {
				time.Sleep(beat + time.Second)
				require.NoError(w, conn.Context().Err())
			}
			return nil
		}))
	}, beating)
}

func TestWithoutHeartbeatsSilenceIsFine(t *testing.T) {
	bubble(t, func(w *world) {
		w.cfg.Heartbeat = -1
		nc := w.watch()
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			before := nc().written()
			w.broker.Stall()
			time.Sleep(24 * time.Hour)
			w.broker.Resume()
			assert.Equal(w, before, nc().written())
			return conn.Context().Err()
		}))
	}, beating)
}

// deaf is a broker that beats and takes nothing any more. Unlike one that works, it does not miss the client's heartbeats,
// which would be at the very moment at which the client gives up.
func deaf(p *peer) {
	p.tune.Heartbeat = uint16(beat / time.Second)
	p.channel()
	p.deaf.Store(true)
	for {
		time.Sleep(beat / 2)
		if _, err := p.conn.Write(wire.AppendHeartbeat(nil)); err != nil {
			return
		}
	}
}

func TestStuckWriteIsNoticedAfterTwoIntervals(t *testing.T) {
	err := against(t, amqp.Config{}, deaf, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		time.Sleep(3 * time.Second)
		require.NoError(t, ch.Publish(ctx, "", "q", amqp.Message{Body: make([]byte, 100<<10)}))
		begin := time.Now()
		<-ch.Context().Done()
		assert.LessOrEqual(t, time.Since(begin), 5*beat/2)
		assert.GreaterOrEqual(t, time.Since(begin), 2*beat)
		return nil
	}))
	says(t, err, []error{amqp.ErrHeartbeatTimeout}, "the broker took nothing of what was sent")
}

func TestPublishThatIsStuckReturnsWhenTheConnectionDies(t *testing.T) {
	err := against(t, amqp.Config{}, deaf, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		for {
			if err := ch.Publish(ctx, "", "q", amqp.Message{Body: make([]byte, 100<<10)}); err != nil {
				assert.ErrorIs(t, err, amqp.ErrHeartbeatTimeout)
				return nil
			}
		}
	}))
	says(t, err, []error{amqp.ErrHeartbeatTimeout}, "the broker took nothing of what was sent")
	assert.Equal(t, 1, flat(err))
}

// An alarm may last for hours. The broker reads nothing meanwhile, also no heartbeats, and does not mind.
func TestBlockedConnectionIsNotTakenForDead(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			w.broker.Block("memory")
			sent := 0
			for ctx, cancel := context.WithTimeout(context.Background(), time.Minute); ; {
				if err := ch.Publish(ctx, "", "q", amqp.Message{Body: make([]byte, 50<<10)}); err != nil {
					cancel()
					assert.ErrorIs(w, err, context.DeadlineExceeded)
					break
				}
				sent++
			}
			time.Sleep(6 * time.Hour)
			require.NoError(w, ch.Context().Err())
			w.broker.Unblock()
			require.NoError(w, ch.Confirm(context.Background()))
			assert.Equal(w, sent, w.state("q").Ready)
			return nil
		}))
	}, beating)
}

// The reader of a no-ack consumer's messages pauses when too many of them wait, so that it hears no heartbeats.
func TestReaderThatHoldsBackIsNotTakenForDead(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		const n, size = 300, 100 << 10
		w.flood("q", n, size)
		require.NoError(w, w.consume(amqp.Consume{NoAck: true}, func(_ *amqp.Channel, c *amqp.Consumer) error {
			time.Sleep(5 * time.Hour)
			got := 0
			for body := range c.Messages() {
				assert.Len(w, body, size)
				if got++; got == n {
					return nil
				}
			}
			return c.Err()
		}))
	}, beating)
}

func TestLargeBodyOnASlowLineShowsThatTheBrokerLives(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		body := numbered(300<<10, 1)
		live := context.Background()
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			return errors.Join(ch.Confirm(live), ch.Publish(live, "", "q", amqp.Message{Body: body}))
		}))
		nc := w.watch()
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			nc().mu.Lock()
			nc().chunk, nc().pause = 1000, 2*time.Second
			nc().mu.Unlock()
			begin := time.Now()
			got, _, err := ch.Get(live, "q", true)
			assert.Greater(w, time.Since(begin), 5*time.Minute)
			assert.Equal(w, body, got)
			nc().mu.Lock()
			nc().chunk, nc().pause = 1<<20, 0
			nc().mu.Unlock()
			return err
		}))
	}, beating)
}

func TestDialTimeoutBoundsEveryStageOfConnecting(t *testing.T) {
	stages := map[string]func(w *world){
		"dial": func(w *world) {
			w.cfg.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		},
		"connection.start":   func(w *world) { w.broker.Stall() },
		"connection.tune":    func(w *world) { w.lose("connection.start-ok") },
		"connection.open-ok": func(w *world) { w.lose("connection.open") },
	}
	for name, stage := range stages {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				stage(w)
				w.cfg.DialTimeout = 7 * time.Second
				begin := time.Now()
				err := w.connect(func(*amqp.Conn) error { return errors.New("connected") })
				assert.ErrorIs(w, err, context.DeadlineExceeded)
				assert.ErrorContains(w, err, "DialTimeout")
				assert.Equal(w, 7*time.Second, time.Since(begin))
				assert.Zero(w, own())
				w.broker.Resume()
			})
		})
	}
}

func TestEveryEndpointHasItsOwnDialTimeout(t *testing.T) {
	bubble(t, func(w *world) {
		w.cfg.Host, w.cfg.Port, w.cfg.Endpoints = "one", 1, []string{"two:2", "three:3"}
		w.cfg.DialTimeout = 5 * time.Second
		var tried []string
		w.cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			tried = append(tried, addr)
			switch addr {
			case "one:1":
				<-ctx.Done()
				return nil, ctx.Err()
			case "two:2":
				return nil, errors.New("connection refused")
			}
			return w.broker.Dial(ctx, network, addr)
		}
		begin := time.Now()
		require.NoError(w, w.connect(func(*amqp.Conn) error { return nil }))
		assert.Equal(w, []string{"one:1", "two:2", "three:3"}, tried)
		assert.Equal(w, 5*time.Second, time.Since(begin))
	})
}

func TestBatchComesWhenItsFirstMessageHasWaitedLongEnough(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		live := context.Background()
		require.NoError(w, w.consume(amqp.Consume{}, func(ch *amqp.Channel, c *amqp.Consumer) error {
			c.Go(func(context.Context) error {
				for range 5 {
					time.Sleep(3 * time.Second)
					if err := ch.Publish(live, "", "q", amqp.Message{}); err != nil {
						return err
					}
				}
				return nil
			})
			begin := time.Now()
			var lens []int
			var at []time.Duration
			for b := range c.Batches(3, 4*time.Second) {
				lens, at = append(lens, b.Len()), append(at, time.Since(begin))
				require.NoError(w, b.Ack())
				if len(at) == 3 {
					break
				}
			}
			assert.Equal(w, []int{2, 2, 1}, lens)
			assert.Equal(w, []time.Duration{7 * time.Second, 13 * time.Second, 19 * time.Second}, at)
			return nil
		}))
	})
}

// Connections of different bubbles, and of none, have nothing in common.
func TestBubblesShareNothing(t *testing.T) {
	use := func(w *world) {
		w.queue("q", 100)
		assert.NoError(w, w.channel(func(ch *amqp.Channel) error {
			if err := ch.Confirm(context.Background()); err != nil {
				return err
			}
			for range 10 {
				if err := ch.Publish(context.Background(), "", "q", amqp.Message{}); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	bubble(t, use)
	overTCP(t, func(_ context.Context, w *world) { use(w) })
	bubble(t, use)
}
