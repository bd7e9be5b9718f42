package amqp_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// recorder keeps what a client sends.
type recorder struct {
	net.Conn
	mu   sync.Mutex
	sent bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	n, err := r.Conn.Write(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent.Write(p[:n])
	return n, err
}

// checkFrames decodes all that was sent, and checks that each message's frames
// are in a row on its channel, with the sizes that they promise.
func checkFrames(t *testing.T, b []byte, frameMax int) (methods map[wire.MethodID]int) {
	t.Helper()
	methods = map[wire.MethodID]int{}
	require.True(t, bytes.HasPrefix(b, wire.ProtocolHeader[:]))
	b = b[len(wire.ProtocolHeader):]
	type awaited struct {
		header bool
		body   uint64
	}
	open := map[uint16]*awaited{}
	for len(b) > 0 {
		h := wire.ParseFrameHeader(b)
		size := wire.FrameOverhead + int(h.Size)
		require.LessOrEqual(t, size, frameMax)
		require.GreaterOrEqual(t, len(b), size)
		require.Equal(t, wire.FrameEnd, b[size-1])
		payload := b[wire.FrameHeaderSize : size-1]
		b = b[size:]
		now := open[h.Channel]
		switch h.Type {
		case wire.FrameMethod:
			require.Nil(t, now, "a method in the middle of a message")
			m, err := wire.DecodeMethod(payload)
			require.NoError(t, err)
			methods[m.ID()]++
			if m.ID().HasContent() {
				open[h.Channel] = &awaited{header: true}
			}
		case wire.FrameContentHeader:
			require.True(t, now != nil && now.header)
			ch, err := wire.ParseContentHeader(payload)
			require.NoError(t, err)
			require.NoError(t, new(wire.Properties).Decode(ch.Properties, nil))
			now.header, now.body = false, ch.BodySize
		case wire.FrameBody:
			require.True(t, now != nil && !now.header && now.body >= uint64(h.Size) && h.Size > 0)
			now.body -= uint64(h.Size)
		case wire.FrameHeartbeat:
			require.Zero(t, h.Size)
		default:
			t.Fatalf("frame type %d", h.Type)
		}
		if now != nil && !now.header && now.body == 0 {
			delete(open, h.Channel)
		}
	}
	require.Empty(t, open)
	return methods
}

// Many goroutines do everything at once, on one connection: what goes out is a
// stream of whole frames.
func TestEveryFrameSentIsWellFormed(t *testing.T) {
	const frameMax = 8192
	for name, dial := range map[string]func(*amqptest.Broker) func(context.Context, string, string) (net.Conn, error){
		"memory": func(b *amqptest.Broker) func(context.Context, string, string) (net.Conn, error) { return b.Dial },
		"TCP": func(*amqptest.Broker) func(context.Context, string, string) (net.Conn, error) {
			return new(net.Dialer).DialContext
		},
	} {
		t.Run(name, func(t *testing.T) {
			broker := amqptest.NewBroker()
			defer broker.Close()
			cfg, err := amqp.ParseURI(broker.URI())
			require.NoError(t, err)
			var rec recorder
			cfg.FrameMax = frameMax
			cfg.CloseTimeout = hanging // it is all in real time
			cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				nc, err := dial(broker)(ctx, network, addr)
				rec.Conn = nc
				return &rec, err
			}
			ctx := t.Context()
			require.NoError(t, amqp.WithConnection(ctx, cfg, func(c *amqp.Conn) error { return everything(ctx, c) }))
			methods := checkFrames(t, rec.sent.Bytes(), frameMax)
			assert.Equal(t, 4*200, methods[wire.BasicPublishID])
			assert.Positive(t, methods[wire.BasicAckID])
			assert.Positive(t, methods[wire.BasicNackID])
		})
	}
}

func everything(ctx context.Context, c *amqp.Conn) error {
	return c.WithChannel(ctx, func(ch *amqp.Channel) error {
		if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q", Exclusive: true}); err != nil {
			return err
		}
		for i := range 4 {
			ch.Go(func(context.Context) error {
				return ch.WithPublisher(ctx, amqp.PublisherOptions{MaxInFlight: 7}, func(p *amqp.Publisher) error {
					for n := range 200 {
						size := []int{0, 1, 8184, 8185, 70_000}[(n+i)%5]
						props := amqp.Properties{MessageID: "id", Headers: amqp.Table{"n": n}}
						if _, err := p.Publish(ctx, "", "q", amqp.Message{Properties: props, Body: make([]byte, size), Mandatory: n%3 == 0}); err != nil {
							return err
						}
					}
					return nil
				})
			})
		}
		done := errors.New("done")
		err := ch.WithConsumer(ctx, amqp.Consume{Queue: "q", Prefetch: 50}, func(cons *amqp.Consumer) error {
			acked := 0
			for _, env := range cons.Messages() {
				var err error
				if env.DeliveryTag%50 == 0 {
					err = env.Nack(true)
				} else {
					err = env.Ack()
					acked++
				}
				if err != nil {
					return err
				}
				if env.DeliveryTag%20 == 0 {
					if err := c.WithChannel(ctx, func(*amqp.Channel) error { return nil }); err != nil {
						return err
					}
				}
				if acked == 4*200 {
					return done
				}
			}
			return cons.Err()
		})
		if errors.Is(err, done) {
			return nil
		}
		return err
	})
}
