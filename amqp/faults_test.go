package amqp_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// Failures that other clients are known for, and those that no suite has.

func TestAckOfADeliveryOfALostConnectionSettlesNothingOnTheNext(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 3)
		var old *amqp.Envelope
		done := errors.New("done")
		err := amqp.Supervise(context.Background(), w.cfg, amqp.Retry{}, func(conn *amqp.Conn) error {
			ctx := conn.Context()
			return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				return ch.WithConsumer(ctx, amqp.Consume{Queue: "q", Prefetch: 1}, func(c *amqp.Consumer) error {
					for body, env := range c.Messages() {
						assert.Equal(w, "0", string(body))
						if old == nil {
							old = env
							w.broker.Sever()
							<-env.Context().Done()
							return c.Err()
						}
						assert.Equal(w, old.DeliveryTag, env.DeliveryTag, "the tag would fit")
						assert.ErrorIs(w, old.Ack(), amqp.ErrConnectionClosed)
						assert.ErrorIs(w, old.Nack(false), amqp.ErrConnectionClosed)
						return done
					}
					return c.Err()
				})
			})
		})
		assert.Equal(w, done, err)
		assert.Equal(w, numbers(0, 3), w.bodies("q"))
	})
}

// Whether a message that the connection took along was published is not known. It was not refused.
func TestLostConnectionLeavesConfirmsUnknown(t *testing.T) {
	losses := map[string]struct {
		lose  func(w *world, nc func() *amqptest.FaultyConn)
		there int // messages in the queue
	}{
		"before the broker saw the message": {func(w *world, _ func() *amqptest.FaultyConn) {
			w.broker.On("basic.publish", func(*amqptest.Event) amqptest.Action { return amqptest.Sever() })
		}, 0},
		"when the confirm was under way": {func(w *world, _ func() *amqptest.FaultyConn) {
			w.broker.On("basic.ack", func(*amqptest.Event) amqptest.Action { return amqptest.Sever() })
		}, 1},
		"in the middle of the confirm's frame": {func(w *world, _ func() *amqptest.FaultyConn) {
			w.broker.On("basic.ack", func(*amqptest.Event) amqptest.Action { return amqptest.Cut(10) })
		}, 1},
		"by an operator": {func(w *world, _ func() *amqptest.FaultyConn) {
			w.broker.On("basic.ack", func(*amqptest.Event) amqptest.Action {
				return amqptest.CloseConnection(320, "CONNECTION_FORCED - shutdown")
			})
		}, 1},
		"in the middle of the message": {func(_ *world, nc func() *amqptest.FaultyConn) { nc().StallWrites() }, 0},
	}
	for name, loss := range losses {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 0)
				nc := w.faulty()
				live := context.Background()
				err := w.channel(func(ch *amqp.Channel) error {
					require.NoError(w, ch.Confirm(live))
					loss.lose(w, nc)
					if name == "in the middle of the message" {
						time.AfterFunc(time.Second, func() { nc().Cut() })
					}
					err := ch.Publish(live, "", "q", amqp.Message{Body: make([]byte, 10<<10)})
					assert.ErrorIs(w, err, amqp.ErrUnconfirmed)
					assert.ErrorIs(w, err, amqp.ErrConnectionClosed)
					assert.NotErrorIs(w, err, amqp.ErrNacked)
					return nil
				})
				assert.ErrorIs(w, err, amqp.ErrConnectionClosed)
				synctest.Wait()
				assert.Equal(w, loss.there, w.state("q").Ready)
			})
		})
	}
}

// Returns that nobody takes are bounded, and hold up nobody.
func TestReturnsThatNobodyReadsStallNothing(t *testing.T) {
	bubble(t, func(w *world) {
		live := context.Background()
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			return conn.WithChannel(live, func(ch *amqp.Channel) error {
				ch.Returns()
				begin := time.Now()
				for range 10000 {
					if err := ch.Publish(live, "", "nowhere", amqp.Message{Mandatory: true}); err != nil {
						return err
					}
				}
				require.NoError(w, conn.WithChannel(live, func(other *amqp.Channel) error {
					_, err := other.QueueDeclare(live, amqp.Queue{Exclusive: true})
					return err
				}))
				_, err := ch.QueueDeclare(live, amqp.Queue{Exclusive: true})
				require.NoError(w, err)
				assert.Zero(w, time.Since(begin))
				assert.EqualValues(w, 10000, conn.Stats().Returned)
				kept := 0
				for range ch.Returns() {
					if kept++; kept == 4096 {
						break
					}
				}
				ch.Go(func(context.Context) error {
					for range ch.Returns() {
						assert.Fail(w, "more than the bound")
					}
					return nil
				})
				synctest.Wait()
				ch.Cancel(nil)
				return nil
			})
		}))
	})
}

