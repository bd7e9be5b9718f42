package slab

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCapacityEndsWithTheSlice(t *testing.T) {
	var s Bytes
	defer s.Close()
	a, b := s.Make(10), s.Make(10)
	copy(b, "neighbours")
	assert.Equal(t, 10, cap(a))
	_ = append(a, "overflow"...)
	assert.Equal(t, "neighbours", string(b))
}

func TestSlicesDoNotOverlap(t *testing.T) {
	var s Bytes
	defer s.Close()
	rnd := rand.New(rand.NewPCG(1, 2))
	var all [][]byte
	for i := range 5000 {
		n := rnd.IntN(300)
		if i%500 == 0 {
			n = 2 * maxBytes // larger than any piece
		}
		b := s.Make(n)
		require.Len(t, b, n)
		for j := range b {
			b[j] = byte(i)
		}
		all = append(all, b)
	}
	for i, b := range all {
		require.Equal(t, len(b), bytes.Count(b, []byte{byte(i)}))
	}
}

func TestStringsAliasNoBytes(t *testing.T) {
	var s Bytes
	defer s.Close()
	in := []byte("text")
	text := s.String(in)
	body := s.Make(4)
	copy(body, "body")
	_ = append(body, "more"...)
	copy(in, "gone")
	assert.Equal(t, "text", text)
	assert.Empty(t, s.String(nil))
	assert.Empty(t, s.String([]byte{}))
}

func TestCopyIsTheReceivers(t *testing.T) {
	var s Bytes
	defer s.Close()
	in := []byte("bytes")
	out := s.Copy(in)
	copy(in, "other")
	assert.Equal(t, "bytes", string(out))
	assert.NotNil(t, s.Copy(nil))
	assert.NotNil(t, s.Make(0))
}

func TestPiecesStartSmallAndGrow(t *testing.T) {
	var s Bytes
	defer s.Close()
	var sizes []int
	for len(sizes) < 10 {
		s.free = nil
		s.Make(1)
		sizes = append(sizes, cap(s.free)+1)
	}
	assert.Equal(t, []int{512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 65536, 65536}, sizes)
	s.Reset()
	s.Make(1)
	assert.Len(t, s.free, firstBytes-1)
}

func TestItemsAreZeroAndTheirOwn(t *testing.T) {
	var s Items[[2]int]
	seen := make(map[*[2]int]bool)
	for range 1000 {
		v := s.Next()
		require.Equal(t, [2]int{}, *v)
		*v = [2]int{1, 2}
		require.False(t, seen[v])
		seen[v] = true
	}
}

func TestItemsStartSmallAndGrow(t *testing.T) {
	var s Items[[itemBytes / 64]byte]
	var sizes []int
	for len(sizes) < 6 {
		s.used = len(s.piece)
		s.Next()
		sizes = append(sizes, len(s.piece))
	}
	assert.Equal(t, []int{4, 8, 16, 32, 64, 64}, sizes)
	s.Reset()
	s.Next()
	assert.Len(t, s.piece, firstItems)
}

func TestItemsThatHoldALotHaveFewNeighbours(t *testing.T) {
	var s Items[int]
	for range 1000 { // until pieces are long
		s.Next()
	}
	const held = pinLimit / 8
	s.used = len(s.piece)
	var pieces []*int
	for range 1000 {
		if v := s.Next(); s.used == 1 {
			pieces = append(pieces, v)
		}
		s.Pin(held)
	}
	assert.InDelta(t, 1000*held/pinLimit, len(pieces), 20)
	assert.LessOrEqual(t, len(s.piece), 8, "no piece is longer than it will be filled")
	s.Pin(10 * pinLimit)
	last := &s.piece[0]
	s.Next()
	assert.NotSame(t, last, &s.piece[0])
}

func TestUndoneItemIsTheNext(t *testing.T) {
	var s Items[int]
	s.Next()
	v := s.Next()
	*v = 7
	s.Undo()
	assert.Same(t, v, s.Next())
	assert.Zero(t, *v)
}

func TestManySmallOnesCostFewAllocations(t *testing.T) {
	var b Bytes
	defer b.Close()
	var i Items[int]
	in := make([]byte, 16)
	allocs := testing.AllocsPerRun(10, func() {
		for range 1000 {
			_ = b.String(in)
			_ = b.Copy(in)
			_ = i.Next()
		}
	})
	assert.Less(t, allocs, 25.0) // half a piece of bytes, and sixteen of items
}
