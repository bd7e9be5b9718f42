package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/scope"
)

// posting is a bubble with an outbox, and with those who publish on it.
type posting struct {
	*world
	outbox   *amqp.Outbox
	outcomes sync.WaitGroup
}

// postOffice runs test with an outbox. It waits for all who publish.
func postOffice(t *testing.T, opts amqp.OutboxOptions, test func(p *posting), broker ...amqptest.Option) {
	t.Helper()
	bubble(t, func(w *world) {
		p := &posting{world: w, outbox: amqp.NewOutbox(opts)}
		test(p)
		p.outcomes.Wait()
		require.Zero(w, p.outbox.Len(), "everything has its outcome")
	}, append([]amqptest.Option{amqptest.WithHistory(1000)}, broker...)...)
}

// publish publishes a text to a queue from a goroutine of its own, which waits for the outcome when publish returns.
func (p *posting) publish(ctx context.Context, exchange, key, text string, outcome func(error)) {
	p.outcomes.Go(func() {
		outcome(p.outbox.Publish(ctx, exchange, key, amqp.Message{Body: []byte(text)}))
	})
	synctest.Wait()
}

// post publishes numbered texts, one after the other, which must all be confirmed.
func (p *posting) post(queue string, from, n int) {
	for i := range n {
		p.publish(context.Background(), "", queue, fmt.Sprint(from+i), func(err error) { assert.NoError(p, err) })
	}
}

// running runs the outbox under Supervise while body runs.
func (p *posting) running(body func()) {
	p.Helper()
	require.NoError(p, scope.Run(context.Background(), func(s *scope.Scope) error {
		s.Go(func(ctx context.Context) error {
			return amqp.Supervise(ctx, p.cfg, amqp.Retry{Min: time.Millisecond}, p.outbox.Run)
		})
		body()
		p.outcomes.Wait()
		s.Cancel(nil)
		return nil
	}))
}

// published lists the bodies that reached the broker, routed or not.
func (p *posting) published() string {
	var list []string
	for _, m := range p.broker.Published() {
		list = append(list, string(m.Body))
	}
	return strings.Join(list, " ")
}

func countedTo(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprint(i))
	}
	return strings.Join(list, " ")
}

func TestOutboxKeepsTheOrder(t *testing.T) {
	postOffice(t, amqp.OutboxOptions{}, func(p *posting) {
		p.queue("q", 0)
		p.post("q", 0, 50)
		require.Equal(p, 50, p.outbox.Len(), "they wait for a connection")
		p.running(func() { p.post("q", 50, 50) })
		require.Equal(p, countedTo(100), p.published())
		require.Equal(p, countedTo(100), strings.Join(p.bodies("q"), " "))
	})
}

// What was not confirmed when a connection died is published again on the next, in order, before what is new.
func TestOutboxPublishesAgainInOrder(t *testing.T) {
	postOffice(t, amqp.OutboxOptions{}, func(p *posting) {
		p.queue("q", 0)
		p.running(func() {
			found := p.lose("basic.ack")
			p.post("q", 0, 20)
			require.Equal(p, countedTo(20), p.published())
			require.Equal(p, 20, p.outbox.Len())
			down := p.broker.On("connection.open", func(*amqptest.Event) amqptest.Action { return amqptest.Sever() })
			p.broker.Sever()
			synctest.Wait()
			p.post("q", 20, 5)
			found()
			down()
		})
		require.Equal(p, countedTo(20)+" "+countedTo(25), p.published())
	})
}

// A message that is confirmed is not published again, whatever happens to those around it.
func TestOutboxPublishesAgainOnlyWhatWasNotConfirmed(t *testing.T) {
	postOffice(t, amqp.OutboxOptions{}, func(p *posting) {
		p.queue("q", 0)
		p.running(func() {
			p.post("q", 0, 3)
			found := p.lose("basic.ack")
			p.post("q", 3, 2)
			found()
			p.broker.Sever()
		})
		require.Equal(p, "0 1 2 3 4 3 4", p.published())
	})
}

