package integration

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

func TestConnectionOpensAndCloses(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(_ context.Context, conn *amqp.Conn) {
			assert.NotEmpty(t, conn.ServerProperties()["product"])
			assert.Contains(t, conn.ServerProperties()["capabilities"], "publisher_confirms")
			assert.Equal(t, "127.0.0.1", conn.LocalAddr().(*net.TCPAddr).IP.String())
			assert.Equal(t, b.config(t).Port, conn.RemoteAddr().(*net.TCPAddr).Port)
		})
	})
}

func TestConnectionDialsAsItIsTold(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		cfg := b.config(t)
		var dialled []string
		cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialled = append(dialled, network+" "+addr)
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
		require.NoError(t, amqp.WithConnection(soon(t), cfg, func(*amqp.Conn) error { return nil }))
		require.Len(t, dialled, 1)
		assert.True(t, strings.HasPrefix(dialled[0], "tcp "), dialled[0])
	})
}

func TestConnectionIsNamedAndDescribedAtTheBroker(t *testing.T) {
	onRabbitMQ(t, func(t *testing.T, b broker) {
		if b.node.ManagementURL() == "" {
			t.Skip("SKIPPED: the broker's view needs AMQP_MANAGEMENT_URL")
		}
		cfg := b.config(t)
		cfg.ConnectionName = "the name of " + b.vhost
		cfg.ClientProperties = amqp.Table{"color": "brown"}
		cfg.Heartbeat = 7 * time.Second
		ctx := soon(t)
		require.NoError(t, amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
			seen, err := b.node.Connection(ctx, cfg.ConnectionName)
			require.NoError(t, err)
			assert.Equal(t, b.vhost, seen.VirtualHost)
			assert.Equal(t, "PLAIN", seen.Mechanism)
			assert.Equal(t, "brown", seen.ClientProperties["color"])
			assert.NotEmpty(t, seen.ClientProperties["product"])
			assert.NotEmpty(t, seen.ClientProperties["version"])
			assert.Equal(t, 7, seen.Heartbeat)
			assert.Equal(t, int(conn.Tuning().ChannelMax), seen.ChannelMax)
			assert.Equal(t, int(conn.Tuning().FrameMax), seen.FrameMax)
			capabilities := seen.ClientProperties["capabilities"]
			for _, c := range []string{"publisher_confirms", "consumer_cancel_notify", "basic.nack", "connection.blocked", "authentication_failure_close"} {
				assert.Equal(t, true, capabilities.(map[string]any)[c], c)
			}
			return nil
		}))
	})
}

func TestConnectionTriesEndpointsInTurn(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		cfg := b.config(t)
		good := net.JoinHostPort(cfg.Host, portOf(t, cfg))
		cfg.Host, cfg.Port = "127.0.0.1", unusedPort(t)
		cfg.Endpoints = []string{net.JoinHostPort("127.0.0.1", "1"), good}
		require.NoError(t, amqp.WithConnection(soon(t), cfg, func(conn *amqp.Conn) error {
			assert.Equal(t, good, conn.RemoteAddr().String())
			return nil
		}))
	})
}

func TestConnectionReportsEveryEndpointThatFailed(t *testing.T) {
	cfg := amqp.Config{Host: "127.0.0.1", Port: unusedPort(t), Endpoints: []string{"127.0.0.1:1"}}
	err := amqp.WithConnection(soon(t), cfg, func(*amqp.Conn) error {
		return errors.New("the body ran")
	})
	require.Error(t, err)
	assert.ErrorContains(t, err, net.JoinHostPort("127.0.0.1", portOf(t, cfg)))
	assert.ErrorContains(t, err, "127.0.0.1:1")
	assert.NotContains(t, err.Error(), "the body ran")
}

func TestConnectionRefusedVirtualHost(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		cfg := b.config(t)
		cfg.VirtualHost = "no-such-host"
		err := amqp.WithConnection(soon(t), cfg, func(*amqp.Conn) error { return nil })
		requireException(t, err, amqp.NotAllowed, "no-such-host")
	})
}

