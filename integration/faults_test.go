package integration

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/integration/proxy"
)

// The methods that the faults below strike at, as class and method.
var (
	connectionOpenOk = [2]uint16{10, 41}
	basicPublish     = [2]uint16{60, 40}
	basicAck         = [2]uint16{60, 80}
)

// throughProxy runs a test with a proxy before each broker, and the
// configuration to connect through it.
func throughProxy(t *testing.T, test func(t *testing.T, b broker, p *proxy.Proxy, cfg amqp.Config)) {
	t.Helper()
	eachBroker(t, func(t *testing.T, b broker) {
		cfg := b.config(t)
		p, err := proxy.Start(net.JoinHostPort(cfg.Host, portOf(t, cfg)))
		require.NoError(t, err)
		t.Cleanup(p.Close)
		cfg.Host, cfg.Port = "127.0.0.1", p.Port()
		test(t, b, p, cfg)
	})
}

// at strikes once, at the first such method in that direction.
func at(d proxy.Direction, method [2]uint16, verdict proxy.Verdict) func(proxy.Frame) proxy.Verdict {
	struck := false
	return func(f proxy.Frame) proxy.Verdict {
		if struck || f.Direction != d || !f.Is(method[0], method[1]) {
			return proxy.Pass
		}
		struck = true
		return verdict
	}
}

// A message whose fate is not known is neither refused nor confirmed.
func TestFaultUnknownOutcome(t *testing.T) {
	for name, c := range map[string]struct {
		direction proxy.Direction
		method    [2]uint16
		verdict   proxy.Verdict
		arrives   int
	}{
		"reset as the confirm comes":   {proxy.ToClient, basicAck, proxy.Reset, 1},
		"reset within the confirm":     {proxy.ToClient, basicAck, proxy.Half, 1},
		"reset before the publish":     {proxy.ToServer, basicPublish, proxy.Reset, 0},
		"reset within the publish":     {proxy.ToServer, basicPublish, proxy.Half, 0},
		"reset right after the method": {proxy.ToServer, basicPublish, proxy.PassReset, 0},
	} {
		t.Run(name, func(t *testing.T) {
			throughProxy(t, func(t *testing.T, b broker, p *proxy.Proxy, cfg amqp.Config) {
				ctx := soon(t)
				err := amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
					_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q"})
					require.NoError(t, err)
					require.NoError(t, ch.Confirm(ctx))
					p.OnFrame(at(c.direction, c.method, c.verdict))
					err = ch.Publish(ctx, "", "q", amqp.Message{Body: []byte("body")})
					require.ErrorIs(t, err, amqp.ErrUnconfirmed)
					require.NotErrorIs(t, err, amqp.ErrNacked)
					require.ErrorIs(t, err, amqp.ErrConnectionClosed)
					return nil
				})
				require.ErrorIs(t, err, amqp.ErrConnectionClosed)
				b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
					requireCount(t, ctx, conn, "q", c.arrives)
				})
			})
		})
	}
}

// A confirm that never comes is waited for as long as the caller wants.
func TestFaultLostConfirm(t *testing.T) {
	throughProxy(t, func(t *testing.T, b broker, p *proxy.Proxy, cfg amqp.Config) {
		ctx := soon(t)
		require.NoError(t, amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			q := newQueue(t, ctx, ch, nil)
			require.NoError(t, ch.Confirm(ctx))
			enough := errors.New("enough")
			brief, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			lose := at(proxy.ToClient, basicAck, proxy.Drop)
			p.OnFrame(func(f proxy.Frame) proxy.Verdict {
				verdict := lose(f)
				if verdict == proxy.Drop {
					cancel(enough)
				}
				return verdict
			})
			err := ch.Publish(brief, "", q, amqp.Message{})
			require.ErrorIs(t, err, amqp.ErrUnconfirmed)
			require.ErrorIs(t, err, enough)
			require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{}), "the channel is usable")
			return nil
		}))
	})
}

// A reset anywhere in the handshake is an error, and leaves nothing behind.
func TestFaultInTheHandshake(t *testing.T) {
	throughProxy(t, func(t *testing.T, b broker, p *proxy.Proxy, cfg amqp.Config) {
		attempt := 0
		for n := range 8 { // header, start, start-ok, tune, tune-ok, open, open-ok, and none
			for _, verdict := range []proxy.Verdict{proxy.Reset, proxy.Half, proxy.PassReset} {
				attempt++
				this, seen := attempt, 0
				p.OnFrame(func(f proxy.Frame) proxy.Verdict {
					if f.Connection != this { // a frame that was still on its way when its connection was reset
						return proxy.Pass
					}
					if seen++; seen == n+1 {
						return verdict
					}
					return proxy.Pass
				})
				ctx := soon(t)
				err := amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
					if n < 7 {
						<-conn.Context().Done() // of a reset behind open-ok
					}
					return nil
				})
				if n < 7 {
					require.Error(t, err, "frame %d, verdict %d", n, verdict)
					require.NoError(t, ctx.Err(), "frame %d, verdict %d", n, verdict)
				}
			}
		}
	})
}