// A no-ack consumer that stops reading takes a bounded amount of memory, and a call that its handler makes is answered.
func TestNoAckConsumerThatStopsReadingIsBounded(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		const n, size = 300, 64 << 10 // 19 MB
		live := context.Background()
		w.flood("q", n, size)
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			return conn.WithChannel(live, func(ch *amqp.Channel) error {
				return ch.WithConsumer(live, amqp.Consume{Queue: "q", NoAck: true}, func(c *amqp.Consumer) error {
					synctest.Wait()
					assert.Less(w, conn.Stats().Delivered*size, uint64(6<<20))
					got := 0
					for range c.Messages() {
						if got++; got%100 == 1 {
							_, err := ch.QueueDeclare(live, amqp.Queue{Name: "q", Passive: true})
							require.NoError(w, err)
						}
						if got == n {
							break
						}
					}
					assert.Equal(w, n, got)
					return nil
				})
			})
		}))
	})
}

func TestPublishUnderAnAlarmAndTheGoodbyeEndInTime(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 0)
		begin := time.Now()
		err := w.channel(func(ch *amqp.Channel) error {
			w.broker.Block("memory")
			for {
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
				err := ch.Publish(ctx, "", "q", amqp.Message{Body: make([]byte, 10<<10)})
				cancel()
				if err != nil {
					assert.ErrorIs(w, err, context.DeadlineExceeded)
					return nil
				}
			}
		})
		if err != nil { // a broker with an alarm may not even read the goodbye
			assert.ErrorContains(w, err, "CloseTimeout")
		}
		assert.LessOrEqual(w, time.Since(begin), 2*time.Second+5*time.Second)
		w.broker.Unblock()
	})
}

// Calls, channels and consumers inside of a handler with a full prefetch: the reader never waits for the application.
func TestCallsInsideAHandlerWithManyMessagesWaiting(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 2000)
		live := context.Background()
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			return conn.WithChannel(live, func(ch *amqp.Channel) error {
				return ch.WithConsumer(live, amqp.Consume{Queue: "q", Prefetch: 1000}, func(c *amqp.Consumer) error {
					n := 0
					for _, env := range c.Messages() {
						if n%100 == 0 {
							_, err := ch.QueueDeclare(live, amqp.Queue{Name: fmt.Sprint("own", n), Exclusive: true})
							require.NoError(w, err)
							_, err = conn.QueueStatus(live, "q")
							require.NoError(w, err)
							require.NoError(w, ch.WithConsumer(live, amqp.Consume{Queue: fmt.Sprint("own", n)}, func(*amqp.Consumer) error { return nil }))
						}
						require.NoError(w, env.Ack())
						if n++; n == 2000 {
							break
						}
					}
					return nil
				})
			})
		}))
		assert.Zero(w, w.state("q").Ready+w.state("q").Unacked)
	})
}

// A delivery that is not settled in time costs the channel, and says so where it hurts.
func TestAcknowledgementTimeout(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 1)
		live := context.Background()
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			err := conn.WithChannel(live, func(ch *amqp.Channel) error {
				return ch.WithConsumer(live, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
					return c.Process(1, func(ctx context.Context, _ []byte, env *amqp.Envelope) error {
						<-ctx.Done()
						assert.ErrorIs(w, context.Cause(ctx), amqp.PreconditionFailed)
						assert.ErrorIs(w, context.Cause(env.Context()), amqp.PreconditionFailed)
						return ctx.Err()
					})
				})
			})
			assert.ErrorIs(w, err, amqp.PreconditionFailed)
			assert.Equal(w, 1, flat(err), "%v", err)
			_, err = conn.QueueStatus(live, "q")
			return err
		}))
		assert.Equal(w, 1, w.state("q").Ready)
	}, amqptest.WithConsumerTimeout(time.Minute))
}

// A node that is drained for maintenance closes its connections with 320: the program goes on on the next one.
func TestMaintenanceDrain(t *testing.T) {
	bubble(t, func(w *world) {
		w.queue("q", 10)
		got := map[string]bool{}
		connections := 0
		err := amqp.Supervise(context.Background(), w.cfg, amqp.Retry{}, func(conn *amqp.Conn) error {
			connections++
			ctx := conn.Context()
			return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				return ch.WithConsumer(ctx, amqp.Consume{Queue: "q", Prefetch: 1}, func(c *amqp.Consumer) error {
					for body, env := range c.Messages() {
						require.NoError(w, env.Ack())
						synctest.Wait()
						if got[string(body)] = true; len(got) == 4*connections {
							w.broker.CloseConnections(320, "CONNECTION_FORCED - Node was put into maintenance mode")
							synctest.Wait() // or the next message's ack fails
						}
						if len(got) == 10 {
							return nil
						}
					}
					return c.Err()
				})
			})
		})
		assert.NoError(w, err)
		assert.Equal(w, 3, connections)
	})
}

