package wire

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHeartbeatBytes(t *testing.T) {
	assert.Equal(t, []byte{'x', 8, 0, 0, 0, 0, 0, 0, 0xCE}, AppendHeartbeat([]byte("x")))
}

func TestProtocolHeader(t *testing.T) {
	assert.Equal(t, "AMQP\x00\x00\x09\x01", string(ProtocolHeader[:]))
}

func TestFrameHeader(t *testing.T) {
	b := AppendFrameHeader(nil, FrameBody, 0x1234, 0x89ABCDEF)
	assert.Equal(t, []byte{3, 0x12, 0x34, 0x89, 0xAB, 0xCD, 0xEF}, b)
	assert.Equal(t, FrameHeader{Type: FrameBody, Channel: 0x1234, Size: 0x89ABCDEF}, ParseFrameHeader(b))
}

func TestBodyIsCutAtFrameMax(t *testing.T) {
	const room = MinFrameMax - FrameOverhead
	for _, c := range []struct {
		size   int
		max    uint32
		frames []uint32
	}{
		{0, MinFrameMax, nil},
		{1, MinFrameMax, []uint32{1}},
		{room - 1, MinFrameMax, []uint32{room - 1}},
		{room, MinFrameMax, []uint32{room}},
		{room + 1, MinFrameMax, []uint32{room, 1}},
		{2 * room, MinFrameMax, []uint32{room, room}},
		{2*room + 1, MinFrameMax, []uint32{room, room, 1}},
		{3*room - 1, MinFrameMax, []uint32{room, room, room - 1}},
		{100_000, 0, []uint32{100_000}},
		{3, FrameOverhead + 1, []uint32{1, 1, 1}},
		{3, FrameOverhead, []uint32{3}}, // no body fits such a frame: it counts as no limit
		{3, 1, []uint32{3}},
	} {
		t.Run(fmt.Sprintf("%d in %d", c.size, c.max), func(t *testing.T) {
			body := make([]byte, c.size)
			for i := range body {
				body[i] = byte(i * 7)
			}
			out := AppendBody([]byte("before"), 9, body, c.max)
			require.Equal(t, "before", string(out[:6]))
			var sizes []uint32
			var joined []byte
			for _, f := range splitFrames(t, out[6:]) {
				assert.Equal(t, FrameBody, f.Type)
				assert.Equal(t, uint16(9), f.Channel)
				sizes = append(sizes, f.Size)
				joined = append(joined, f.payload...)
			}
			assert.Equal(t, c.frames, sizes)
			assert.True(t, bytes.Equal(body, joined))
		})
	}
}
