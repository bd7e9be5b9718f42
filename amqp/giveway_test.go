package amqp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// roundRobin is a null peer that sends each of its channels one small message after the other, for as long as the
// client reads, once it is not held any more.
func roundRobin(channels int) *nullPeer {
	const tagAt = wire.FrameHeaderSize + 4 + 1 + len("c")
	var ends []int
	var all []byte
	for id := range channels {
		ends = append(ends, len(all))
		all = append(all, deliver(uint16(id+1), 0, make([]byte, 16), readerFrameMax, nil)...)
	}
	var tag uint64
	p := newNullPeer(nil, func() []byte {
		tag++
		for _, at := range ends {
			binary.BigEndian.PutUint64(all[at+tagAt:], tag)
		}
		return all
	})
	p.held = true
	return p
}

// Loops that have messages run before the reader brings more, also on one processor: what waits for them is hardly more
// than what a few reads bring. Without that it is thousands, and with many loops tens of thousands.
func TestMessagesDoNotPileUpBeforeLoopsThatKeepUp(t *testing.T) {
	for _, channels := range []int{1, 5, 50} {
		t.Run(fmt.Sprint(channels, " channels"), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			const all = 200_000
			enough := errors.New("enough")
			var taken, most atomic.Int64
			p := roundRobin(channels)
			cfg := Config{ChannelMax: 100, Dial: p.dial}
			err := WithConnection(t.Context(), cfg, func(c *Conn) error {
				var ready atomic.Int32
				for range channels {
					c.Go(func(ctx context.Context) error {
						return c.WithChannel(ctx, func(ch *Channel) error {
							return ch.WithConsumer(ctx, Consume{Queue: "q", Tag: "c", NoAck: true}, func(cons *Consumer) error {
								if int(ready.Add(1)) == channels {
									p.set(func(p *nullPeer) { p.held = false })
								}
								for range cons.Messages() {
									n := taken.Add(1)
									if waits := int64(c.stats.delivered.Load()) - n; n <= all && waits > most.Load() {
										most.Store(waits)
									}
									if n == all {
										return enough
									}
								}
								return cons.Err()
							})
						})
					})
				}
				return nil
			})
			require.ErrorIs(t, err, enough)
			require.Less(t, most.Load(), int64(1000))
		})
	}
}
