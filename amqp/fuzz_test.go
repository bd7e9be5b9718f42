package amqp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// hostileSeeds are what a broker past the handshake may say, right and wrong.
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

// recordedSeeds is what a real broker said, a piece at a time.
func recordedSeeds(tb testing.TB) (all []byte, frames [][]byte) {
	all, err := os.ReadFile("internal/wire/testdata/tour-server.bin")
	require.NoError(tb, err)
	for rest := all; len(rest) > 0; {
		n := wire.FrameOverhead + int(wire.ParseFrameHeader(rest).Size)
		frames = append(frames, rest[:n])
		rest = rest[n:]
	}
	return all, frames
}

// FuzzReader has the reader meet any bytes, in pieces of any size: it ends with
// an error, takes no more memory than it may, and never panics.
func FuzzReader(f *testing.F) {
	for i, seed := range hostileSeeds() {
		f.Add(seed, uint16(i*100+1))
	}
	_, frames := recordedSeeds(f)
	for i := range frames {
		f.Add(bytes.Join(frames[i:min(i+4, len(frames))], nil), uint16(i))
	}
	f.Fuzz(func(t *testing.T, b []byte, piece uint16) { meet(t, b, int(piece)+1) })
}

// FuzzReaderByMethod has the reader meet frames that make sense, mostly: what
// random bytes would take too long to hit upon.
func FuzzReaderByMethod(f *testing.F) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 30 {
		seed := make([]byte, 20*i)
		for j := range seed {
			seed[j] = byte(rnd.Uint32())
		}
		f.Add(seed, uint16(1<<(i%15)))
	}
	f.Fuzz(func(t *testing.T, b []byte, piece uint16) {
		meet(t, (&fuzzScript{b: b}).run(), int(piece)+1)
	})
}

// meet lets the reader of a connection in every state read b.
func meet(t *testing.T, b []byte, piece int) {
	conn, consumers := everyState(&chunks{b, []int{piece}})
	conn.cfg.MaxMessageSize = 2 << 20
	conn.cfg.Logger = slog.New(slog.DiscardHandler)
	requireBounded(t, len(b), states, func() {
		if err := conn.readFrames(); err == nil {
			t.Error("the reader ended without a reason")
		}
	})
	bodies := 0
	for _, c := range consumers {
		for _, d := range received(c) {
			bodies += len(d.body())
			if d.Properties == nil {
				t.Error("a delivery without properties")
			}
		}
	}
	if bodies > len(b) {
		t.Errorf("%d bytes became %d", len(b), bodies)
	}
	if replies, err := conn.out.Begin(); err == nil {
		if len(replies) > len(b)+1024 {
			t.Errorf("%d bytes were answered by %d", len(b), len(replies))
		}
		conn.out.Abort()
	}
}

// FuzzFrames compares frames that come in pieces with those that are cut out of
// the whole.
func FuzzFrames(f *testing.F) {
	all, frames := recordedSeeds(f)
	f.Add(all, uint16(7))
	for i, seed := range append(hostileSeeds(), frames[:5]...) {
		f.Add(seed, uint16(i))
	}
	f.Fuzz(func(t *testing.T, b []byte, piece uint16) {
		const most = 20_000
		in := frameReader{src: &chunks{b, []int{int(piece) + 1}}, max: most}
		var got []seenFrame
		var err error
		requireBounded(t, len(b), 0, func() { got, err = readAllFrames(&in) })
		rest := b
		for _, frame := range got {
			end := wire.FrameHeaderSize + int(frame.Size)
			if frame.FrameHeader != wire.ParseFrameHeader(rest) || frame.payload != string(rest[wire.FrameHeaderSize:end]) || rest[end] != wire.FrameEnd {
				t.Fatalf("%+v is not what comes first in %x", frame, rest)
			}
			rest = rest[end+1:]
		}
		broken := len(rest) >= wire.FrameHeaderSize && wire.ParseFrameHeader(rest).Size > most
		if !broken && len(rest) >= wire.FrameHeaderSize {
			end := wire.FrameHeaderSize + int(wire.ParseFrameHeader(rest).Size)
			broken = len(rest) > end && rest[end] != wire.FrameEnd
			if len(rest) > end && !broken {
				t.Fatal("a whole frame is left over")
			}
		}
		if broken != errors.Is(err, ErrProtocol) || !broken && !errors.Is(err, io.EOF) {
			t.Fatalf("%v, with %x left over", err, rest)
		}
	})
}

// FuzzHandshake has a broker say anything before the connection is open.
func FuzzHandshake(f *testing.F) {
	all, frames := recordedSeeds(f)
	f.Add(all)
	f.Add(bytes.Join(frames[:3], nil))
	for _, m := range [][]wire.Method{
		{&wire.ConnectionStart{VersionMinor: 8}},
		{&wire.ConnectionStart{VersionMinor: 9, Mechanisms: "PLAIN"}, &wire.ConnectionSecure{}, &wire.ConnectionTune{FrameMax: 1}},
		{&wire.ConnectionStart{VersionMinor: 9, Mechanisms: "PLAIN"}, &wire.ConnectionClose{ReplyCode: 403}},
		{&wire.ConnectionStart{VersionMinor: 9, Mechanisms: "PLAIN"}, &wire.ConnectionTune{FrameMax: 1 << 31, ChannelMax: 1}, &wire.ConnectionOpenOk{}},
	} {
		var b []byte
		for _, m := range m {
			b, _ = wire.AppendMethod(b, 0, m)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		cfg := new(Config).withDefaults()
		nc := source{src: bytes.NewReader(b)}
		c := newConn(&cfg, nc, nc)
		requireBounded(t, len(b), 0, func() {
			if err := c.handshake(t.Context()); err == nil && (c.tuning.ChannelMax == 0 || c.in.max < 4096-wire.FrameOverhead) {
				t.Errorf("agreed on %+v", c.tuning)
			}
		})
	})
}

// FuzzConnection has whole connections meet any bytes once they have a consumer.
func FuzzConnection(f *testing.F) {
	for _, seed := range hostileSeeds() {
		f.Add(seed, false)
	}
	_, frames := recordedSeeds(f)
	for i := range frames {
		f.Add(bytes.Join(frames[i:min(i+4, len(frames))], nil), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, byMethod bool) {
		if byMethod {
			b = (&fuzzScript{b: b}).run()
		}
		converse(t, b)
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
		converse(t, stream)
	}
}

// converse has a whole connection meet stream once it has a consumer: it ends,
// with a reason.
func converse(t *testing.T, stream []byte) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := WithConnection(ctx, Config{
		CloseTimeout: 20 * time.Millisecond,
		Logger:       slog.New(slog.DiscardHandler),
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
		t.Errorf("%x: %v, %v", stream, err, ctx.Err())
	}
}
