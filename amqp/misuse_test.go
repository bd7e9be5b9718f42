package amqp_test

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// What can't be sent is refused at the call, before a byte of it is, and the
// channel lives on.
func TestWhatCannotBeSentIsRefusedAtTheCall(t *testing.T) {
	long := strings.Repeat("n", 256)
	loop := amqp.Table{}
	loop["self"] = loop
	list := []any{nil}
	list[0] = list
	odd := amqp.Table{"outer": amqp.Table{"inner": []any{1, make(chan int)}}}
	huge := amqp.Table{"x": strings.Repeat("x", 10_000)}
	type call struct {
		name string
		says string
		do   func(context.Context, *amqp.Channel) error
	}
	declare := func(q amqp.Queue) func(context.Context, *amqp.Channel) error {
		return func(ctx context.Context, ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(ctx, q)
			return err
		}
	}
	publish := func(exchange, key string, p amqp.Properties) func(context.Context, *amqp.Channel) error {
		return func(ctx context.Context, ch *amqp.Channel) error {
			return ch.Publish(ctx, exchange, key, amqp.Message{Properties: p, Body: []byte("body")})
		}
	}
	consume := func(c amqp.Consume) func(context.Context, *amqp.Channel) error {
		return func(ctx context.Context, ch *amqp.Channel) error {
			return ch.WithConsumer(ctx, c, func(*amqp.Consumer) error {
				t.Error("the body ran")
				return nil
			})
		}
	}
	qos := func(q amqp.Qos) func(context.Context, *amqp.Channel) error {
		return func(ctx context.Context, ch *amqp.Channel) error { return ch.Qos(ctx, q) }
	}
	calls := []call{
		{"queue name", "256 bytes", declare(amqp.Queue{Name: long})},
		{"unknown type", "outer.inner[1]", declare(amqp.Queue{Arguments: odd})},
		{"table in itself", "self", declare(amqp.Queue{Arguments: loop})},
		{"list in itself", "list", declare(amqp.Queue{Arguments: amqp.Table{"list": list}})},
		{"arguments too large", "the broker allows 8192 in a frame", declare(amqp.Queue{Arguments: huge})},
		{"key", "256", declare(amqp.Queue{Arguments: amqp.Table{long: 1}})},
		{"exchange of a message", "exchange", publish(long, "", amqp.Properties{})},
		{"routing key", "routing key", publish("", long, amqp.Properties{})},
		{"message id", "256", publish("", "", amqp.Properties{MessageID: long})},
		{"headers", "outer.inner[1]", publish("", "", amqp.Properties{Headers: odd})},
		{"headers in themselves", "self", publish("", "", amqp.Properties{Headers: loop})},
		{"headers too large", "the broker allows 8192 in a frame", publish("", "", amqp.Properties{Headers: huge})},
		{"time before 1970", "imestamp", publish("", "", amqp.Properties{Timestamp: time.Unix(-1, 0)})},
		{"prefetch", "prefetch 65536", consume(amqp.Consume{Prefetch: 65536})},
		{"consumed queue", "queue", consume(amqp.Consume{Queue: long})},
		{"consumer tag", "consumer tag", consume(amqp.Consume{Tag: long})},
		{"duplicate consumer tag", `the tag "taken" already`, consume(amqp.Consume{Tag: "taken"})},
		{"arguments of a consumer", "outer.inner[1]", consume(amqp.Consume{Tag: "free", Arguments: odd})},
		{"negative count", "prefetch count -1", qos(amqp.Qos{PrefetchCount: -1})},
		{"large count", "prefetch count 65536", qos(amqp.Qos{PrefetchCount: 65536})},
		{"negative size", "prefetch size -1", qos(amqp.Qos{PrefetchSize: -1})},
		{"large size", "prefetch size", qos(amqp.Qos{PrefetchSize: beyondProtocol})},
		{"exchange", "256", func(ctx context.Context, ch *amqp.Channel) error {
			return ch.ExchangeDeclare(ctx, amqp.Exchange{Name: long})
		}},
		{"kind", "256", func(ctx context.Context, ch *amqp.Channel) error {
			return ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "x", Kind: long})
		}},
		{"binding", "256", func(ctx context.Context, ch *amqp.Channel) error {
			return ch.QueueBind(ctx, amqp.Binding{RoutingKey: long, NoWait: true})
		}},
		{"one of a topology", "256", func(ctx context.Context, ch *amqp.Channel) error {
			return ch.Declare(ctx, amqp.Topology{Queues: []amqp.Queue{{Name: "fine"}, {Name: long}}})
		}},
		{"get", "256", func(ctx context.Context, ch *amqp.Channel) error {
			_, _, err := ch.Get(ctx, long, true)
			return err
		}},
		{"in flight", "MaxInFlight -1", func(ctx context.Context, ch *amqp.Channel) error {
			return ch.WithPublisher(ctx, amqp.PublisherOptions{MaxInFlight: -1}, func(*amqp.Publisher) error { return nil })
		}},
		{"a delivery that was not", "delivery tag 1 was never delivered", func(_ context.Context, ch *amqp.Channel) error { return ch.Ack(1, false) }},
		{"multiple that was not", "delivery tag 9 was never delivered", func(_ context.Context, ch *amqp.Channel) error { return ch.Ack(9, true) }},
		{"nack of what was not", "delivery tag 1 was never delivered", func(_ context.Context, ch *amqp.Channel) error { return ch.Nack(1, true, true) }},
		{"reject of tag 0", "delivery tag 0 was never delivered", func(_ context.Context, ch *amqp.Channel) error { return ch.Reject(0, true) }},
	}
	for _, c := range calls {
		t.Run(c.name, func(t *testing.T) {
			err := against(t, amqp.Config{}, func(p *peer) {
				assert.Equal(t, "taken", p.consumer())
				expect[*wire.ExchangeDeclare](p, 1) // and nothing before it
				p.say(1, &wire.ExchangeDeclareOk{})
			}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
				return ch.WithConsumer(ctx, amqp.Consume{Tag: "taken"}, func(*amqp.Consumer) error {
					says(t, c.do(ctx, ch), nil, c.says, "amqp: ")
					return ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "alive", Kind: amqp.Direct})
				})
			}))
			require.NoError(t, err)
		})
	}
}