func TestOutboxHoldsNoMoreThanItsCapacity(t *testing.T) {
	postOffice(t, amqp.OutboxOptions{Capacity: 2}, func(p *posting) {
		p.queue("q", 0)
		p.post("q", 0, 2)
		brief, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := p.outbox.Publish(brief, "", "q", amqp.Message{Body: []byte("never")})
		require.ErrorIs(p, err, context.DeadlineExceeded)
		require.NotErrorIs(p, err, amqp.ErrUnconfirmed)
		require.ErrorContains(p, err, "not sent: the outbox is full")
		p.post("q", 2, 1) // it waits for room
		require.Equal(p, 2, p.outbox.Len())
		p.running(func() {})
		require.Equal(p, "0 1 2", p.published())
	})
}

func TestOutboxTellsWhatItsContextCutShort(t *testing.T) {
	enough := errors.New("enough")
	brief := func() (context.Context, context.CancelFunc) {
		return context.WithTimeoutCause(context.Background(), time.Second, enough)
	}
	t.Run("before anything", func(t *testing.T) {
		postOffice(t, amqp.OutboxOptions{}, func(p *posting) {
			p.queue("q", 0)
			ctx, cancel := context.WithCancelCause(context.Background())
			cancel(enough)
			p.running(func() {
				err := p.outbox.Publish(ctx, "", "q", amqp.Message{})
				require.ErrorIs(p, err, enough)
				require.NotErrorIs(p, err, amqp.ErrUnconfirmed)
			})
			require.Empty(p, p.published())
		})
	})
	t.Run("without a connection", func(t *testing.T) {
		postOffice(t, amqp.OutboxOptions{}, func(p *posting) {
			p.queue("q", 0)
			ctx, cancel := brief()
			defer cancel()
			err := p.outbox.Publish(ctx, "", "q", amqp.Message{Body: []byte("never")})
			require.ErrorIs(p, err, enough)
			require.NotErrorIs(p, err, amqp.ErrUnconfirmed)
			require.ErrorContains(p, err, "not sent")
			p.running(func() { p.post("q", 0, 1) })
			require.Equal(p, "0", p.published())
		})
	})
	t.Run("before the confirm", func(t *testing.T) {
		postOffice(t, amqp.OutboxOptions{}, func(p *posting) {
			p.queue("q", 0)
			p.running(func() {
				found := p.lose("basic.ack")
				ctx, cancel := brief()
				defer cancel()
				err := p.outbox.Publish(ctx, "", "q", amqp.Message{Body: []byte("once")})
				require.ErrorIs(p, err, enough)
				require.ErrorIs(p, err, amqp.ErrUnconfirmed)
				found()
				p.broker.Sever()
				p.post("q", 0, 1)
			})
			require.Equal(p, "once 0", p.published(), "nobody waits for it, so it is not published again")
		})
	})
}

// justEnding is a context that has ended since somebody looked.
type justEnding struct {
	context.Context
	looked bool
}

func (c *justEnding) Err() error {
	if !c.looked {
		c.looked = true
		return nil
	}
	return c.Context.Err()
}

// An outbox with room is not called full, whenever the context ends.
func TestOutboxThatHasRoomIsNotFull(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	o := amqp.NewOutbox(amqp.OutboxOptions{})
	for range 100 {
		err := o.Publish(&justEnding{Context: ctx}, "", "q", amqp.Message{})
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "not sent")
		require.NotContains(t, err.Error(), "full")
	}
}

