package amqp_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

var errNoRoute = errors.New("no route to host")

// unreachable has every dial fail, and counts them.
func (w *world) unreachable() *atomic.Int64 {
	var dials atomic.Int64
	w.cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
		dials.Add(1)
		return nil, errNoRoute
	}
	return &dials
}

// dialling counts the dials that reach the broker.
func (w *world) dialling() *atomic.Int64 {
	var dials atomic.Int64
	dial := w.cfg.Dial
	w.cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return dial(ctx, network, addr)
	}
	return &dials
}

// neverRuns is a body that must not run.
func neverRuns(w *world) func(*amqp.Conn) error {
	return func(*amqp.Conn) error {
		w.Error("there is no connection to run on")
		return nil
	}
}

// lostAtOnce is a body whose connection the network drops.
func (w *world) lostAtOnce(conn *amqp.Conn) error {
	w.broker.Sever()
	<-conn.Context().Done()
	return nil
}

func TestSuperviseRetriesTheFirstConnect(t *testing.T) {
	bubble(t, func(w *world) {
		dial, dials := w.cfg.Dial, 0
		w.cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dials++; dials < 4 {
				return nil, errNoRoute
			}
			return dial(ctx, network, addr)
		}
		ran := 0
		require.NoError(w, amqp.Supervise(context.Background(), w.cfg, amqp.Retry{}, func(*amqp.Conn) error { ran++; return nil }))
		require.Equal(w, 4, dials)
		require.Equal(w, 1, ran)
	})
}

// healing are ends of a connection after which another may live.
var healing = map[string]func(w *world, conn *amqp.Conn){
	"cable":              func(w *world, _ *amqp.Conn) { w.broker.Sever() },
	"operator":           func(w *world, _ *amqp.Conn) { w.broker.CloseConnections(320, "CONNECTION_FORCED - bye") },
	"broker's own error": func(w *world, _ *amqp.Conn) { w.broker.CloseConnections(541, "INTERNAL_ERROR") },
	"broker's resources": func(w *world, _ *amqp.Conn) { w.broker.CloseConnections(506, "RESOURCE_ERROR") },
	"silence": func(w *world, conn *amqp.Conn) {
		w.broker.Stall()
		<-conn.Context().Done()
		w.broker.Resume()
	},
}

func TestSuperviseGoesOnAfterALoss(t *testing.T) {
	for name, lose := range healing {
		for result, end := range map[string]func(*amqp.Conn) error{
			"nil":       func(*amqp.Conn) error { return nil },
			"the cause": func(conn *amqp.Conn) error { return context.Cause(conn.Context()) },
			"an echo":   func(conn *amqp.Conn) error { return conn.Context().Err() },
			"an error around it": func(conn *amqp.Conn) error {
				return fmt.Errorf("orders: %w", context.Cause(conn.Context()))
			},
		} {
			t.Run(name+"/"+result, func(t *testing.T) {
				bubble(t, func(w *world) {
					w.cfg.Heartbeat = time.Second
					ran := 0
					require.NoError(w, amqp.Supervise(context.Background(), w.cfg, amqp.Retry{}, func(conn *amqp.Conn) error {
						if ran++; ran == 3 {
							return nil
						}
						lose(w, conn)
						<-conn.Context().Done()
						return end(conn)
					}))
					require.Equal(w, 3, ran)
				})
			})
		}
	}
}

// A call was answered by the end of the connection, and body handled that: as with WithConnection, nothing is left to be told.
func TestSuperviseIsDoneWhenBodyDealtWithTheException(t *testing.T) {
	for code, text := range map[uint16]string{541: "INTERNAL_ERROR", 320: "CONNECTION_FORCED - bye", 540: "NOT_IMPLEMENTED"} {
		t.Run(text, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.broker.On("queue.declare", func(*amqptest.Event) amqptest.Action { return amqptest.CloseConnection(code, text) })
				retry, all := noting(amqp.Retry{Attempts: 3})
				require.NoError(w, amqp.Supervise(context.Background(), w.cfg, retry, func(conn *amqp.Conn) error {
					return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
						_, err := ch.QueueDeclare(ch.Context(), amqp.Queue{Name: "q"})
						require.ErrorIs(w, err, amqp.ReplyCode(code))
						return nil
					})
				}))
				require.Empty(w, *all)
			})
		})
	}
}