// With multiple and nothing unsettled there is nothing to do, and nothing wrong.
func TestSettlingAllOfNothing(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.channel()
		expect[*wire.ChannelClose](p, 1)
		p.say(1, &wire.ChannelCloseOk{})
	}, inChannel(func(_ context.Context, ch *amqp.Channel) error {
		assert.NoError(t, ch.Ack(0, true))
		assert.NoError(t, ch.Nack(0, true, true))
		return nil
	}))
	require.NoError(t, err)
}

// Whoever keeps an object longer than its scope gets errors from it, not panics,
// and sends nothing by it.
func TestUseAfterTheScope(t *testing.T) {
	var (
		conn    *amqp.Conn
		channel *amqp.Channel
		cons    *amqp.Consumer
		pub     *amqp.Publisher
		receipt amqp.Receipt
		taken   []*amqp.Envelope
	)
	err := against(t, amqp.Config{}, func(p *peer) {
		p.consumer()
		p.message(1, "c", 1, "one")
		p.message(1, "c", 2, "two")
		expect[*wire.BasicCancel](p, 1)
		p.say(1, &wire.BasicCancelOk{ConsumerTag: "c"})
		assert.Equal(t, &wire.BasicAck{DeliveryTag: 1}, expect[*wire.BasicAck](p, 1), "a delivery outlives its consumer")
		expect[*wire.ConfirmSelect](p, 1)
		p.say(1, &wire.ConfirmSelectOk{})
		p.content(1)
		p.raw(wire.AppendAck(nil, 1, 1, false))
		expect[*wire.ChannelClose](p, 1)
		p.say(1, &wire.ChannelCloseOk{})
		expect[*wire.ConnectionClose](p, 0)
		p.say(0, &wire.ConnectionCloseOk{})
	}, func(ctx context.Context, c *amqp.Conn) error {
		conn = c
		err := c.WithChannel(ctx, func(ch *amqp.Channel) error {
			channel = ch
			err := ch.WithConsumer(ctx, amqp.Consume{Tag: "c"}, func(c *amqp.Consumer) error {
				cons = c
				for _, env := range c.Messages() {
					if taken = append(taken, env); len(taken) == 2 {
						break
					}
				}
				return nil
			})
			require.NoError(t, err)
			for range cons.Messages() {
				t.Error("a message after the scope")
			}
			for range cons.Batches(10, time.Second) {
				t.Error("a batch after the scope")
			}
			require.Error(t, cons.Err())
			require.NoError(t, taken[0].Ack())

			err = ch.WithPublisher(ctx, amqp.PublisherOptions{}, func(p *amqp.Publisher) (err error) {
				pub = p
				receipt, err = p.Publish(ctx, "x", "k", amqp.Message{})
				return err
			})
			require.NoError(t, err)
			_, err = pub.Publish(ctx, "x", "k", amqp.Message{})
			says(t, err, nil, "the publisher's scope has ended")
			require.NoError(t, receipt.Wait(ctx))
			require.NoError(t, pub.Wait(ctx))
			return nil
		})
		require.NoError(t, err)
		useChannel(t, ctx, channel)
		require.NoError(t, receipt.Wait(ctx))
		return nil
	}, func(ctx context.Context) {
		useChannel(t, ctx, channel)
		hasEnded(t, taken[1].Ack())
		hasEnded(t, taken[1].AckUpTo())
		hasEnded(t, taken[1].Nack(true))
		hasEnded(t, taken[1].Reject(true))
		require.Error(t, taken[1].Context().Err())
		require.ErrorIs(t, context.Cause(taken[1].Context()), amqp.ErrChannelClosed)

		require.ErrorIs(t, conn.WithChannel(ctx, func(*amqp.Channel) error { return nil }), amqp.ErrConnectionClosed)
		require.ErrorIs(t, conn.UpdateSecret(ctx, "s", "r"), amqp.ErrConnectionClosed)
		_, err := conn.QueueStatus(ctx, "q")
		require.ErrorIs(t, err, amqp.ErrConnectionClosed)
		_, err = conn.ExchangeExists(ctx, "x")
		require.ErrorIs(t, err, amqp.ErrConnectionClosed)
		for range conn.Blocked() {
			t.Error("a change after the scope")
		}
		assert.Equal(t, "script", conn.ServerProperties()["product"])
		assert.Equal(t, uint32(8192), conn.Tuning().FrameMax)
		assert.NotNil(t, conn.LocalAddr())
		assert.NotNil(t, conn.RemoteAddr())
		assert.Zero(t, conn.Stats().Channels)
		conn.Go(func(context.Context) error { t.Error("a task after the scope"); return nil })
		require.Error(t, conn.Start(func(_ context.Context, started func()) error { started(); return nil }))
		conn.Cancel(nil)
	})
	require.NoError(t, err)
}

