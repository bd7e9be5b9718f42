package wire

import (
	"encoding/binary"
	"math"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// perByte is what decoding allocates for each byte at most, tables being the worst, and slack what it may cost beside
// that: an error, say, or what the rest of the program does.
const (
	perByte = 128
	slack   = 16 << 10
)

// bounded decodes b, and checks that this allocates in proportion to b. When a first measure says otherwise, which is quick
// and may come in lumps, an exact one decides.
func bounded(t *testing.T, b []byte, decode func()) {
	limit := uint64(perByte*len(b) + slack)
	before := allocated()
	decode()
	for cost, tries := allocated()-before, 0; cost > limit; tries++ {
		if tries == 3 {
			t.Fatalf("%d bytes cost %d: %x", len(b), cost, b)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		decode()
		runtime.ReadMemStats(&after)
		cost = after.TotalAlloc - before.TotalAlloc
	}
}

// allocated is about how many bytes the program has allocated so far. It does not stop the world.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// tableScript makes a table of a fuzzer's bytes: of every type that a user may put into one, and of some that he may not.
type tableScript struct {
	b   []byte
	bad bool // the table holds what can't be carried
}

func (s *tableScript) octet() byte {
	if len(s.b) == 0 {
		return 0
	}
	n := s.b[0]
	s.b = s.b[1:]
	return n
}

func (s *tableScript) text() string {
	n := min(int(s.octet()), len(s.b))
	text := string(s.b[:n])
	s.b = s.b[n:]
	return text
}

func (s *tableScript) number() uint64 {
	var b [8]byte
	s.b = s.b[copy(b[:], s.b):]
	return binary.BigEndian.Uint64(b[:])
}

func (s *tableScript) table(depth int) Table {
	t := Table{}
	for n := s.octet() % 8; n > 0 && len(s.b) > 0; n-- {
		key := s.text()
		if _, taken := t[key]; taken {
			continue
		}
		if s.octet() == 255 {
			for len(key) <= math.MaxUint8 {
				key += "longer"
			}
			s.bad = true
		}
		t[key] = s.value(depth)
	}
	return t
}

func (s *tableScript) value(depth int) any {
	switch n := s.number(); s.octet() % 24 {
	case 0:
		return nil
	case 1:
		return n%2 == 1
	case 2:
		return int(n)
	case 3:
		return int8(n)
	case 4:
		return int16(n)
	case 5:
		return int32(n)
	case 6:
		return int64(n)
	case 7:
		s.bad = s.bad || n > math.MaxInt64
		return n
	case 8:
		return uint8(n)
	case 9:
		return uint16(n)
	case 10:
		return uint32(n)
	case 11:
		s.bad = s.bad || n > math.MaxInt64
		return uint(n)
	case 12:
		return math.Float32frombits(uint32(n))
	case 13:
		return math.Float64frombits(n)
	case 14:
		return s.text()
	case 15:
		return []byte(s.text())
	case 16:
		return Decimal{uint8(n), int32(n >> 8)}
	case 17:
		at := time.Unix(int64(n>>24)-1000, 0)
		s.bad = s.bad || at.Unix() < 0
		return at
	case 18:
		return []string{s.text(), s.text()}
	case 19:
		s.bad = true
		return struct{}{}
	case 20, 21:
		s.bad = s.bad || depth >= maxDepth
		return []any{s.value(depth + 1), s.value(depth + 1)}
	case 22:
		s.bad = s.bad || depth >= maxDepth
		return map[string]any(s.table(depth + 1))
	default:
		s.bad = s.bad || depth >= maxDepth
		return s.table(depth + 1)
	}
}

// FuzzTableEncoding encodes tables of all types: those that can be carried come back as they were, in as many bytes as Size
// says, and the others are refused and leave nothing behind.
func FuzzTableEncoding(f *testing.F) {
	var every []byte
	for kind := range byte(24) {
		one := []byte{1, 1, 'k', 0, 0, 0, 0, 0, 0, 0, 0, 7, kind, 3, 'a', 'b', 'c', 2, 'd', 'e'}
		f.Add(one)
		every = append(every, one[1:13]...)
	}
	f.Add(append([]byte{7}, every...))
	f.Add(append([]byte{7}, every[7*12:]...))
	deep := []byte{1, 1, 'k', 0}
	for range maxDepth + 1 {
		deep = append(deep, 0, 0, 0, 0, 0, 0, 0, 0, 20)
	}
	f.Add(deep)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := tableScript{b: b}
		in := s.table(0)
		size, err := in.Size()
		out, appendErr := AppendTable([]byte("x"), in)
		require.Equal(t, s.bad, err != nil, "%v", err)
		require.Equal(t, s.bad, appendErr != nil, "%v", appendErr) // of several reasons one is as good as the other
		if err != nil {
			require.Equal(t, "x", string(out))
			require.Contains(t, string(appendCheckedTable([]byte("x"), in)), "x\x00\x00\x00\x00")
			return
		}
		require.Len(t, out, size+1)
		decoded, rest, err := DecodeTable(out[1:])
		require.NoError(t, err)
		require.Empty(t, rest)
		require.Len(t, decoded, len(in))
		// What has been decoded is of the types that decoding gives, and stays the same.
		again, err := AppendTable(nil, decoded)
		require.NoError(t, err)
		require.Len(t, again, size)
		back, _, err := DecodeTable(again)
		require.NoError(t, err)
		require.True(t, same(decoded, back), "%v\n%v", decoded, back)
	})
}
