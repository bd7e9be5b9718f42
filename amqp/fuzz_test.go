package amqp

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// hostile is a broker that is past the handshake and says anything.
func hostileSeeds() [][]byte {
	var seeds [][]byte
	add := func(b []byte) { seeds = append(seeds, b) }
	for _, m := range []wire.Method{
		&wire.ConnectionClose{ReplyCode: 320, ReplyText: "bye"}, &wire.ConnectionBlocked{Reason: "x"}, &wire.ConnectionUnblocked{},
		&wire.ConnectionCloseOk{},
	} {
		b, _ := wire.AppendMethod(nil, 0, m)
		add(b)
	}
	for _, m := range []wire.Method{
		&wire.ChannelClose{ReplyCode: 404}, &wire.ChannelFlow{Active: true}, &wire.ChannelFlow{}, &wire.ChannelCloseOk{},
		&wire.BasicCancel{ConsumerTag: "c"}, &wire.BasicReturn{ReplyCode: 312}, &wire.BasicGetOk{DeliveryTag: 1},
		&wire.BasicRecoverOk{}, &wire.QueueDeclareOk{}, &wire.BasicAck{DeliveryTag: 1, Multiple: true}, &wire.BasicNack{},
	} {
		b, _ := wire.AppendMethod(nil, 1, m)
		add(b)
	}
	p := &wire.Properties{ContentType: "text/plain", Headers: Table{"k": []any{int32(1), "s"}}}
	add(deliver(1, 1, []byte("body"), 4096, p))
	add(append(deliver(1, 1, make([]byte, 20_000), 4096, nil), deliver(2, 1, nil, 4096, p)...))
	add(append(wire.AppendDeliver(nil, 1, "c", 7, true, "x", "k"), contentHeader(1, 1<<40, p)...))
	add(wire.AppendFrameHeader(nil, wire.FrameBody, 1, readerFrameMax-8))
	add(wire.AppendHeartbeat(nil))
	return seeds
}

// FuzzReader has the reader meet any bytes, in pieces of any size: it ends with
// an error, holds no more than the messages are allowed to have, and never
// panics.
func FuzzReader(f *testing.F) {
	for i, seed := range hostileSeeds() {
		f.Add(seed, uint16(i*100+1))
	}
	f.Fuzz(func(t *testing.T, b []byte, piece uint16) {
		conn, consumers := readerOf(&chunks{b, []int{int(piece) + 1}})
		conn.cfg.MaxMessageSize = 1 << 20
		if err := conn.readFrames(); err == nil {
			t.Error("the reader ended without a reason")
		}
		bytes := 0
		for _, c := range consumers {
			for _, d := range received(c) {
				bytes += len(d.body())
				if d.Properties == nil {
					t.Error("a delivery without properties")
				}
			}
		}
		if bytes > len(b) {
			t.Errorf("%d bytes became %d", len(b), bytes)
		}
		if len(conn.in.buf) > 2*readerFrameMax {
			t.Errorf("the read buffer has %d bytes", len(conn.in.buf))
		}
	})
}

// Whole connections meet mutations of what a broker says, and end.
func TestMutatedConversations(t *testing.T) {
	seeds := hostileSeeds()
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		var stream []byte
		for range 1 + rnd.IntN(20) {
			b := append([]byte(nil), seeds[rnd.IntN(len(seeds))]...)
			for range rnd.IntN(3) {
				b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
			}
			if rnd.IntN(20) == 0 {
				b = b[:rnd.IntN(len(b))]
			}
			stream = append(stream, b...)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := WithConnection(ctx, Config{
			CloseTimeout: 20 * time.Millisecond,
			Dial:         func(context.Context, string, string) (net.Conn, error) { return newNullPeer(stream, nil), nil },
		}, func(c *Conn) error {
			return c.WithChannel(ctx, func(ch *Channel) error {
				return ch.WithConsumer(ctx, Consume{Tag: "c"}, func(cons *Consumer) error {
					for _, env := range cons.Messages() {
						_ = env.Ack()
					}
					return cons.Err()
				})
			})
		})
		if err == nil || ctx.Err() != nil {
			t.Errorf("seed %d: %v, %v", seed, err, ctx.Err())
		}
		cancel()
	}
}

var _ io.Reader = (*nullPeer)(nil)