func TestOutboxTellsRefusedFromReturned(t *testing.T) {
	postOffice(t, amqp.OutboxOptions{Mandatory: true}, func(p *posting) {
		p.queue("q", 0)
		p.running(func() {
			p.post("q", 0, 1)
			p.broker.NackNext(1)
			var failed *amqp.PublishError
			err := p.outbox.Publish(context.Background(), "", "q", amqp.Message{Body: []byte("refused")})
			require.ErrorIs(p, err, amqp.ErrNacked)
			require.ErrorAs(p, err, &failed)
			require.Equal(p, "q", failed.RoutingKey)
			require.Nil(p, failed.Return)

			err = p.outbox.Publish(context.Background(), "amq.topic", "nobody's", amqp.Message{Body: []byte("back")})
			require.ErrorIs(p, err, amqp.ErrReturned)
			require.NotErrorIs(p, err, amqp.ErrNacked)
			require.ErrorAs(p, err, &failed)
			require.Equal(p, amqp.NoRoute, failed.Return.ReplyCode)
			require.Equal(p, "amq.topic", failed.Return.Exchange)
			p.post("q", 1, 1)
		})
		require.Equal(p, []string{"0", "1"}, p.bodies("q"))
	})
}

// A message may be mandatory in an outbox whose others are not.
func TestOutboxLeavesMandatoryToTheMessage(t *testing.T) {
	postOffice(t, amqp.OutboxOptions{}, func(p *posting) {
		p.running(func() {
			require.NoError(p, p.outbox.Publish(context.Background(), "", "none", amqp.Message{}))
			err := p.outbox.Publish(context.Background(), "", "none", amqp.Message{Mandatory: true})
			require.ErrorIs(p, err, amqp.ErrReturned)
		})
	})
}

// Whoever published to a missing exchange and gave up has nobody else be told of it, and ends nothing.
func TestOutboxBlamesNobodyForAMessageGivenUp(t *testing.T) {
	for _, behind := range []int{0, 1, 3} {
		t.Run(fmt.Sprint(behind, " messages behind it"), func(t *testing.T) {
			postOffice(t, amqp.OutboxOptions{}, func(p *posting) {
				p.queue("q", 0)
				p.running(func() {
					p.post("q", 100, 1) // the channel is open
					slow := p.slow("basic.publish", 10*time.Second)
					brief, cancel := context.WithTimeout(context.Background(), time.Second)
					defer cancel()
					p.publish(brief, "missing", "", "lost", func(err error) { assert.ErrorIs(p, err, amqp.ErrUnconfirmed) })
					p.post("q", 0, behind)
					time.Sleep(2 * time.Second)
					slow()
					p.outcomes.Wait()
					time.Sleep(time.Minute)
					p.post("q", behind, 1) // it still runs
				})
				require.Subset(p, p.bodies("q"), strings.Fields(countedTo(behind+1)))
			})
		})
	}
}

// While it looks for the culprit among several messages, one that is given up is no proof against the next.
func TestOutboxBlamesNobodyForASuspectGivenUp(t *testing.T) {
	postOffice(t, amqp.OutboxOptions{}, func(p *posting) {
		p.queue("q", 0)
		p.running(func() {
			p.post("q", 100, 1)
			var gone atomic.Bool
			slow := p.broker.On("basic.publish", func(e *amqptest.Event) amqptest.Action {
				if gone.Load() {
					return amqptest.Delay(10 * time.Second) // the second time, one by one
				}
				return amqptest.Delay(time.Second)
			})
			stop := p.broker.On("channel.close-ok", func(*amqptest.Event) amqptest.Action {
				gone.Store(true)
				return amqptest.Pass()
			})
			defer stop()
			brief, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			p.publish(brief, "missing", "", "lost", func(err error) { assert.ErrorIs(p, err, amqp.ErrUnconfirmed) })
			p.post("q", 0, 3)
			time.Sleep(time.Hour)
			slow()
		})
		require.Subset(p, p.bodies("q"), []string{"0", "1", "2"})
	})
}

// What a channel ended by is no message's fault if it did not end by one.
func TestOutboxTellsNobodyOfAnOperatorsException(t *testing.T) {
	for _, count := range []int{1, 3} {
		t.Run(fmt.Sprint(count, " messages on their way"), func(t *testing.T) {
			postOffice(t, amqp.OutboxOptions{}, func(p *posting) {
				p.queue("q", 0)
				p.running(func() {
					found := p.lose("basic.ack")
					p.post("q", 0, count)
					found()
					p.broker.CloseChannels(506, "RESOURCE_ERROR - too many")
				})
				require.Equal(p, countedTo(count)+" "+countedTo(count), p.published())
			})
		})
	}
}