// hopeless is what waiting does not heal.
var hopeless = map[string]struct {
	opts  []amqptest.Option
	setUp func(w *world)
	body  func(w *world, conn *amqp.Conn) error
	err   error
}{
	"password":     {setUp: func(w *world) { w.cfg.Password = "wrong" }, err: amqp.AccessRefused},
	"virtual host": {setUp: func(w *world) { w.cfg.VirtualHost = "none" }, err: amqp.NotAllowed},
	"refused by all endpoints": {setUp: func(w *world) {
		w.cfg.Password, w.cfg.Endpoints = "wrong", []string{"b", "c:1234"}
	}, err: amqp.AccessRefused},
	"body's own error": {body: func(*world, *amqp.Conn) error { return errFull }, err: errFull},
	"body's own error beside a loss": {body: func(w *world, conn *amqp.Conn) error {
		_ = w.lostAtOnce(conn)
		return errFull
	}, err: errFull},
	"a task's own error beside a loss": {body: func(w *world, conn *amqp.Conn) error {
		conn.Go(func(ctx context.Context) error {
			<-ctx.Done()
			return errFull
		})
		return w.lostAtOnce(conn)
	}, err: errFull},
	"a deadline of body's own": {body: func(_ *world, conn *amqp.Conn) error {
		ctx, cancel := context.WithTimeout(conn.Context(), time.Second)
		defer cancel()
		<-ctx.Done()
		return ctx.Err()
	}, err: context.DeadlineExceeded},
	"channel exception": {body: func(_ *world, conn *amqp.Conn) error {
		return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(ch.Context(), amqp.Queue{Name: "none", Passive: true})
			return err
		})
	}, err: amqp.NotFound},
	"what the broker can't do": {body: func(_ *world, conn *amqp.Conn) error {
		return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
			return ch.Publish(ch.Context(), "", "q", amqp.Message{Immediate: true})
		})
	}, err: amqp.NotImplemented},
	"a message that is too large": {setUp: func(w *world) {
		w.queue("q", 1)
		w.cfg.MaxMessageSize = 1
		require.NoError(w, w.channel(func(ch *amqp.Channel) error {
			return ch.Publish(context.Background(), "", "q", amqp.Message{Body: []byte("large")})
		}))
	}, body: func(_ *world, conn *amqp.Conn) error {
		return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
			return ch.WithConsumer(ch.Context(), amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
				for range c.Messages() { // until its end
				}
				return c.Err()
			})
		})
	}, err: amqp.ErrMessageTooLarge},
}

var errFull = errors.New("the disk is full")

func TestSuperviseGivesUpOnWhatDoesNotHeal(t *testing.T) {
	for name, h := range hopeless {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				if h.setUp != nil {
					h.setUp(w)
				}
				retry, all := noting(amqp.Retry{})
				ran := 0
				err := amqp.Supervise(context.Background(), w.cfg, retry, func(conn *amqp.Conn) error {
					ran++
					if h.body == nil {
						return nil
					}
					return h.body(w, conn)
				})
				require.ErrorIs(w, err, h.err)
				require.Empty(w, *all)
				if h.body != nil {
					require.Equal(w, 1, ran)
				} else {
					require.Zero(w, ran)
				}
			}, h.opts...)
		})
	}
}

