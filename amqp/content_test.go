package amqp

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// source is a connection that brings what src has, and swallows what is sent.
type source struct {
	net.Conn
	src io.Reader
}

func (s source) Read(p []byte) (int, error)     { return s.src.Read(p) }
func (source) Write(p []byte) (int, error)      { return len(p), nil }
func (source) Close() error                     { return nil }
func (source) SetReadDeadline(time.Time) error  { return nil }
func (source) SetWriteDeadline(time.Time) error { return nil }

const readerFrameMax = 128 << 10

// readerOf is the reader of a connection whose channel 1 has a consumer "c", and
// channel 2 a no-ack consumer "c".
func readerOf(src io.Reader) (*Conn, [2]*Consumer) {
	cfg := new(Config).withDefaults()
	nc := source{src: src}
	conn := newConn(&cfg, nc, nc)
	conn.tuning = Tuning{ChannelMax: 10, FrameMax: readerFrameMax}
	conn.in.max = conn.maxPayload()
	var consumers [2]*Consumer
	for i := range consumers {
		ch := new(Channel)
		ch.conn = conn
		ch.line.ledger = &ch.ledger
		ch.content.ch = ch
		if err := conn.register(ch); err != nil {
			panic(err)
		}
		consumers[i] = &Consumer{ch: ch, tag: "c", limit: 60000, noAck: i == 1}
		if _, err := ch.enlist(consumers[i], 60000); err != nil {
			panic(err)
		}
	}
	return conn, consumers
}

// received stops the consumer and returns what it got.
func received(c *Consumer) []*delivery {
	c.stream.Stop(io.EOF)
	return c.stream.Drain()
}

func contentHeader(channel uint16, size uint64, p *wire.Properties) []byte {
	b, err := wire.AppendContentHeader(nil, channel, size, p)
	if err != nil {
		panic(err)
	}
	return b
}

// deliver is a whole delivery to consumer "c".
func deliver(channel uint16, tag uint64, body []byte, frameMax uint32, p *wire.Properties) []byte {
	b := wire.AppendDeliver(nil, channel, "c", tag, false, "exchange", "key")
	b = append(b, contentHeader(channel, uint64(len(body)), p)...)
	return wire.AppendBody(b, channel, body, frameMax)
}

var patternBytes = func() []byte {
	b := make([]byte, 4*trustSize)
	for i := range b {
		b[i] = byte(i * 7 >> (i % 3))
	}
	return b
}()

// pattern is a body of n bytes.
func pattern(n int) []byte { return patternBytes[:n:n] }

// Bodies around the sizes where they get memory of their own, where it grows
// with what comes, where frames are read directly, and where frames end.
func TestBodiesOfAllSizes(t *testing.T) {
	sizes := []int{0, 1, 100}
	for _, around := range []int{
		ownSize, directSize, trustSize, 2 * trustSize, 3*trustSize + 17, quietBuffer, busyBuffer, floodBuffer, largeFrame,
		readerFrameMax, readerFrameMax - wire.FrameOverhead, 2 * (readerFrameMax - wire.FrameOverhead),
	} {
		for d := -1; d <= 1; d++ {
			sizes = append(sizes, around+d)
		}
	}
	for _, frameMax := range []uint32{readerFrameMax, 4096, 20000} {
		for _, pieces := range []int{1 << 30, 5000, 999} {
			t.Run(fmt.Sprintf("frames of %d, reads of %d", frameMax, pieces), func(t *testing.T) {
				var stream []byte
				for i, size := range sizes {
					stream = append(stream, deliver(1, uint64(i+1), pattern(size), frameMax, nil)...)
				}
				conn, consumers := readerOf(&chunks{stream, []int{pieces}})
				require.ErrorIs(t, conn.readFrames(), io.EOF)
				got := received(consumers[0])
				require.Len(t, got, len(sizes))
				for i, d := range got {
					require.Equal(t, uint64(i+1), d.DeliveryTag)
					require.NotNil(t, d.body())
					require.True(t, bytes.Equal(pattern(sizes[i]), d.body()), "body of %d bytes", sizes[i])
					require.Equal(t, len(d.body()), cap(d.body()), "appending to a body writes to nobody else's")
				}
			})
		}
	}
}