func TestOutboxRunsOnOneConnectionAtATime(t *testing.T) {
	postOffice(t, amqp.OutboxOptions{}, func(p *posting) {
		p.queue("q", 0)
		p.running(func() {
			p.post("q", 0, 1)
			err := p.connect(p.outbox.Run)
			require.ErrorContains(p, err, "it is running on another connection")
			p.post("q", 1, 1)
		})
		p.running(func() { p.post("q", 2, 1) }) // one after the other
		require.Equal(p, countedTo(3), p.published())
	})
}

func TestOutboxRefusesWhatCannotBeSent(t *testing.T) {
	postOffice(t, amqp.OutboxOptions{Capacity: 1}, func(p *posting) {
		p.queue("q", 0)
		ctx := context.Background()
		long := strings.Repeat("x", 256)
		require.ErrorContains(p, p.outbox.Publish(ctx, long, "q", amqp.Message{}), "exchange")
		require.ErrorContains(p, p.outbox.Publish(ctx, "", long, amqp.Message{}), "routing key")
		require.ErrorContains(p, p.outbox.Publish(ctx, "", "q", amqp.Message{Immediate: true}), "Message.Immediate")
		unfit := amqp.Properties{Headers: amqp.Table{"shape": struct{}{}}}
		require.ErrorContains(p, p.outbox.Publish(ctx, "", "q", amqp.Message{Properties: unfit}), "shape")
		p.running(func() {
			// Only with a connection it is known how large a frame may be.
			bulky := amqp.Properties{Headers: amqp.Table{"bulk": make([]byte, 200_000)}}
			err := p.outbox.Publish(ctx, "", "q", amqp.Message{Properties: bulky})
			require.ErrorContains(p, err, "the broker allows")
			require.NotErrorIs(p, err, amqp.ErrUnconfirmed)
			p.post("q", 0, 3)
		})
		require.Equal(p, countedTo(3), p.published())
	})
}

func TestOutboxWaitsWhileTheBrokerIsBlocked(t *testing.T) {
	postOffice(t, amqp.OutboxOptions{}, func(p *posting) {
		p.queue("q", 0)
		p.running(func() {
			p.broker.Block("memory")
			p.post("q", 0, 5)
			time.Sleep(time.Minute)
			require.Equal(p, 5, p.outbox.Len())
			p.broker.Unblock()
		})
		require.Equal(p, countedTo(5), p.published())
	})
}

// Every message has its outcome, and every one that is confirmed is there, whatever the broker does.
func TestOutboxUnderManyFaults(t *testing.T) {
	postOffice(t, amqp.OutboxOptions{Capacity: 7}, func(p *posting) {
		p.queue("q", 0)
		var seen atomic.Int64
		stop := p.broker.On("*", func(e *amqptest.Event) amqptest.Action {
			switch n := seen.Add(1); {
			case n%101 == 0:
				return amqptest.Sever()
			case n%67 == 0 && e.Direction == amqptest.ToClient:
				return amqptest.Cut(5)
			case n%211 == 0:
				return amqptest.CloseConnection(320, "CONNECTION_FORCED - bye")
			}
			return amqptest.Pass()
		})
		var mu sync.Mutex
		var confirmed []string
		p.running(func() {
			for c := range 10 {
				p.outcomes.Go(func() {
					for i := range 50 {
						text := fmt.Sprint(c, "/", i)
						ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%10+1)*20*time.Millisecond)
						err := p.outbox.Publish(ctx, "", "q", amqp.Message{Body: []byte(text)})
						cancel()
						mu.Lock()
						if err == nil {
							confirmed = append(confirmed, text)
						} else {
							assert.ErrorIs(p, err, context.DeadlineExceeded)
						}
						mu.Unlock()
					}
				})
			}
			p.outcomes.Wait()
			stop()
		})
		require.NotEmpty(p, confirmed)
		require.Subset(p, p.bodies("q"), confirmed)
	})
}
