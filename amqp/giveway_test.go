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

func TestWhomTheReaderGivesWayTo(t *testing.T) {
	const small, large = largeFrame - 1, largeFrame
	for name, c := range map[string]struct {
		sizes   []int // of the messages, for both consumers in turn
		second  bool  // there are two of them
		brimful bool
		behind  bool // one has not looked at what it was given before, and no prefetch bounds it
		want    bool
	}{
		"nobody":                {nil, false, true, false, false},
		"one, small":            {[]int{small, small}, false, true, false, false},
		"one, large":            {[]int{large, large}, false, true, false, true},
		"one, large on average": {[]int{0, 2 * large}, false, true, false, true},
		"one, large, no flood":  {[]int{large, large}, false, false, false, false},
		"one, behind":           {[]int{small}, false, false, true, true},
		"two, small":            {[]int{small, small}, true, false, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			conn, consumers := readerOf(nil)
			defer conn.bytes.Close()
			if c.behind {
				consumers[0].limit = 0
				consumers[0].buffered.Store(1)
			}
			for i, size := range c.sizes {
				d := new(delivery)
				d.setBody(make([]byte, size))
				to := consumers[0]
				if c.second {
					to = consumers[i%2]
				}
				to.receive(d)
			}
			conn.in.brimful = c.brimful
			require.NoError(t, conn.handOver())
			require.Equal(t, c.want, conn.giveWay)
			require.NoError(t, conn.handOver())
			require.False(t, conn.giveWay, "nobody was given anything")
		})
	}
}
