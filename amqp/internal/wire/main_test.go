package wire

import (
	"encoding/binary"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// frame is one frame of a stream, cut out for a test.
type frame struct {
	FrameHeader
	payload []byte
	whole   []byte
}

// splitFrames cuts a stream into frames and fails the test when it is not made of whole frames.
func splitFrames(t testing.TB, b []byte) []frame {
	t.Helper()
	var frames []frame
	for len(b) > 0 {
		if len(b) < FrameOverhead {
			t.Fatalf("%d bytes are no frame", len(b))
		}
		h := ParseFrameHeader(b)
		size := FrameOverhead + int(h.Size)
		if len(b) < size || b[size-1] != FrameEnd {
			t.Fatalf("%d bytes do not hold a whole frame of %d", len(b), size)
		}
		frames = append(frames, frame{h, b[FrameHeaderSize : size-1], b[:size]})
		b = b[size:]
	}
	return frames
}

// onlyFrame is splitFrames for a stream of one frame, whose type and channel it checks.
func onlyFrame(t testing.TB, b []byte, typ byte, channel uint16) frame {
	t.Helper()
	frames := splitFrames(t, b)
	require.Len(t, frames, 1)
	require.Equal(t, typ, frames[0].Type)
	require.Equal(t, channel, frames[0].Channel)
	return frames[0]
}

// same is reflect.DeepEqual with floats compared by their bits, so that a NaN equals itself, and with a uint64 equal to the
// int64 that it is encoded as.
func same(a, b any) bool {
	switch a := a.(type) {
	case uint64:
		if b, ok := b.(int64); ok {
			return b >= 0 && a == uint64(b)
		}
	case float32:
		b, ok := b.(float32)
		return ok && math.Float32bits(a) == math.Float32bits(b)
	case float64:
		b, ok := b.(float64)
		return ok && math.Float64bits(a) == math.Float64bits(b)
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !same(a[i], b[i]) {
				return false
			}
		}
		return true
	case Table:
		b, ok := b.(Table)
		if !ok || len(a) != len(b) || (a == nil) != (b == nil) {
			return false
		}
		for k, v := range a {
			w, ok := b[k]
			if !ok || !same(v, w) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b)
}

// everyKind is a table with every type that decoding returns, as it returns it.
func everyKind() Table {
	return Table{
		"nil": nil, "true": true, "false": false,
		"int8": int8(math.MinInt8), "uint8": uint8(math.MaxUint8), "int16": int16(math.MinInt16), "uint16": uint16(math.MaxUint16),
		"int32": int32(math.MinInt32), "uint32": uint32(math.MaxUint32), "int64": int64(math.MinInt64),
		"float32": float32(1.5), "float64": math.SmallestNonzeroFloat64, "string": "grüße", "empty string": "",
		"bytes": []byte{0, 1, 0xCE}, "empty bytes": []byte{}, "decimal": Decimal{Scale: 2, Value: -314},
		"time": time.Unix(1700000000, 0).UTC(), "table": Table{"inner": Table{"deep": int32(1)}}, "empty table": Table{},
		"array": []any{"one", int64(2), nil, []any{true}, Table{"k": "v"}}, "empty array": []any{}, "": "empty key",
	}
}

// rawTable puts the length in front of the entries of a table.
func rawTable(entries string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(entries))), entries...)
}