// The frames of messages of different channels may be mixed.
func TestChannelsInterleave(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	var streams [2][][]byte // frames, of which each channel's stay in order
	var want [2][]string
	for i := range streams {
		for tag := range uint64(200) {
			body := pattern(rnd.IntN(60_000))
			want[i] = append(want[i], string(body))
			b := deliver(uint16(i+1), tag+1, body, 4096<<rnd.IntN(4), nil)
			for len(b) > 0 {
				n := wire.FrameOverhead + int(wire.ParseFrameHeader(b).Size)
				streams[i] = append(streams[i], b[:n])
				b = b[n:]
			}
		}
	}
	var stream []byte
	for len(streams[0])+len(streams[1]) > 0 {
		i := rnd.IntN(2)
		if len(streams[i]) == 0 {
			i = 1 - i
		}
		stream = append(stream, streams[i][0]...)
		streams[i] = streams[i][1:]
	}
	conn, consumers := readerOf(&chunks{stream, []int{70_000, 3000, 50, 9000}})
	require.ErrorIs(t, conn.readFrames(), io.EOF)
	for i, c := range consumers {
		got := received(c)
		require.Len(t, got, len(want[i]))
		for j, d := range got {
			require.Equal(t, want[i][j], string(d.body()))
		}
		assert.Equal(t, []int{200, 0}[i], c.ch.ledger.unsettled())
	}
}

func TestEqualPropertiesAreShared(t *testing.T) {
	a := &wire.Properties{ContentType: "text/plain", Headers: Table{"k": int32(1)}}
	b := &wire.Properties{ContentType: "text/html", MessageID: "id"}
	var stream []byte
	for i, p := range []*wire.Properties{a, a, b, nil, nil, a} {
		stream = append(stream, deliver(1, uint64(i+1), []byte("body"), 4096, p)...)
	}
	conn, consumers := readerOf(bytes.NewReader(stream))
	require.ErrorIs(t, conn.readFrames(), io.EOF)
	got := received(consumers[0])
	require.Len(t, got, 6)
	assert.Same(t, got[0].Properties, got[1].Properties)
	assert.NotSame(t, got[1].Properties, got[2].Properties)
	assert.Same(t, got[3].Properties, got[4].Properties)
	assert.Equal(t, Properties{ContentType: "text/plain", Headers: Table{"k": int32(1)}}, *got[5].Properties)
	assert.Equal(t, Properties{ContentType: "text/html", MessageID: "id"}, *got[2].Properties)
	assert.Equal(t, Properties{}, *got[3].Properties)
	assert.Equal(t, "exchange", got[0].Exchange)
	assert.Equal(t, "key", got[0].RoutingKey)
}

// What is received does not change when more is.
func TestReceivedBytesAreTheReceivers(t *testing.T) {
	var stream []byte
	for i := range 2000 {
		p := &wire.Properties{MessageID: fmt.Sprint("id", i), Headers: Table{"n": fmt.Sprint("value", i)}}
		stream = append(stream, deliver(1, uint64(i+1), fmt.Append(nil, "body", i), 4096, p)...)
	}
	conn, consumers := readerOf(&chunks{stream, []int{1500}})
	require.ErrorIs(t, conn.readFrames(), io.EOF)
	for i, d := range received(consumers[0]) {
		require.Equal(t, fmt.Sprint("body", i), string(d.body()))
		require.Equal(t, fmt.Sprint("id", i), d.Properties.MessageID)
		require.Equal(t, fmt.Sprint("value", i), d.Properties.Headers["n"])
		clear(d.body()) // nobody else's
	}
}