func hasEnded(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, amqp.ErrConnectionClosed) {
		require.ErrorIs(t, err, amqp.ErrChannelClosed)
	}
}

// useChannel calls everything that a channel has.
func useChannel(t *testing.T, ctx context.Context, ch *amqp.Channel) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		hasEnded(t, err)
	}
	_, err := ch.QueueDeclare(ctx, amqp.Queue{})
	check(err)
	_, err = ch.QueueDelete(ctx, amqp.QueueDelete{})
	check(err)
	_, err = ch.QueuePurge(ctx, amqp.QueuePurge{})
	check(err)
	check(ch.QueueBind(ctx, amqp.Binding{}))
	check(ch.QueueUnbind(ctx, amqp.Binding{}))
	check(ch.ExchangeDeclare(ctx, amqp.Exchange{NoWait: true}))
	check(ch.ExchangeDelete(ctx, amqp.ExchangeDelete{}))
	check(ch.ExchangeBind(ctx, amqp.ExchangeBinding{}))
	check(ch.ExchangeUnbind(ctx, amqp.ExchangeBinding{}))
	check(ch.Declare(ctx, amqp.Topology{Queues: []amqp.Queue{{}}}))
	check(ch.Publish(ctx, "", "", amqp.Message{}))
	check(ch.Publish(ctx, "", "", amqp.Message{Body: make([]byte, 100_000)}))
	check(ch.Confirm(ctx))
	check(ch.WithPublisher(ctx, amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
		_, err := p.Publish(ctx, "", "", amqp.Message{})
		return err
	}))
	check(ch.WithTx(ctx, func() error { return nil }))
	check(ch.WithConsumer(ctx, amqp.Consume{}, func(*amqp.Consumer) error { return nil }))
	_, _, err = ch.Get(ctx, "q", false)
	check(err)
	check(ch.Qos(ctx, amqp.Qos{}))
	check(ch.Flow(ctx, true))
	check(ch.Recover(ctx, true))
	check(ch.RecoverAsync(true))
	check(ch.Ack(1, false))
	check(ch.Ack(0, true))
	check(ch.Nack(2, false, true))
	check(ch.Reject(2, true))
	for range ch.Returns() {
		t.Error("a return after the scope")
	}
	assert.Equal(t, uint16(1), ch.ID())
	ch.Go(func(context.Context) error { t.Error("a task after the scope"); return nil })
	ch.Cancel(nil)
}

func TestTheZeroEnvelopeAndReceipt(t *testing.T) {
	env := &amqp.Envelope{DeliveryTag: 1}
	for _, err := range []error{env.Ack(), env.AckUpTo(), env.Nack(true), env.Reject(true), context.Cause(env.Context())} {
		require.ErrorContains(t, err, "amqp: the envelope was not received from a broker")
	}
	require.ErrorContains(t, amqp.Receipt{}.Wait(t.Context()), "amqp: the receipt stands for no message")
	batch := new(amqp.Batch)
	assert.Zero(t, batch.Len())
	require.NoError(t, batch.Ack())
	require.NoError(t, batch.Nack(true))
	for range batch.All() {
		t.Error("a message in an empty batch")
	}
}

// beyondProtocol is a size that no field of 32 bits holds, also where an int has
// no more.
var beyondProtocol = func() int {
	if size := int64(math.MaxUint32) + 1; strconv.IntSize == 64 {
		return int(size)
	}
	return math.MinInt
}()
