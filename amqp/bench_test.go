package amqp

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// endlessDeliveries is a null peer that sends its consumer messages of a size for
// as long as the client reads.
func endlessDeliveries(size int) *nullPeer {
	const batch = 64
	one := deliver(1, 0, make([]byte, size), readerFrameMax, nil)
	tagAt := wire.FrameHeaderSize + 4 + 1 + len("c")
	var all []byte
	for range batch {
		all = append(all, one...)
	}
	tag := uint64(0)
	return newNullPeer(nil, func() []byte {
		for i := range batch {
			tag++
			b := all[i*len(one)+tagAt:]
			for j := range 8 {
				b[j] = byte(tag >> (56 - 8*j))
			}
		}
		return all
	})
}

// take takes n messages.
func take(t testing.TB, c *Consumer, n int, ack bool) {
	for _, env := range c.Messages() {
		if ack {
			if err := env.Ack(); err != nil {
				t.Fatal(err)
			}
		}
		if n--; n == 0 {
			return
		}
	}
	t.Fatalf("the messages have ended: %v", c.Err())
}

func benchChannel(b *testing.B, peer *nullPeer, body func(context.Context, *Channel) error) {
	b.Helper()
	ctx := b.Context()
	cfg := Config{Dial: func(context.Context, string, string) (net.Conn, error) { return peer, nil }}
	if err := WithChannel(ctx, cfg, func(ch *Channel) error { return body(ctx, ch) }); err != nil {
		b.Fatal(err)
	}
}

var benchSizes = []int{16, 1 << 10, 64 << 10}

func BenchmarkPublish(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			msg := Message{Body: make([]byte, size)}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			benchChannel(b, newNullPeer(nil, nil), func(ctx context.Context, ch *Channel) error {
				for b.Loop() {
					if err := ch.Publish(ctx, "exchange", "key", msg); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}

func BenchmarkPublishConfirmed(b *testing.B) {
	msg := Message{Body: make([]byte, 16)}
	b.Run("pipelined", func(b *testing.B) {
		b.ReportAllocs()
		benchChannel(b, newNullPeer(nil, nil), func(ctx context.Context, ch *Channel) error {
			return ch.WithPublisher(ctx, PublisherOptions{}, func(p *Publisher) error {
				for b.Loop() {
					if _, err := p.Publish(ctx, "exchange", "key", msg); err != nil {
						return err
					}
				}
				return p.Wait(ctx)
			})
		})
	})
	b.Run("one at a time", func(b *testing.B) {
		b.ReportAllocs()
		benchChannel(b, newNullPeer(nil, nil), func(ctx context.Context, ch *Channel) error {
			if err := ch.Confirm(ctx); err != nil {
				return err
			}
			for b.Loop() {
				if err := ch.Publish(ctx, "exchange", "key", msg); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func BenchmarkConsume(b *testing.B) {
	for _, ack := range []bool{false, true} {
		for _, size := range benchSizes {
			b.Run(fmt.Sprintf("%d/ack=%v", size, ack), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				benchChannel(b, endlessDeliveries(size), func(ctx context.Context, ch *Channel) error {
					return ch.WithConsumer(ctx, Consume{Tag: "c", NoAck: !ack, Prefetch: -1}, func(c *Consumer) error {
						b.ResetTimer()
						take(b, c, b.N, ack)
						return nil
					})
				})
			})
		}
	}
}