// A peer that is silent from the first moment on is noticed by its missing
// heartbeats.
func TestFaultSilentPeer(t *testing.T) {
	t.Parallel() // it takes long and does little
	throughProxy(t, func(t *testing.T, b broker, p *proxy.Proxy, cfg amqp.Config) {
		cfg.Heartbeat = time.Second
		cfg.CloseTimeout = 100 * time.Millisecond
		p.OnFrame(func(f proxy.Frame) proxy.Verdict {
			if f.Direction == proxy.ToClient && f.Is(connectionOpenOk[0], connectionOpenOk[1]) {
				p.BlackHole(proxy.ToClient, true) // behind this frame
			}
			return proxy.Pass
		})
		begin := time.Now()
		err := amqp.WithConnection(soon(t), cfg, func(conn *amqp.Conn) error {
			<-conn.Context().Done()
			require.ErrorIs(t, context.Cause(conn.Context()), amqp.ErrHeartbeatTimeout)
			return nil
		})
		require.ErrorIs(t, err, amqp.ErrHeartbeatTimeout)
		assert.Greater(t, time.Since(begin), 1500*time.Millisecond)
		assert.Less(t, time.Since(begin), patience/4)
	})
}

// A peer that takes nothing more is noticed, too, and no call waits for it
// longer than its context.
func TestFaultFullWindow(t *testing.T) {
	throughProxy(t, func(t *testing.T, b broker, p *proxy.Proxy, cfg amqp.Config) {
		cfg.CloseTimeout = 200 * time.Millisecond
		ctx := soon(t)
		err := amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			p.Hold(proxy.ToServer, true)
			enough := errors.New("enough")
			brief, cancel := context.WithTimeoutCause(ctx, 300*time.Millisecond, enough)
			defer cancel()
			body := make([]byte, 10_000)
			var err error
			for err == nil {
				err = ch.Publish(brief, "", "nowhere", amqp.Message{Body: body})
			}
			require.ErrorIs(t, err, enough)
			_, err = ch.QueueDeclare(brief, amqp.Queue{})
			require.ErrorIs(t, err, enough)
			p.ResetAll()
			<-ch.Context().Done()
			return nil
		})
		require.ErrorIs(t, err, amqp.ErrConnectionClosed)
	})
}

// Bytes that come one by one, and late, make the same frames.
func TestFaultSlowNetwork(t *testing.T) {
	throughProxy(t, func(t *testing.T, b broker, p *proxy.Proxy, cfg amqp.Config) {
		for _, d := range []proxy.Direction{proxy.ToServer, proxy.ToClient} {
			p.Chunk(d, 3)
			p.Delay(d, time.Millisecond)
		}
		ctx := soon(t)
		require.NoError(t, amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			q := newQueue(t, ctx, ch, nil)
			sizes := []int{0, 1, 100, 20_000}
			for _, n := range sizes {
				require.NoError(t, ch.Publish(ctx, "", q, amqp.Message{Body: checked(n)}))
			}
			return consume(ctx, ch, amqp.Consume{Queue: q}, len(sizes), func(i int, body []byte, env *amqp.Envelope) error {
				requireChecked(t, sizes[i], body)
				return env.Ack()
			})
		}))
	})
}

// What a lost connection had not settled is delivered to the next one.
func TestFaultResetWhileConsuming(t *testing.T) {
	throughProxy(t, func(t *testing.T, b broker, p *proxy.Proxy, cfg amqp.Config) {
		ctx := soon(t)
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q"})
			require.NoError(t, err)
			send(t, ctx, ch, "q", texts(10)...)
		})
		var late *amqp.Envelope
		err := amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
			return ch.WithConsumer(ctx, amqp.Consume{Queue: "q", Prefetch: 4}, func(c *amqp.Consumer) error {
				for _, env := range c.Messages() {
					if late == nil {
						late = env
						p.ResetAll()
					}
				}
				require.ErrorIs(t, c.Err(), amqp.ErrConnectionClosed)
				return nil
			})
		})
		require.ErrorIs(t, err, amqp.ErrConnectionClosed)
		require.ErrorIs(t, late.Ack(), amqp.ErrConnectionClosed)
		require.ErrorIs(t, context.Cause(late.Context()), amqp.ErrConnectionClosed)
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			requireCount(t, ctx, conn, "q", 10)
		})
	})
}

// Supervise goes on where a lost connection ended, and nothing is lost.
func TestFaultSupervisedConsumer(t *testing.T) {
	const messages = 300
	throughProxy(t, func(t *testing.T, b broker, p *proxy.Proxy, cfg amqp.Config) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q"})
			require.NoError(t, err)
			send(t, ctx, ch, "q", texts(messages)...)
		})
		seen := map[string]bool{}
		taken, connections := 0, 0
		retry := amqp.Retry{Min: time.Millisecond, Max: 10 * time.Millisecond}
		ctx := soon(t)
		require.NoError(t, amqp.Supervise(ctx, cfg, retry, func(conn *amqp.Conn) error {
			connections++
			return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				return ch.WithConsumer(ctx, amqp.Consume{Queue: "q", Prefetch: 10}, func(c *amqp.Consumer) error {
					for body, env := range c.Messages() {
						seen[string(body)] = true
						if taken++; taken%70 == 0 {
							p.ResetAll()
						}
						if err := env.Ack(); err != nil {
							return err
						}
						if len(seen) == messages {
							return nil
						}
					}
					return c.Err()
				})
			})
		}))
		assert.Greater(t, connections, 3)
		assert.Len(t, seen, messages)
	})
}