func TestConnectionTuning(t *testing.T) {
	t.Run("what the broker proposes", func(t *testing.T) {
		eachBroker(t, func(t *testing.T, b broker) {
			b.connection(t, func(_ context.Context, conn *amqp.Conn) {
				assert.Equal(t, amqp.Tuning{ChannelMax: 2047, FrameMax: 131072, Heartbeat: time.Minute}, conn.Tuning())
			})
		})
	})
	t.Run("less", func(t *testing.T) {
		eachBroker(t, func(t *testing.T, b broker) {
			cfg := b.config(t)
			less := amqp.Tuning{ChannelMax: 7, FrameMax: 8192, Heartbeat: 5 * time.Second}
			cfg.ChannelMax, cfg.FrameMax, cfg.Heartbeat = less.ChannelMax, less.FrameMax, less.Heartbeat
			require.NoError(t, amqp.WithConnection(soon(t), cfg, func(conn *amqp.Conn) error {
				assert.Equal(t, less, conn.Tuning())
				return nil
			}))
		})
	})
	t.Run("more is not to be had", func(t *testing.T) {
		eachBroker(t, func(t *testing.T, b broker) {
			cfg := b.config(t)
			cfg.ChannelMax, cfg.FrameMax, cfg.Heartbeat = 60_000, 1<<24, time.Hour
			require.NoError(t, amqp.WithConnection(soon(t), cfg, func(conn *amqp.Conn) error {
				assert.Equal(t, amqp.Tuning{ChannelMax: 2047, FrameMax: 131072, Heartbeat: time.Minute}, conn.Tuning())
				return nil
			}))
		})
	})
	t.Run("no heartbeat", func(t *testing.T) {
		eachBroker(t, func(t *testing.T, b broker) {
			cfg := b.config(t)
			cfg.Heartbeat = -1
			require.NoError(t, amqp.WithConnection(soon(t), cfg, func(conn *amqp.Conn) error {
				assert.Zero(t, conn.Tuning().Heartbeat)
				return nil
			}))
		})
	})
}

func TestConnectionSurvivesOnHeartbeatsAlone(t *testing.T) {
	t.Parallel() // it takes long and does little
	eachBroker(t, func(t *testing.T, b broker) {
		cfg := b.config(t)
		cfg.Heartbeat = 3 * time.Second // less may really be missed, by a machine that is busy
		require.NoError(t, amqp.WithConnection(soon(t), cfg, func(conn *amqp.Conn) error {
			select {
			case <-conn.Context().Done():
			case <-time.After(10 * time.Second):
			}
			_, err := conn.ExchangeExists(soon(t), "amq.direct")
			return err
		}))
	})
}

func TestChannelNumbersRunOutAndComeBack(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		cfg := b.config(t)
		cfg.ChannelMax = 3
		ctx := soon(t)
		var open func(conn *amqp.Conn, depth int) error
		open = func(conn *amqp.Conn, depth int) error {
			return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				assert.LessOrEqual(t, ch.ID(), cfg.ChannelMax)
				return open(conn, depth+1)
			})
		}
		require.NoError(t, amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
			for range 3 {
				require.ErrorIs(t, open(conn, 0), amqp.ErrNoChannel)
			}
			return nil
		}))
	})
}

func TestChannelsOpenAndCloseInATightLoop(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			for range 500 {
				require.NoError(t, conn.WithChannel(ctx, func(*amqp.Channel) error { return nil }))
			}
		})
	})
}

func TestChannelsOpenAndCloseTogether(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		before := runtime.NumGoroutine()
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			for range 8 {
				conn.Go(func(context.Context) error {
					for range 50 {
						err := channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
							_, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
							assert.NoError(t, err)
						})
						if err != nil {
							return err
						}
					}
					return nil
				})
			}
		})
		assert.Less(t, runtime.NumGoroutine(), before+100)
	})
}

func TestManyChannelsAtOnce(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			const channels = 256
			var opened sync.WaitGroup
			opened.Add(channels)
			for range channels {
				conn.Go(func(context.Context) error {
					return channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
						opened.Done()
						opened.Wait()
						_, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
						assert.NoError(t, err)
					})
				})
			}
		})
	})
}