// selfSigned is a certificate for host that nobody vouches for.
func selfSigned(t *testing.T, host string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestSuperviseGivesUpOnABadCertificate(t *testing.T) {
	certificate := selfSigned(t, "localhost")
	trusting := x509.NewCertPool()
	trusting.AddCert(certificate.Leaf)
	for name, c := range map[string]struct {
		host string
		conf *tls.Config
		as   any
	}{
		"of an unknown authority": {"localhost", &tls.Config{RootCAs: x509.NewCertPool()}, new(x509.UnknownAuthorityError)},
		"of another host":         {"elsewhere", &tls.Config{RootCAs: trusting}, new(x509.HostnameError)},
	} {
		t.Run(name, func(t *testing.T) {
			broker := amqptest.NewBroker(amqptest.WithTLS(&tls.Config{Certificates: []tls.Certificate{certificate}}))
			defer broker.Close()
			retry, all := noting(amqp.Retry{})
			err := amqp.Supervise(t.Context(), amqp.Config{Host: c.host, Dial: broker.Dial, TLS: c.conf}, retry, func(*amqp.Conn) error { return nil })
			require.ErrorAs(t, err, c.as)
			require.Empty(t, *all)
		})
	}
}

func TestSuperviseGivesUpOnAConfigurationThatCannotWork(t *testing.T) {
	for name, change := range map[string]func(*amqp.Config){
		"port":      func(c *amqp.Config) { c.Port = 70_000 },
		"frame":     func(c *amqp.Config) { c.FrameMax = 4096 },
		"endpoint":  func(c *amqp.Config) { c.Endpoints = []string{"a:b:c"} },
		"mechanism": func(c *amqp.Config) { c.Auth = []amqp.Mechanism{nil} },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				dials := w.dialling()
				change(&w.cfg)
				require.ErrorContains(w, amqp.Supervise(context.Background(), w.cfg, amqp.Retry{}, neverRuns(w)), "amqp: config")
				require.Zero(w, dials.Load())
			})
		})
	}
}

func TestSuperviseReturnsWhenItsContextEnds(t *testing.T) {
	enough := errors.New("enough")
	t.Run("before it began", func(t *testing.T) {
		bubble(t, func(w *world) {
			ctx, cancel := context.WithCancelCause(context.Background())
			cancel(enough)
			require.ErrorIs(w, amqp.Supervise(ctx, w.cfg, amqp.Retry{}, neverRuns(w)), enough)
		})
	})
	t.Run("while it waits", func(t *testing.T) {
		bubble(t, func(w *world) {
			dials := w.unreachable()
			ctx, cancel := context.WithTimeoutCause(context.Background(), 50*time.Millisecond, enough)
			defer cancel()
			begin := time.Now()
			err := amqp.Supervise(ctx, w.cfg, amqp.Retry{Min: 1000 * time.Hour, Max: 1000 * time.Hour}, neverRuns(w))
			require.ErrorIs(w, err, enough)
			require.ErrorContains(w, err, errNoRoute.Error(), "what it waited for")
			require.EqualValues(w, 1, dials.Load())
			require.LessOrEqual(w, time.Since(begin), 50*time.Millisecond)
		})
	})
	t.Run("while it connects", func(t *testing.T) {
		bubble(t, func(w *world) {
			w.broker.Stall()
			ctx, cancel := context.WithTimeoutCause(context.Background(), time.Second, enough)
			defer cancel()
			begin := time.Now()
			require.ErrorIs(w, amqp.Supervise(ctx, w.cfg, amqp.Retry{}, neverRuns(w)), enough)
			require.Equal(w, time.Second, time.Since(begin))
		})
	})
	t.Run("while body runs", func(t *testing.T) {
		bubble(t, func(w *world) {
			ctx, cancel := context.WithTimeoutCause(context.Background(), time.Second, enough)
			defer cancel()
			retry, all := noting(amqp.Retry{})
			require.ErrorIs(w, amqp.Supervise(ctx, w.cfg, retry, func(conn *amqp.Conn) error {
				<-conn.Context().Done()
				return nil
			}), enough)
			require.Empty(w, *all)
		})
	})
}

