package amqp

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// appendFrame appends any frame, well-formed or not in its payload.
func appendFrame(dst []byte, typ byte, channel uint16, payload []byte) []byte {
	dst = wire.AppendFrameHeader(dst, typ, channel, uint32(len(payload)))
	return append(append(dst, payload...), wire.FrameEnd)
}

type seenFrame struct {
	wire.FrameHeader
	payload string
}

func readAllFrames(f *frameReader) (all []seenFrame, err error) {
	for {
		h, payload, err := f.next()
		if err != nil {
			return all, err
		}
		all = append(all, seenFrame{h, string(payload)})
	}
}

// chunks is a source that gives its bytes in pieces of given sizes, the last of
// which repeats.
type chunks struct {
	b     []byte
	sizes []int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	size := min(c.sizes[0], len(p), len(c.b))
	if len(c.sizes) > 1 {
		c.sizes = c.sizes[1:]
	}
	n := copy(p[:size], c.b)
	c.b = c.b[n:]
	return n, nil
}

func TestFramesSplitAtEveryByte(t *testing.T) {
	var stream []byte
	var want []seenFrame
	for i, size := range []int{0, 1, 6, 7, 8, 9, 100, 0, 300} {
		payload := bytes.Repeat([]byte{byte('a' + i)}, size)
		stream = appendFrame(stream, byte(i), uint16(i*257), payload)
		want = append(want, seenFrame{wire.FrameHeader{Type: byte(i), Channel: uint16(i * 257), Size: uint32(size)}, string(payload)})
	}
	for cut := 1; cut < len(stream); cut++ {
		f := frameReader{src: &chunks{stream, []int{cut, len(stream)}}, max: 1000}
		got, err := readAllFrames(&f)
		require.Equal(t, io.EOF, err)
		require.Equal(t, want, got, "cut at %d", cut)
	}
	for size := 1; size < 40; size++ {
		f := frameReader{src: &chunks{stream, []int{size}}, max: 1000}
		got, err := readAllFrames(&f)
		require.Equal(t, io.EOF, err)
		require.Equal(t, want, got, "pieces of %d", size)
	}
}

func TestFramesLargerThanTheBuffer(t *testing.T) {
	var stream []byte
	var sizes []int
	for _, around := range []int{quietBuffer, 2 * quietBuffer, busyBuffer, 4 * busyBuffer} {
		for _, d := range []int{-9, -8, -7, -1, 0, 1} {
			sizes = append(sizes, around+d)
			stream = appendFrame(stream, 1, 1, bytes.Repeat([]byte{byte(len(sizes))}, around+d))
		}
	}
	for _, pieces := range []int{1000, 4096, 100_000, len(stream)} {
		f := frameReader{src: &chunks{stream, []int{pieces}}, max: 1 << 20}
		got, err := readAllFrames(&f)
		require.Equal(t, io.EOF, err)
		require.Len(t, got, len(sizes))
		for i, g := range got {
			require.Equal(t, string(bytes.Repeat([]byte{byte(i + 1)}, sizes[i])), g.payload)
		}
	}
}

// What has come of a large frame or body is moved a few times, and not with every piece, which would make it quadratic: a
// packet at a time, 16 MiB would be moved 11,000 times.
func TestWhatIsLargeAndComesInSmallPiecesIsMovedAFewTimes(t *testing.T) {
	const size, packet, most = 16 << 20, 1460, 32 << 20
	t.Run("frame", func(t *testing.T) {
		f := frameReader{src: &chunks{appendFrame(nil, wire.FrameMethod, 1, make([]byte, size)), []int{packet}}, max: size}
		for moved := 0; ; {
			_, payload, ok, err := f.take()
			require.NoError(t, err)
			if ok {
				require.Len(t, payload, size)
				break
			}
			before, at, have := f.buf, f.r, f.w-f.r
			require.NoError(t, f.fill())
			if have > 0 && (&before[0] != &f.buf[0] || at != f.r) {
				moved += have
			}
			require.LessOrEqual(t, moved, most)
		}
	})
	t.Run("body", func(t *testing.T) {
		m := content{size: size, body: make([]byte, trustSize)}
		for moved := 0; m.have < size; {
			before, have, n := &m.body[0], m.have, min(packet, size-m.have)
			require.Len(t, m.room(n), n)
			if before != &m.body[0] {
				moved += have
			}
			require.LessOrEqual(t, moved, most)
			m.have += n
		}
	})
}