// An exclusive queue is its connection's until the broker has missed that. Who wants it next waits under Supervise.
func TestFaultExclusiveQueueOfALostConnection(t *testing.T) {
	throughProxy(t, func(t *testing.T, b broker, p *proxy.Proxy, cfg amqp.Config) {
		ctx := soon(t)
		cfg.Heartbeat, cfg.CloseTimeout = time.Second, 100*time.Millisecond
		declare := func(conn *amqp.Conn) error {
			return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "own", Exclusive: true})
				return err
			})
		}
		refused := 0
		retry := amqp.Retry{Min: 20 * time.Millisecond, Max: 200 * time.Millisecond, OnRetry: func(_ int, _ time.Duration, cause error) {
			assert.ErrorIs(t, cause, amqp.ResourceLocked)
			refused++
		}}
		_ = amqp.WithConnection(ctx, cfg, func(lost *amqp.Conn) error {
			require.NoError(t, declare(lost))
			p.BlackHole(proxy.ToServer, true)
			require.NoError(t, amqp.Supervise(ctx, b.config(t), retry, declare))
			return nil
		})
		assert.Positive(t, refused)
	})
}

// What an outbox has confirmed is in the queue, whatever the network did.
func TestFaultOutbox(t *testing.T) {
	const messages = 200
	throughProxy(t, func(t *testing.T, b broker, p *proxy.Proxy, cfg amqp.Config) {
		ctx := soon(t)
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q"})
			require.NoError(t, err)
		})
		var confirms atomic.Int64
		p.OnFrame(func(f proxy.Frame) proxy.Verdict {
			if f.Direction == proxy.ToClient && f.Is(basicAck[0], basicAck[1]) && confirms.Add(1)%40 == 0 {
				return proxy.Reset
			}
			return proxy.Pass
		})
		outbox := amqp.NewOutbox(amqp.OutboxOptions{})
		running, stop := context.WithCancel(ctx)
		defer stop()
		done := make(chan error, 1)
		go func() {
			retry := amqp.Retry{Min: time.Millisecond, Max: 10 * time.Millisecond}
			done <- amqp.Supervise(running, cfg, retry, outbox.Run)
		}()
		for _, text := range texts(messages) {
			assert.NoError(t, outbox.Publish(ctx, "", "q", amqp.Message{Body: []byte(text)}))
		}
		stop()
		require.ErrorIs(t, <-done, context.Canceled)
		assert.Greater(t, confirms.Load(), int64(40), "the connection was reset")
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			seen := map[string]bool{}
			for len(seen) < messages { // there may be duplicates
				text, env := get(t, ctx, ch, "q")
				seen[text] = true
				require.NoError(t, env.Ack())
			}
		})
	})
}

func TestDrainedBroker(t *testing.T) {
	privately(t, func(t *testing.T, b broker) {
		t.Cleanup(func() { require.NoError(t, b.node.Revive(context.WithoutCancel(t.Context()))) })
		err := b.connectionEnds(t, func(ctx context.Context, conn *amqp.Conn) error {
			require.NoError(t, b.node.Drain(ctx))
			<-conn.Context().Done()
			return nil
		})
		requireException(t, err, amqp.ConnectionForced, "maintenance")
	})
}

// A delivery that is held too long costs its channel, and the connection lives.
func TestDeliveryHeldTooLong(t *testing.T) {
	privately(t, func(t *testing.T, b broker) {
		if b.since(t, 4, 3) {
			t.Skip("SKIPPED: it costs its consumer, which another test is about")
		}
		timeouts := func(consumer, tick string) {
			_, err := b.node.Ctl(context.WithoutCancel(t.Context()), "eval", strings.NewReplacer("CONSUMER", consumer, "TICK", tick).Replace(
				"application:set_env(rabbit, consumer_timeout, CONSUMER), application:set_env(rabbit, channel_tick_interval, TICK)."))
			require.NoError(t, err)
		}
		timeouts("300", "300")
		t.Cleanup(func() { timeouts("1800000", "60000") })
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			err := channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				send(t, ctx, ch, q, "a")
				err := consume(ctx, ch, amqp.Consume{Queue: q}, 1, func(_ int, _ []byte, env *amqp.Envelope) error {
					<-env.Context().Done()
					require.ErrorIs(t, context.Cause(env.Context()), amqp.PreconditionFailed)
					return nil
				})
				if err != nil { // it is told here or by the channel's scope
					requireException(t, err, amqp.PreconditionFailed, "timed out")
				}
			})
			requireException(t, err, amqp.PreconditionFailed, "timed out")
			_, err = conn.ExchangeExists(ctx, "amq.direct")
			require.NoError(t, err)
		})
	})
}
