package amqp_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// Somebody registers for returned messages, or for the broker's alarms, and does not range over them: nothing waits for
// that, and what is kept is bounded.
func TestUnreadNotificationsBlockNothing(t *testing.T) {
	t.Run("returns", func(t *testing.T) {
		unread(t, 4096, func(w *world, ch *amqp.Channel, _ *amqp.Conn) (count func() int) {
			returns := ch.Returns()
			for range 10_000 {
				require.NoError(w, ch.Publish(ch.Context(), "", "nobody's queue", amqp.Message{Mandatory: true}))
			}
			return func() (n int) {
				for range returns {
					n++
				}
				return n
			}
		})
	})
	t.Run("alarms", func(t *testing.T) {
		unread(t, 1024, func(w *world, ch *amqp.Channel, conn *amqp.Conn) (count func() int) {
			changes := conn.Blocked()
			for range 600 {
				w.broker.Block("low on memory")
				require.NoError(w, ch.Publish(ch.Context(), "amq.fanout", "", amqp.Message{}), "who publishes is told")
				synctest.Wait()
				w.broker.Unblock()
				synctest.Wait()
			}
			return func() (n int) {
				for range changes {
					n++
				}
				return n
			}
		})
	})
}

// unread lets cause bring notifications, sees that calls go on, and counts what was kept.
func unread(t *testing.T, kept int, cause func(*world, *amqp.Channel, *amqp.Conn) (count func() int)) {
	t.Helper()
	bubble(t, func(w *world) {
		require.NoError(w, amqp.WithConnection(w.Context(), w.cfg, func(conn *amqp.Conn) error {
			return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
				count := cause(w, ch, conn)
				_, err := ch.QueueDeclare(ch.Context(), amqp.Queue{Exclusive: true})
				require.NoError(w, err)
				idle := time.AfterFunc(time.Second, func() { conn.Cancel(nil) })
				defer idle.Stop()
				require.Equal(w, kept, count())
				return nil
			})
		}))
	})
}

// A consumer that takes nothing is sent its prefetch, and no more.
func TestStoppedConsumerIsBoundedByItsPrefetch(t *testing.T) {
	for prefetch, delivered := range map[int]int{0: 256, 1: 1, 50: 50} {
		bubble(t, func(w *world) {
			w.queue("q", 1000)
			require.NoError(w, w.connect(func(conn *amqp.Conn) error {
				return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
					return ch.WithConsumer(ch.Context(), amqp.Consume{Queue: "q", Prefetch: prefetch}, func(*amqp.Consumer) error {
						synctest.Wait()
						require.EqualValues(w, delivered, conn.Stats().Delivered)
						return nil
					})
				})
			}))
		})
	}
}

// The log hears of the first message that nobody takes, then once in a minute of how many there were since, and at the
// end of the channel of the rest.
func TestTheLogIsNotFloodedByReturns(t *testing.T) {
	bubble(t, func(w *world) {
		var l logged
		w.cfg.Logger = l.logger(slog.LevelDebug)
		lines := func(messages ...int) {
			w.Helper()
			synctest.Wait()
			var got []int
			for line := range strings.Lines(l.String()) {
				n := 0
				_, rest, _ := strings.Cut(line, " messages=")
				_, err := fmt.Sscan(rest, &n)
				assert.NoError(w, err, line)
				assert.Contains(w, line, "a message was returned as unroutable, and nobody takes it")
				got = append(got, n)
			}
			assert.Equal(w, messages, got)
		}
		publish := func(ch *amqp.Channel, n int) {
			for range n {
				require.NoError(w, ch.Publish(ch.Context(), "", "nobody's", amqp.Message{Mandatory: true}))
			}
		}
		require.NoError(w, w.connect(func(conn *amqp.Conn) error {
			require.NoError(w, conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
				publish(ch, 1000)
				lines(1)
				time.Sleep(59 * time.Second)
				publish(ch, 500)
				lines(1)
				time.Sleep(time.Second)
				publish(ch, 300)
				lines(1, 1500)
				time.Sleep(time.Hour)
				publish(ch, 1)
				lines(1, 1500, 300)
				publish(ch, 7)
				lines(1, 1500, 300)
				return nil
			}))
			lines(1, 1500, 300, 7)
			return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
				publish(ch, 1)
				synctest.Wait()
				return nil
			})
		}))
		lines(1, 1500, 300, 7, 1)
	})
}