func TestAFrameMayBeAsLargeAsFrameMax(t *testing.T) {
	whole := appendFrame(nil, 1, 1, make([]byte, 100))
	_, err := readAllFrames(&frameReader{src: bytes.NewReader(whole), max: 100})
	require.Equal(t, io.EOF, err)
	_, err = readAllFrames(&frameReader{src: bytes.NewReader(whole[:wire.FrameHeaderSize]), max: 99})
	require.ErrorIs(t, err, ErrProtocol)
	require.ErrorContains(t, err, "frame of type 1 on channel 1 with 100 bytes exceeds frame_max, which allows 99")
}

func TestWrongEndOctet(t *testing.T) {
	b := appendFrame(nil, wire.FrameBody, 3, []byte("abc"))
	b[len(b)-1] = 0xCD
	_, err := readAllFrames(&frameReader{src: bytes.NewReader(b), max: 100})
	require.ErrorIs(t, err, ErrProtocol)
	require.ErrorContains(t, err, "frame of type 3 on channel 3 ends with octet 0xcd instead of 0xce")
}

func TestWhatIsNoBroker(t *testing.T) {
	for name, c := range map[string]struct {
		sent string
		says []string
	}{
		"AMQP 1.0":      {"AMQP\x00\x01\x00\x00", []string{"another version of AMQP", `AMQP\x00\x01\x00`}},
		"AMQP 0-9-1":    {"AMQP\x00\x00\x09\x01", []string{"another version of AMQP", `AMQP\x00\x00\t`}},
		"AMQP, cut off": {"AMQP\x00\x01\x00", []string{"another version of AMQP"}},
		"TLS, version":  {"\x15\x03\x01\x00\x02\x02\x46", []string{"Config.TLS"}},
		"TLS, message":  {"\x15\x03\x03\x00\x02\x02\x0a", []string{"Config.TLS"}},
		"HTTP":          {"HTTP/1.1 400 Bad Request\r\n\r\n", []string{"HTTP"}},
		"SSH":           {"SSH-2.0-OpenSSH_9.9\r\n", []string{"exceeds frame_max"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := frameReader{src: iotest.OneByteReader(bytes.NewReader([]byte(c.sent))), max: handshakeFrameMax}
			_, err := readAllFrames(&f)
			require.ErrorIs(t, err, ErrProtocol)
			for _, s := range c.says {
				require.ErrorContains(t, err, s)
			}
		})
	}
}

func TestTheBufferFollowsTheTraffic(t *testing.T) {
	var stream []byte
	for range 10 * busyBuffer / 108 {
		stream = appendFrame(stream, 1, 1, make([]byte, 100))
	}
	src := &chunks{stream, []int{1 << 30}}
	f := frameReader{src: src, max: 2 << 20}
	_, err := readAllFrames(&f)
	require.Equal(t, io.EOF, err)
	assert.Len(t, f.buf, busyBuffer, "as much as came at once")

	for range 10 * floodBuffer / (largeFrame + wire.FrameOverhead) {
		src.b = appendFrame(src.b, 1, 1, make([]byte, largeFrame))
	}
	_, err = readAllFrames(&f)
	require.Equal(t, io.EOF, err)
	assert.Len(t, f.buf, floodBuffer, "large ones need fewer reads")

	src.b = appendFrame(nil, 1, 1, make([]byte, 10*busyBuffer))
	_, err = readAllFrames(&f)
	require.Equal(t, io.EOF, err)
	assert.GreaterOrEqual(t, len(f.buf), 10*busyBuffer, "a frame that is larger still")

	for range quietReads {
		src.b = appendFrame(nil, 8, 0, nil)
		_, err = readAllFrames(&f)
		require.Equal(t, io.EOF, err)
	}
	assert.Len(t, f.buf, quietBuffer, "given back when it is quiet")
	assert.Len(t, f.buf, cap(f.buf))
}

func TestPayloadsDoNotReachBeyondTheirFrame(t *testing.T) {
	b := appendFrame(appendFrame(nil, 1, 1, []byte("first")), 1, 1, []byte("second"))
	f := frameReader{src: bytes.NewReader(b), max: 100}
	_, first, err := f.next()
	require.NoError(t, err)
	_ = append(first, "overwritten, if it could be"...)
	_, second, err := f.next()
	require.NoError(t, err)
	assert.Equal(t, "second", string(second))
}

func TestFramesPassTheSocketsErrorOn(t *testing.T) {
	broken := errors.New("broken")
	b := appendFrame(nil, 1, 1, []byte("whole"))
	f := frameReader{src: io.MultiReader(bytes.NewReader(b), iotest.ErrReader(broken)), max: 100}
	got, err := readAllFrames(&f)
	require.Equal(t, broken, err)
	require.Len(t, got, 1)
	// With the data itself.
	f = frameReader{src: iotest.DataErrReader(bytes.NewReader(b)), max: 100}
	got, err = readAllFrames(&f)
	require.Equal(t, io.EOF, err)
	require.Len(t, got, 1)
}