func TestSuperviseTriesEndpointsInTurn(t *testing.T) {
	bubble(t, func(w *world) {
		dial := w.cfg.Dial
		var tried []string
		down := map[string]bool{"a:5672": true, "b:5672": true}
		w.cfg.Host, w.cfg.Endpoints = "a", []string{"b", "c:1234"}
		w.cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			tried = append(tried, addr)
			if down[addr] {
				return nil, errNoRoute
			}
			return dial(ctx, network, addr)
		}
		ran := 0
		require.NoError(w, amqp.Supervise(context.Background(), w.cfg, amqp.Retry{}, func(conn *amqp.Conn) error {
			switch ran++; ran {
			case 1:
				down["b:5672"] = false
			case 2:
				down["a:5672"] = false
			case 3:
				return nil
			}
			return w.lostAtOnce(conn)
		}))
		require.Equal(w, "a:5672 b:5672 c:1234 a:5672 b:5672 a:5672", strings.Join(tried, " "))
	})
}

// One endpoint that refuses for good says nothing of another that is down.
func TestSuperviseRetriesWhenOneEndpointMayHeal(t *testing.T) {
	bubble(t, func(w *world) {
		dial := w.cfg.Dial
		w.cfg.Host, w.cfg.Endpoints, w.cfg.Password = "refusing", []string{"down"}, "wrong"
		w.cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == "down:5672" {
				return nil, errNoRoute
			}
			return dial(ctx, network, addr)
		}
		err := amqp.Supervise(context.Background(), w.cfg, amqp.Retry{Attempts: 3}, neverRuns(w))
		require.ErrorContains(w, err, "gave up after 3 attempts")
		require.ErrorIs(w, err, amqp.AccessRefused, "every endpoint's failure is told")
		require.ErrorIs(w, err, errNoRoute)
	})
}

func TestSuperviseAsksForCredentialsAtEveryConnect(t *testing.T) {
	bubble(t, func(w *world) {
		asked := 0
		w.cfg.Credentials = func(context.Context) (string, string, error) {
			switch asked++; asked {
			case 1:
				return "", "", errors.New("the token service is down")
			case 2:
				return "alice", "first", nil
			}
			return "alice2", "second", nil
		}
		var users []string
		require.NoError(w, amqp.Supervise(context.Background(), w.cfg, amqp.Retry{}, func(conn *amqp.Conn) error {
			for _, c := range w.broker.Connections() {
				users = append(users, c.User)
			}
			if len(users) == 2 {
				return nil
			}
			return w.lostAtOnce(conn)
		}))
		require.Equal(w, []string{"alice", "alice2"}, users)
		require.Equal(w, 3, asked)
	}, amqptest.WithUser("alice", "first"), amqptest.WithUser("alice2", "second"))
}

// Before the next attempt, everything in the scope of the one before has ended, with its cause.
func TestSuperviseEndsOneConnectionBeforeTheNext(t *testing.T) {
	bubble(t, func(w *world) {
		var living atomic.Int64
		ran := 0
		require.NoError(w, amqp.Supervise(context.Background(), w.cfg, amqp.Retry{}, func(conn *amqp.Conn) error {
			require.Zero(w, living.Load())
			if ran++; ran == 4 {
				return nil
			}
			living.Add(1)
			conn.Go(func(ctx context.Context) error {
				defer living.Add(-1)
				<-ctx.Done()
				time.Sleep(time.Minute) // it takes its time
				assert.ErrorIs(w, context.Cause(ctx), amqp.ErrConnectionClosed)
				return nil
			})
			return w.lostAtOnce(conn)
		}))
		require.Zero(w, living.Load())
	})
}

func TestSuperviseLetsAPanicThrough(t *testing.T) {
	bubble(t, func(w *world) {
		require.PanicsWithValue(w, "oops", func() {
			_ = amqp.Supervise(context.Background(), w.cfg, amqp.Retry{}, func(*amqp.Conn) error { panic("oops") })
		})
		require.NoError(w, w.broker.Wait(context.Background(), func() bool { return len(w.broker.Connections()) == 0 }))
	})
}