// A token that expires in the middle is a 403 on the next operation. The connection stays.
func TestTokenThatExpires(t *testing.T) {
	bubble(t, func(w *world) {
		live := context.Background()
		expired := true
		w.broker.On("queue.declare", func(*amqptest.Event) amqptest.Action {
			if expired {
				return amqptest.CloseChannel(403, "ACCESS_REFUSED - token expired")
			}
			return amqptest.Pass()
		})
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			declare := func(ch *amqp.Channel) error {
				_, err := ch.QueueDeclare(live, amqp.Queue{Name: "q", Exclusive: true})
				return err
			}
			assert.ErrorIs(w, conn.WithChannel(live, declare), amqp.AccessRefused)
			require.NoError(w, conn.UpdateSecret(live, "fresh", "the old one has expired"))
			assert.Equal(w, "fresh", w.broker.Connections()[0].LastSecret)
			expired = false
			return conn.WithChannel(live, declare)
		}))
	})
}

// certificate makes a certificate for localhost.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(crand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestPlainClientOnATLSPortAndTheReverse(t *testing.T) {
	cert, pool := certificate(t)
	never := func(*amqp.Conn) error { return errors.New("connected") }
	overTCP(t, func(ctx context.Context, w *world) {
		w.cfg.TLS = nil
		err := amqp.WithConnection(ctx, w.cfg, never)
		assert.ErrorContains(w, err, "waiting for connection.start") // a TLS alert instead of a reset would tell more
		w.cfg.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
		w.queue("q", 10)
		assert.Equal(w, 10, w.state("q").Ready)
	}, amqptest.WithTLS(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}))
	overTCP(t, func(ctx context.Context, w *world) {
		w.cfg.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
		err := amqp.WithConnection(ctx, w.cfg, never)
		assert.ErrorContains(w, err, "does not speak TLS")
	})
}

// A write that fails while the broker's reason is on its way must not hide it.
func TestBrokersReasonIsFoundBehindAFailedWrite(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		w.queue("q", 0)
		for range 20 {
			err := amqp.WithChannel(ctx, w.cfg, func(ch *amqp.Channel) error {
				body := make([]byte, 10<<10)
				for i := 0; ; i++ {
					if err := ch.Publish(ctx, "", "q", amqp.Message{Body: body}); err != nil {
						return err
					}
					if i == 10 {
						w.broker.CloseConnections(320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'")
					}
				}
			})
			require.ErrorIs(w, err, amqp.ConnectionForced)
		}
	})
}

func TestChannelChurn(t *testing.T) {
	bubble(t, func(w *world) {
		live := context.Background()
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			for range 1000 {
				if err := conn.WithChannel(live, func(ch *amqp.Channel) error {
					assert.EqualValues(w, 1, ch.ID(), "the number is free again")
					return nil
				}); err != nil {
					return err
				}
			}
			assert.Zero(w, conn.Stats().Channels)
			return nil
		}))
	})
}

func TestRepeatedExceptionsWhilePublishing(t *testing.T) {
	overTCP(t, func(ctx context.Context, w *world) {
		require.NoError(w, amqp.WithConnection(ctx, w.cfg, func(conn *amqp.Conn) error {
			return conn.WithChannel(ctx, func(good *amqp.Channel) error {
				for i := range 100 {
					err := conn.WithChannel(ctx, func(bad *amqp.Channel) error {
						for range i {
							if err := bad.Publish(ctx, "none", "q", amqp.Message{Body: []byte("x")}); err != nil {
								assert.ErrorIs(w, err, amqp.NotFound)
								return nil
							}
						}
						return nil
					})
					if i > 0 {
						require.ErrorIs(w, err, amqp.NotFound)
						require.Equal(w, 1, flat(err))
					}
				}
				_, err := good.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
				return err
			})
		}))
	})
}

// The client's goodbye crosses the broker's, and the number is given to somebody else.
func TestGoodbyesThatCross(t *testing.T) {
	bubble(t, func(w *world) {
		live := context.Background()
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			for range 100 {
				remove := w.broker.On("channel.close", func(e *amqptest.Event) amqptest.Action {
					if e.Direction == amqptest.ToBroker {
						w.broker.CloseChannels(406, "PRECONDITION_FAILED - at the last moment")
					}
					return amqptest.Pass()
				})
				err := conn.WithChannel(live, func(*amqp.Channel) error { return nil })
				remove()
				assert.ErrorIs(w, err, amqp.PreconditionFailed)
				require.NoError(w, conn.WithChannel(live, func(next *amqp.Channel) error {
					_, err := next.QueueDeclare(live, amqp.Queue{Exclusive: true})
					return err
				}))
			}
			return nil
		}))
	})
}

// A process that was stopped does not answer. Connecting to it ends when the caller says so, and the second node is tried.
func TestConnectingToAStoppedProcess(t *testing.T) {
	bubble(t, func(w *world) {
		w.broker.Stall()
		other := amqptest.NewBroker(amqptest.InMemory())
		defer other.Close()
		w.cfg.Host, w.cfg.Endpoints, w.cfg.DialTimeout = "stopped", []string{"alive"}, 3*time.Second
		w.cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == "alive:5672" {
				return other.Dial(ctx, network, addr)
			}
			return w.broker.Dial(ctx, network, addr)
		}
		var connected atomic.Bool
		require.NoError(w, w.connect(func(*amqp.Conn) error { connected.Store(true); return nil }))
		assert.True(w, connected.Load())
		w.broker.Resume()
	})
}
