package amqp

import (
	"bytes"
	"io"
	"log/slog"
	"math"
	"runtime/metrics"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// What a connection allocates for what it receives is bounded: for each byte by
// perByte, which only tables come near to, for each open channel by what a
// body's header is believed, and for the connection by its buffers.
const (
	perByte       = 128
	perChannel    = trustSize
	perConnection = 2 << 20
)

// requireBounded checks the bound for what do makes of bytes received on
// channels.
func requireBounded(t *testing.T, received, channels int, do func()) {
	t.Helper()
	before := allocated()
	do()
	cost, limit := allocated()-before, perByte*received+perChannel*channels+perConnection
	if cost > uint64(limit) {
		t.Errorf("%d bytes received on %d channels cost %d, and %d are allowed", received, channels, cost, limit)
	}
}

// allocated is how many bytes the program has allocated so far, those included
// that it has let go of. It may be some pages behind, and does not stop the
// world: fuzzing asks for it all the time.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// The worst that a few bytes can do, with frames of any size allowed.
func TestMemoryIsBoundedByWhatIsReceived(t *testing.T) {
	const huge = 120 << 20
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	repeat := func(n int, one func(i int) []byte) []byte {
		var b []byte
		for i := range n {
			b = append(b, one(i)...)
		}
		return b
	}
	begun := cat(wire.AppendDeliver(nil, 1, "c", 1, false, "", ""), contentHeader(1, huge, nil))
	method := func(m wire.Method) []byte {
		b, err := wire.AppendMethod(nil, 1, m)
		require.NoError(t, err)
		return b
	}
	for name, stream := range map[string][]byte{
		"a body's header":       begun,
		"a body's first byte":   cat(begun, wire.AppendFrameHeader(nil, wire.FrameBody, 1, huge), []byte{1}),
		"a tenth of a body":     cat(begun, wire.AppendFrameHeader(nil, wire.FrameBody, 1, huge), make([]byte, huge/10)),
		"a method's first byte": append(wire.AppendFrameHeader(nil, wire.FrameMethod, 1, huge), 1),
		"a tenth of a method":   append(wire.AppendFrameHeader(nil, wire.FrameMethod, 1, huge), make([]byte, huge/10)...),
		"empty messages":        repeat(5000, func(i int) []byte { return deliver(1, uint64(i+1), nil, 4096, nil) }),
		"small messages": repeat(5000, func(i int) []byte {
			return deliver(1, uint64(i+1), []byte{1}, 4096, &wire.Properties{Priority: uint8(i)})
		}),
		"tables of nothing": repeat(100, func(i int) []byte {
			return deliver(1, uint64(i+1), nil, 1<<20, &wire.Properties{Headers: Table{"k": make([]any, 1000+i)}})
		}),
		"flow": repeat(10_000, func(i int) []byte { return method(&wire.ChannelFlow{Active: i%2 == 1}) }),
		"blocked": repeat(10_000, func(i int) []byte {
			b, _ := wire.AppendMethod(nil, 0, &wire.ConnectionBlocked{})
			return b
		}),
		"returns":     repeat(5000, func(i int) []byte { return cat(method(&wire.BasicReturn{}), contentHeader(1, 0, nil)) }),
		"cancel":      repeat(10_000, func(int) []byte { return method(&wire.BasicCancel{ConsumerTag: "other"}) }),
		"long text":   method(&wire.ChannelClose{ReplyText: strings.Repeat("x", 255)}),
		"a jump":      cat(deliver(1, 1, nil, 4096, nil), deliver(1, math.MaxUint64-1, nil, 4096, nil)),
		"every other": repeat(5000, func(i int) []byte { return deliver(1, uint64(2*i+1), nil, 4096, nil) }),
	} {
		t.Run(name, func(t *testing.T) {
			for _, piece := range []int{100, 1 << 30} {
				conn, _ := readerOf(&chunks{stream, []int{piece}})
				conn.tuning.FrameMax = 0
				conn.in.max = conn.maxPayload()
				conn.cfg.Logger = slog.New(slog.DiscardHandler)
				conn.find(1).returns = new(returnStream)
				requireBounded(t, len(stream), conn.open, func() { require.Error(t, conn.readFrames()) })
			}
		})
	}
}

// A large frame that does come is read whole, also when its size is the only
// reason to believe in it.
func TestFramesOfAnySizeArriveWhole(t *testing.T) {
	for _, size := range []int{trustSize - 1, trustSize + 1, 3*trustSize + 17} {
		for _, piece := range []int{100_000, 1 << 30} {
			stream := append(deliver(1, 1, pattern(size), 0, nil), deliver(1, 2, pattern(10), 0, nil)...)
			conn, consumers := readerOf(&chunks{stream, []int{piece}})
			conn.tuning.FrameMax = 0
			conn.in.max = conn.maxPayload()
			require.ErrorIs(t, conn.readFrames(), io.EOF)
			got := received(consumers[0])
			require.Len(t, got, 2)
			require.True(t, bytes.Equal(pattern(size), got[0].body()))
			require.True(t, bytes.Equal(pattern(10), got[1].body()))
		}
	}
}

// What was read before a large body that is not allowed is not lost.
func TestMessagesBeforeALargeViolationAreGivenOut(t *testing.T) {
	stream := append(deliver(1, 1, []byte("before"), 4096, nil), wire.AppendFrameHeader(nil, wire.FrameBody, 1, 100_000)...)
	conn, consumers := readerOf(bytes.NewReader(stream))
	require.ErrorIs(t, conn.readFrames(), ErrProtocol)
	require.Len(t, received(consumers[0]), 1)
}