func TestBrokenContent(t *testing.T) {
	method := wire.AppendDeliver(nil, 1, "c", 1, false, "", "")
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	body := func(n int) []byte { return appendFrame(nil, wire.FrameBody, 1, make([]byte, n)) }
	for name, c := range map[string]struct {
		stream []byte
		says   string
	}{
		"header without a method":    {contentHeader(1, 3, nil), "content header on channel 1 that belongs to no method"},
		"two headers":                {cat(method, contentHeader(1, 3, nil), contentHeader(1, 3, nil)), "content header on channel 1 that belongs to no method"},
		"body without a header":      {cat(method, body(3)), "body frame on channel 1 that belongs to no header"},
		"body without anything":      {body(3), "body frame on channel 1 that belongs to no header"},
		"body after an empty one":    {cat(method, contentHeader(1, 0, nil), body(3)), "belongs to no header"},
		"body that is too long":      {cat(method, contentHeader(1, 3, nil), body(4)), "exceeds the 3 bytes"},
		"second frame too long":      {cat(method, contentHeader(1, 3, nil), body(2), body(2)), "exceeds the 3 bytes"},
		"large body without header":  {body(100_000), "belongs to no header"},
		"large body too long":        {cat(method, contentHeader(1, 3, nil), body(100_000)), "exceeds the 3 bytes"},
		"method within a message":    {cat(method, contentHeader(1, 3, nil), method), "basic.deliver on channel 1 in the middle of a message"},
		"method instead of a header": {cat(method, method), "in the middle of a message"},
		"header cut short":           {cat(method, appendFrame(nil, wire.FrameContentHeader, 1, make([]byte, 13))), "content header on channel 1"},
		"broken properties":          {cat(method, appendFrame(nil, wire.FrameContentHeader, 1, []byte("\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x00\xff"))), "properties of a message on channel 1"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, 10_000, 1 << 30} {
				conn, _ := readerOf(&chunks{c.stream, []int{size}})
				err := conn.readFrames()
				require.ErrorIs(t, err, ErrProtocol)
				require.ErrorContains(t, err, c.says)
			}
		})
	}
}

func TestBodiesLargerThanAllowed(t *testing.T) {
	for _, size := range []uint64{1001, 1 << 62, math.MaxUint64} {
		stream := append(wire.AppendDeliver(nil, 1, "c", 1, false, "", ""), contentHeader(1, size, nil)...)
		conn, _ := readerOf(bytes.NewReader(stream))
		conn.cfg.MaxMessageSize = 1000
		err := conn.readFrames()
		require.ErrorIs(t, err, ErrMessageTooLarge)
		require.ErrorContains(t, err, fmt.Sprint(size))
		require.ErrorContains(t, err, "MaxMessageSize allows 1000")
	}
	stream := deliver(1, 1, make([]byte, 1000), 4096, nil)
	conn, consumers := readerOf(bytes.NewReader(stream))
	conn.cfg.MaxMessageSize = 1000
	require.ErrorIs(t, conn.readFrames(), io.EOF)
	assert.Len(t, received(consumers[0]), 1)
}

// A message that came back is let go, whatever its size, in no more memory than
// one that is kept.
func TestReturnsLargerThanAllowed(t *testing.T) {
	back, err := wire.AppendMethod(nil, 1, &wire.BasicReturn{ReplyCode: 312, ReplyText: "NO_ROUTE", RoutingKey: "k"})
	require.NoError(t, err)
	size := 10 * trustSize
	whole := wire.AppendBody(append(slices.Clone(back), contentHeader(1, uint64(size), nil)...), 1, make([]byte, size), readerFrameMax)
	for _, pieces := range []int{1000, 100_000, 1 << 30} {
		stream := append(slices.Clone(whole), deliver(1, 1, []byte("next"), readerFrameMax, nil)...)
		conn, consumers := readerOf(&chunks{stream, []int{pieces}})
		conn.cfg.MaxMessageSize = 1000
		conn.find(1).returns = new(returnStream)
		require.ErrorIs(t, conn.readFrames(), io.EOF)
		assert.Len(t, received(consumers[0]), 1)
		assert.EqualValues(t, 1, conn.Stats().Returned)
		assert.Zero(t, conn.find(1).returns.stream.Len())
	}
	conn, _ := readerOf(bytes.NewReader(whole[:len(whole)-1]))
	conn.cfg.MaxMessageSize = 1000
	require.Error(t, conn.readFrames())
	assert.Len(t, conn.find(1).content.body, trustSize)

	conn, _ = readerOf(bytes.NewReader(append(back, contentHeader(1, maxMessageSize+1, nil)...)))
	require.ErrorIs(t, conn.readFrames(), ErrMessageTooLarge)
}

