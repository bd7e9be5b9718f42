package amqp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// Messages that are mostly alike, and differ in anything now and then: each is given out as what it is.
func TestMessagesThatAreNearlyAlike(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			var stream []byte
			var want [2]map[string][]likeness // by consumer
			want[0], want[1] = map[string][]likeness{}, map[string][]likeness{}
			var tags [2]uint64
			m := likeness{tag: "c", exchange: "x", key: "k", body: "body"}
			last := m
			for range 1000 {
				switch rnd.IntN(8) {
				case 0:
					last = m
					m.vary(rnd)
					m.vary(rnd)
				case 1:
					m, last = last, m
				}
				tags[m.channel]++
				m.number = tags[m.channel]
				stream = append(stream, m.encode(rnd)...)
				want[m.channel][m.tag] = append(want[m.channel][m.tag], m)
			}
			conn, consumers := readerOf(&chunks{stream, []int{1 + rnd.IntN(3000), 1 + rnd.IntN(100_000)}})
			others := [2]*Consumer{}
			for i, c := range consumers {
				others[i] = &Consumer{ch: c.ch, tag: "another", limit: 60000}
				_, err := c.ch.enlist(others[i], 60000)
				require.NoError(t, err)
			}
			require.ErrorIs(t, conn.readFrames(), io.EOF)
			for i := range consumers {
				check(t, want[i]["c"], received(consumers[i]))
				check(t, want[i]["another"], received(others[i]))
			}
		})
	}
}

// likeness is all that one delivery can differ from another in.
type likeness struct {
	channel       int
	tag           string
	number        uint64
	redelivered   bool
	exchange, key string
	properties    wire.Properties
	body          string
}

func (m *likeness) vary(rnd *rand.Rand) {
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	switch rnd.IntN(7) {
	case 0:
		m.channel = rnd.IntN(2)
	case 1:
		m.tag = pick("c", "another")
	case 2:
		m.redelivered = !m.redelivered
	case 3:
		m.exchange = pick("x", "y", "")
	case 4:
		m.key = pick("k", "l", "key", "")
	case 5:
		m.properties = wire.Properties{MessageID: pick("", "1", "2"), AppID: pick("", "a")}
	case 6:
		m.body = pick("body", "BODY", "a longer body", string(pattern(4000)), "", string(pattern(ownSize-1)), string(pattern(ownSize)), string(pattern(20_000)))
	}
}

func (m *likeness) encode(rnd *rand.Rand) []byte {
	channel := uint16(m.channel + 1)
	b := wire.AppendDeliver(nil, channel, m.tag, m.number, m.redelivered, m.exchange, m.key)
	b = append(b, contentHeader(channel, uint64(len(m.body)), &m.properties)...)
	frame := uint32(readerFrameMax)
	if rnd.IntN(10) == 0 {
		frame = wire.FrameOverhead + 3000 // so that the body comes in several
	}
	return wire.AppendBody(b, channel, []byte(m.body), frame)
}

func check(t *testing.T, want []likeness, got []*delivery) {
	t.Helper()
	require.Len(t, got, len(want))
	for i, d := range got {
		m := want[i]
		require.Equal(t, m.tag, d.ConsumerTag)
		require.Equal(t, m.number, d.DeliveryTag)
		require.Equal(t, m.redelivered, d.Redelivered)
		require.Equal(t, m.exchange, d.Exchange)
		require.Equal(t, m.key, d.RoutingKey)
		require.Equal(t, m.properties, *d.Properties.wire())
		require.Equal(t, m.body, string(d.body()), "message %d", m.number)
	}
}

// What is nearly alike and wrong is refused with the words of the frame by frame way.
func TestMessagesThatAreNearlyAlikeAndWrong(t *testing.T) {
	one := func(tag uint64) []byte { return deliver(1, tag, []byte("body"), readerFrameMax, nil) }
	methodEnds := wire.FrameOverhead + int(wire.ParseFrameHeader(one(1)).Size)
	for name, c := range map[string]struct {
		spoil func(b []byte) []byte
		says  string
	}{
		"the tag of the one before": {func([]byte) []byte { return one(2) }, "delivery tag 2 after 2"},
		"a body that does not end":  {func(b []byte) []byte { b[len(b)-1] = 0; return b }, "ends with octet"},
		"in the middle of a message": {func(b []byte) []byte {
			return append(b[:methodEnds:methodEnds], one(4)...)
		}, "in the middle of a message"},
		"a header that promises less": {func(b []byte) []byte {
			binary.BigEndian.PutUint64(b[methodEnds+wire.FrameHeaderSize+headerFixed-8:], 3)
			b[len(b)-2] = wire.FrameEnd
			return b
		}, "exceeds the 3 bytes"},
		"a header that promises all": {func(b []byte) []byte {
			binary.BigEndian.PutUint64(b[methodEnds+wire.FrameHeaderSize+headerFixed-8:], 1<<63)
			return b
		}, "MaxMessageSize"},
		"a body that is too large": {func([]byte) []byte {
			return deliver(1, 3, pattern(500), readerFrameMax, nil)
		}, "MaxMessageSize allows 400"},
		"a consumer that is not there": {func([]byte) []byte {
			return bytes.ReplaceAll(one(3), []byte("\x01c\x00"), []byte("\x01d\x00"))
		}, `"d", which does not exist`},
		"another channel's body": {func(b []byte) []byte { b[len(b)-1-4-4-1] = 2; return b }, "channel 2"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, consumers := readerOf(nil)
			conn.cfg.MaxMessageSize = 400
			conn.in.src = &chunks{slices.Concat(one(1), one(2), c.spoil(one(3))), []int{1 << 20}}
			require.ErrorContains(t, conn.readFrames(), c.says)
			require.Len(t, received(consumers[0]), 2)
		})
	}
}

func TestTheMouldIsTheConsumers(t *testing.T) {
	one := func(tag uint64) []byte { return deliver(1, tag, []byte("body"), readerFrameMax, nil) }
	conn, consumers := readerOf(&chunks{slices.Concat(one(1), one(2)), []int{1 << 20}})
	require.ErrorIs(t, conn.readFrames(), io.EOF)
	consumers[0].ch.discharge(consumers[0])
	conn.in.src = bytes.NewReader(one(3))
	require.ErrorContains(t, conn.readFrames(), `"c", which does not exist`)
}

// A channel's number may be another's after it.
func TestTheMouldIsTheChannels(t *testing.T) {
	stream := slices.Concat(deliver(1, 1, []byte("body"), readerFrameMax, nil), deliver(1, 2, []byte("body"), readerFrameMax, nil))
	stream, _ = wire.AppendMethod(stream, 1, &wire.ChannelClose{ReplyCode: 406})
	conn, _ := readerOf(&chunks{stream, []int{1 << 20}})
	require.ErrorIs(t, conn.readFrames(), io.EOF)
	conn.in.src = bytes.NewReader(deliver(1, 3, []byte("body"), readerFrameMax, nil))
	require.ErrorContains(t, conn.readFrames(), "which is not open")
}
