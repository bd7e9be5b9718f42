package amqp_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/scope"
)

// logged is what was logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) lines() []string { return strings.Split(strings.TrimSuffix(l.String(), "\n"), "\n") }

func (l *logged) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level}))
}

// log has the client log everything to what is returned.
func (w *world) log() *logged {
	l := new(logged)
	w.cfg.Logger = l.logger(slog.LevelDebug)
	return l
}

// A session in which nothing is wrong says nothing, at any level: neither to the default logger nor to one of its own.
func TestANormalSessionLogsNothing(t *testing.T) {
	for name, own := range map[string]bool{"the default logger": false, "a logger of its own, for everything": true} {
		t.Run(name, func(t *testing.T) {
			var l logged
			before := slog.Default()
			slog.SetDefault(l.logger(slog.LevelDebug))
			defer slog.SetDefault(before)
			bubble(t, func(w *world) {
				if w.cfg.Logger = nil; own {
					w.cfg.Logger = l.logger(slog.LevelDebug)
				}
				w.cfg.ConnectionName = "normal"
				require.NoError(t, session(w))
			})
			assert.Empty(t, l.String())
		})
	}
}

// session does a little of everything.
func session(w *world) error {
	w.queue("jobs", 10)
	return amqp.Supervise(context.Background(), w.cfg, amqp.Retry{}, func(conn *amqp.Conn) error {
		if _, err := conn.QueueStatus(conn.Context(), "missing"); err == nil {
			w.Error("there is a queue named missing")
		}
		time.Sleep(time.Hour) // of the bubble: heartbeats
		outbox := amqp.NewOutbox(amqp.OutboxOptions{Mandatory: true})
		conn.Go(func(context.Context) error { return outbox.Run(conn) })
		if err := outbox.Publish(conn.Context(), "", "jobs", amqp.Message{}); err != nil {
			return err
		}
		if err := conn.WithChannel(conn.Context(), workSome); err != nil {
			return err
		}
		conn.Cancel(nil)
		return nil
	})
}

// workSome handles some messages, and leaves some.
func workSome(ch *amqp.Channel) error {
	ctx := ch.Context()
	if _, _, err := ch.Get(ctx, "jobs", true); err != nil {
		return err
	}
	return ch.WithConsumer(ctx, amqp.Consume{Queue: "jobs"}, func(c *amqp.Consumer) error {
		return scope.Run(c.Context(), func(s *scope.Scope) error {
			n := 0
			return c.Process(1, func(context.Context, []byte, *amqp.Envelope) error {
				if n++; n == 5 {
					c.Stop()
				}
				return nil
			})
		})
	})
}

// What comes out of no call is told to the log, and says which broker it is about.
func TestWhatIsWrongIsLogged(t *testing.T) {
	const retry = `level=WARN msg="amqp: connecting again after a wait" uri=amqp://guest@localhost:5672/%2F attempt=1`
	for name, c := range map[string]struct {
		session func(w *world) error
		want    []string
	}{
		"connecting again": {
			session: func(w *world) error {
				again := false
				return amqp.Supervise(context.Background(), w.cfg, amqp.Retry{}, func(conn *amqp.Conn) error {
					if again {
						return nil
					}
					again = true
					return w.lostAtOnce(conn)
				})
			},
			want: []string{retry, `cause="connection closed: `},
		},
		"an endpoint that is down": {
			session: func(w *world) error {
				w.cfg.Endpoints = []string{"second:5672"}
				dial := w.cfg.Dial
				w.cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
					if addr == "localhost:5672" {
						return nil, errNoRoute
					}
					return dial(ctx, network, addr)
				}
				return w.connect(func(*amqp.Conn) error { return nil })
			},
			want: []string{`msg="amqp: an endpoint took no connection, the next one is tried" broker=localhost:5672 error="TCP: no route to host" next=second:5672`},
		},
		"an alarm": {
			session: func(w *world) error {
				w.broker.Block("low on disk")
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				return w.channel(func(ch *amqp.Channel) error {
					// The broker tells those who publish.
					require.NoError(w, ch.Publish(ctx, "amq.fanout", "", amqp.Message{}))
					synctest.Wait()
					require.ErrorIs(w, ch.Publish(ctx, "amq.fanout", "", amqp.Message{}), context.DeadlineExceeded)
					w.broker.Unblock()
					return nil
				})
			},
			want: []string{`level=WARN msg="amqp: the broker takes no messages until an alarm of its is over: who publishes waits" broker=localhost:5672 reason="low on disk"`},
		},
		"a returned message that nobody takes": {
			session: func(w *world) error {
				return w.channel(func(ch *amqp.Channel) error {
					msg := amqp.Message{Mandatory: true, Properties: amqp.Properties{MessageID: "m"}}
					require.NoError(w, ch.Publish(ch.Context(), "", "nobody", msg))
					synctest.Wait()
					return nil
				})
			},
			want: []string{`msg="amqp: a message was returned as unroutable, and nobody takes it: range over Channel.Returns" broker=localhost:5672`, "message_id=m"},
		},
		"a handler that fails": {
			session: func(w *world) error {
				w.queue("jobs", 1)
				return w.channel(func(ch *amqp.Channel) error {
					return ch.WithConsumer(ch.Context(), amqp.Consume{Queue: "jobs", Tag: "c"}, func(c *amqp.Consumer) error {
						return c.Process(1, func(context.Context, []byte, *amqp.Envelope) error {
							c.Stop()
							return amqp.Drop
						})
					})
				})
			},
			want: []string{`msg="amqp: a handler failed" broker=localhost:5672 consumer=c exchange="" routing_key=jobs`, "requeue=false"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				var l logged
				w.cfg.Logger = l.logger(slog.LevelWarn)
				require.NoError(t, c.session(w))
				for _, want := range c.want {
					assert.Contains(t, l.String(), want)
				}
				assert.Equal(t, 1, bytes.Count([]byte(l.String()), []byte("\n")), "lines:\n%s", l.String())
			})
		})
	}
}

// Who is told by OnRetry is not told again.
func TestOnRetryTakesThePlaceOfTheLog(t *testing.T) {
	bubble(t, func(w *world) {
		var l logged
		w.cfg.Logger = l.logger(slog.LevelDebug)
		w.unreachable()
		told := 0
		retry := amqp.Retry{Attempts: 3, OnRetry: func(int, time.Duration, error) { told++ }}
		require.ErrorIs(t, amqp.Supervise(context.Background(), w.cfg, retry, neverRuns(w)), errNoRoute)
		assert.Equal(t, 2, told)
		assert.Empty(t, l.String())
	})
}