// Where large frames were agreed on, one of them may be in the buffer as a whole, once
// large properties have made it grow.
func TestReturnsLargerThanAllowedInLargeFrames(t *testing.T) {
	back, err := wire.AppendMethod(nil, 1, &wire.BasicReturn{ReplyCode: 312, ReplyText: "NO_ROUTE", RoutingKey: "k"})
	require.NoError(t, err)
	size, frame := 5*trustSize, 2*trustSize
	stream := wire.AppendBody(append(back, contentHeader(1, uint64(size), nil)...), 1, make([]byte, size), uint32(frame))
	conn, consumers := readerOf(bytes.NewReader(append(stream, deliver(1, 1, []byte("next"), readerFrameMax, nil)...)))
	conn.cfg.MaxMessageSize = int64(frame)
	conn.in.max = uint32(frame)
	conn.in.buf = make([]byte, 2*frame)
	require.ErrorIs(t, conn.readFrames(), io.EOF)
	assert.Len(t, received(consumers[0]), 1)
	assert.EqualValues(t, 1, conn.Stats().Returned)
}

// A header's word alone costs no more than trustSize, also when the user allows
// the largest size there is.
func TestAClaimedSizeCostsNoMemory(t *testing.T) {
	stream := append(wire.AppendDeliver(nil, 1, "c", 1, false, "", ""), contentHeader(1, maxMessageSize, nil)...)
	stream = append(stream, appendFrame(nil, wire.FrameBody, 1, make([]byte, 100))...)
	conn, _ := readerOf(bytes.NewReader(stream))
	conn.cfg.MaxMessageSize = maxMessageSize
	before := heap()
	require.ErrorIs(t, conn.readFrames(), io.EOF)
	assert.Less(t, heap()-before, int64(2*trustSize))
	assert.LessOrEqual(t, len(conn.find(1).content.body), trustSize)
}

// The broker may allow any frames: what the client reads in one is bounded by
// what it takes as a message.
func TestAClaimedFrameCostsNoMoreThanAMessage(t *testing.T) {
	for _, frameMax := range []uint32{0, math.MaxUint32} {
		conn, _ := readerOf(nil)
		conn.tuning.FrameMax = frameMax
		conn.cfg.MaxMessageSize = 1 << 20
		assert.Equal(t, uint32(1<<20), conn.maxPayload())
		conn.cfg.MaxMessageSize = 1
		assert.Equal(t, uint32(handshakeFrameMax), conn.maxPayload(), "methods have to fit")
		conn.cfg.MaxMessageSize = math.MaxInt64
		// Where an int has 32 bits, the size of the whole frame is one all the same.
		assert.LessOrEqual(t, conn.maxPayload(), uint32(math.MaxInt32-wire.FrameOverhead))
	}
	conn, _ := readerOf(nil)
	conn.tuning.FrameMax = 4096
	assert.Equal(t, uint32(4096-wire.FrameOverhead), conn.maxPayload())
}

// What came before the end of a consumer is its own when the answer to basic.cancel is told.
func TestWhatComesBeforeCancelOkIsHandedOverFirst(t *testing.T) {
	stream := deliver(1, 1, []byte("body"), readerFrameMax, nil)
	stream, err := wire.AppendMethod(stream, 1, &wire.BasicCancelOk{ConsumerTag: "c"})
	require.NoError(t, err)
	conn, consumers := readerOf(bytes.NewReader(stream))
	there := -1
	p := newCall(&wire.BasicCancel{}, wire.BasicCancelOkID)
	p.abandoned = true
	p.late = func(wire.Method, *delivery) { there = consumers[0].stream.Len() }
	require.True(t, consumers[0].ch.enqueue([]outgoing{{call: p}}))
	require.ErrorIs(t, conn.readFrames(), io.EOF)
	require.Equal(t, 1, there)
}