func TestUpdateSecret(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, conn.UpdateSecret(ctx, "guest", "refreshed"))
			_, err := conn.ExchangeExists(ctx, "amq.direct")
			require.NoError(t, err)
		})
	})
}

func TestBrokerClosesTheConnection(t *testing.T) {
	close := func(t *testing.T, ctx context.Context, b broker, name, reason string) {
		if b.box != nil {
			b.box.CloseConnections(uint16(amqp.ConnectionForced), "CONNECTION_FORCED - "+reason)
			return
		}
		if b.node.ManagementURL() == "" {
			t.Skip("SKIPPED: closing a connection needs AMQP_MANAGEMENT_URL")
		}
		require.NoError(t, b.node.CloseConnection(ctx, name, reason))
	}
	t.Run("while the body waits", func(t *testing.T) {
		eachBroker(t, func(t *testing.T, b broker) {
			err := b.connectionEnds(t, func(ctx context.Context, conn *amqp.Conn) error {
				close(t, ctx, b, t.Name(), "have a break")
				<-conn.Context().Done()
				requireException(t, context.Cause(conn.Context()), amqp.ConnectionForced, "have a break")
				return nil
			})
			requireException(t, err, amqp.ConnectionForced, "have a break")
			require.ErrorIs(t, err, amqp.ErrConnectionClosed)
		})
	})
	t.Run("everything inside ends with the broker's reason", func(t *testing.T) {
		eachBroker(t, func(t *testing.T, b broker) {
			err := b.connectionEnds(t, func(ctx context.Context, conn *amqp.Conn) error {
				var inside atomic.Int32
				conn.Go(func(ctx context.Context) error {
					<-ctx.Done()
					inside.Add(1)
					return context.Cause(ctx)
				})
				return channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
					q := newQueue(t, ctx, ch, nil)
					err := ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(c *amqp.Consumer) error {
						close(t, ctx, b, t.Name(), "all of you")
						for range c.Messages() {
							t.Error("there was no message")
						}
						requireException(t, c.Err(), amqp.ConnectionForced, "all of you")
						return nil
					})
					requireException(t, err, amqp.ConnectionForced, "all of you")
					_, err = ch.QueueDeclare(ctx, amqp.Queue{})
					requireException(t, err, amqp.ConnectionForced, "all of you")
					requireException(t, conn.WithChannel(ctx, func(*amqp.Channel) error { return nil }), amqp.ConnectionForced, "all of you")
				})
			})
			requireException(t, err, amqp.ConnectionForced, "all of you")
			assert.Equal(t, 1, strings.Count(err.Error(), "all of you"), "told once: %v", err)
		})
	})
}

// A body that panics takes its connection down with it, and the panic goes up.
func TestConnectionOfABodyThatPanics(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		assert.PanicsWithValue(t, "oh", func() {
			_ = b.connectionEnds(t, func(ctx context.Context, conn *amqp.Conn) error {
				return channelOn(ctx, conn, func(context.Context, *amqp.Channel) { panic("oh") })
			})
		})
	})
}

func TestConnectionReturnsTheBodysError(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		mine := errors.New("mine")
		err := b.connectionEnds(t, func(ctx context.Context, conn *amqp.Conn) error {
			return conn.WithChannel(ctx, func(*amqp.Channel) error { return mine })
		})
		assert.Equal(t, mine, err)
	})
}

func TestConnectionReportsACancelledContext(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(soon(t))
		err := amqp.WithConnection(ctx, b.config(t), func(conn *amqp.Conn) error {
			cancel(enough)
			<-conn.Context().Done()
			return nil
		})
		require.ErrorIs(t, err, enough)
	})
}

func TestConnectionCancelNilEndsEarly(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(_ context.Context, conn *amqp.Conn) {
			conn.Go(func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			})
			conn.Cancel(nil)
		})
	})
}

// unusedPort is a port where nothing listens, nor can while the test runs: it is
// a client's, whose connection is open.
func unusedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	server, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	return client.LocalAddr().(*net.TCPAddr).Port
}

func portOf(t *testing.T, cfg amqp.Config) string {
	t.Helper()
	return strings.TrimPrefix((&net.TCPAddr{Port: cfg.Port}).String(), ":")
}
