package wire

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tableBack encodes a table, checks that Size is what it takes, and decodes it.
func tableBack(t *testing.T, in Table) Table {
	t.Helper()
	size, err := in.Size()
	require.NoError(t, err)
	b, err := AppendTable([]byte("before"), in)
	require.NoError(t, err)
	require.Equal(t, "before", string(b[:6]))
	require.Len(t, b, 6+size)
	out, rest, err := DecodeTable(append(b[6:], "after"...))
	require.NoError(t, err)
	require.Equal(t, "after", string(rest))
	return out
}

func TestTableValueBytes(t *testing.T) {
	for _, c := range []struct {
		name string
		in   any
		wire string
		out  any
	}{
		{"nil", nil, "V", nil},
		{"true", true, "t\x01", true},
		{"false", false, "t\x00", false},
		{"int8", int8(-2), "b\xFE", int8(-2)},
		{"uint8", uint8(254), "B\xFE", uint8(254)},
		{"int16", int16(-2), "s\xFF\xFE", int16(-2)},
		{"uint16", uint16(0xFEDC), "u\xFE\xDC", uint16(0xFEDC)},
		{"int32", int32(-2), "I\xFF\xFF\xFF\xFE", int32(-2)},
		{"uint32", uint32(0xFEDCBA98), "i\xFE\xDC\xBA\x98", uint32(0xFEDCBA98)},
		{"int64", int64(-2), "l\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFE", int64(-2)},
		{"int", 500_000_000, "l\x00\x00\x00\x00\x1D\xCD\x65\x00", int64(500_000_000)},
		{"uint", uint(7), "l\x00\x00\x00\x00\x00\x00\x00\x07", int64(7)},
		{"uint64", uint64(math.MaxInt64), "l\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", int64(math.MaxInt64)},
		{"float32", float32(1.5), "f\x3F\xC0\x00\x00", float32(1.5)},
		{"float64", 1.5, "d\x3F\xF8\x00\x00\x00\x00\x00\x00", 1.5},
		{"string", "hé", "S\x00\x00\x00\x03h\xC3\xA9", "hé"},
		{"bytes", []byte{1, 2}, "x\x00\x00\x00\x02\x01\x02", []byte{1, 2}},
		{"no bytes", []byte(nil), "x\x00\x00\x00\x00", []byte{}},
		{"decimal", Decimal{Scale: 2, Value: -1}, "D\x02\xFF\xFF\xFF\xFF", Decimal{Scale: 2, Value: -1}},
		{"time", time.Unix(0x65537F00, 999), "T\x00\x00\x00\x00\x65\x53\x7F\x00", time.Unix(0x65537F00, 0).UTC()},
		{"table", Table{"k": true}, "F\x00\x00\x00\x04\x01kt\x01", Table{"k": true}},
		{"map", map[string]any{"k": true}, "F\x00\x00\x00\x04\x01kt\x01", Table{"k": true}},
		{"nil table", Table(nil), "F\x00\x00\x00\x00", Table{}},
		{"array", []any{nil, []any{}}, "A\x00\x00\x00\x06VA\x00\x00\x00\x00", []any{nil, []any{}}},
		{"strings", []string{"a", ""}, "A\x00\x00\x00\x0BS\x00\x00\x00\x01aS\x00\x00\x00\x00", []any{"a", ""}},
		{"no strings", []string(nil), "A\x00\x00\x00\x00", []any{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := Table{"key": c.in}
			b, err := AppendTable(nil, in)
			require.NoError(t, err)
			require.Equal(t, string(rawTable("\x03key"+c.wire)), string(b))
			require.Equal(t, Table{"key": c.out}, tableBack(t, in))
		})
	}
}

func TestEveryKindTogether(t *testing.T) {
	in := everyKind()
	before := maps.Clone(in)
	require.Equal(t, in, tableBack(t, in))
	require.Equal(t, before, in)
	require.Equal(t, Table{}, tableBack(t, nil))
	require.Equal(t, Table{}, tableBack(t, Table{}))
	require.Equal(t, Table{strings.Repeat("k", 255): int64(1)}, tableBack(t, Table{strings.Repeat("k", 255): 1}))
}

func TestSpecialFloats(t *testing.T) {
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1)} {
		out := tableBack(t, Table{"d": f, "f": float32(f)})
		assert.Equal(t, math.Float64bits(f), math.Float64bits(out["d"].(float64)))
		assert.Equal(t, math.Float32bits(float32(f)), math.Float32bits(out["f"].(float32)))
	}
}

func TestRefusedValuesNameTheirPath(t *testing.T) {
	type money struct{}
	type named string
	text := "s"
	for _, c := range []struct {
		in   Table
		want string
	}{
		{Table{"price": money{}}, "price: type wire.money can't be carried in a table"},
		{Table{"a": Table{"b": map[string]any{"c": &text}}}, "a.b.c: type *string can't be carried in a table"},
		{Table{"orders": []any{1, 2, 3, Table{"price": named("x")}}}, "orders[3].price: type wire.named can't be carried in a table"},
		{Table{"m": []any{[]any{}, []any{0, complex(1, 1)}}}, "m[1][1]: type complex128 can't be carried in a table"},
		{Table{"ints": []int{1}}, "ints: type []int can't be carried in a table"},
		{Table{"d": time.Second}, "d: type time.Duration can't be carried in a table"},
		{Table{"p": uintptr(1)}, "p: type uintptr can't be carried in a table"},
		{Table{"n": uint64(math.MaxInt64 + 1)}, "n: 9223372036854775808 is above 9223372036854775807, the largest integer that a table can carry"},
		{Table{"t": time.Unix(-1, 0)}, "t: 1969-12-31T23:59:59Z is before 1970 and can't be carried in a table"},
		{Table{"t": time.Time{}}, "t: 0001-01-01T00:00:00Z is before 1970 and can't be carried in a table"},
		{Table{"": struct{}{}}, `"": type struct {} can't be carried in a table`},
		{Table{"a b.c": struct{}{}}, `"a b.c": type struct {} can't be carried in a table`},
		{Table{"in": Table{strings.Repeat("k", 256): 1}}, "in." + strings.Repeat("k", 40) + "…: the key has 256 bytes, and a key holds 255 at most"},
	} {
		t.Run(c.want, func(t *testing.T) {
			dst := append(make([]byte, 0, 100), "before"...)
			out, err := AppendTable(dst, c.in)
			require.EqualError(t, err, c.want)
			require.Equal(t, "before", string(out))
			_, err = c.in.Size()
			require.EqualError(t, err, c.want)
			// The encoder that is not preceded by Size refuses the same.
			_, ok := appendTable(nil, c.in, 0)
			require.False(t, ok)
		})
	}
}

func TestUintIsCarriedWhenItFits(t *testing.T) {
	n := ^uint(0)
	if n <= math.MaxUint32 {
		require.Equal(t, Table{"n": int64(math.MaxUint32)}, tableBack(t, Table{"n": n}))
		return
	}
	_, err := AppendTable(nil, Table{"n": n})
	require.EqualError(t, err, "n: 18446744073709551615 is above 9223372036854775807, the largest integer that a table can carry")
	_, ok := appendTable(nil, Table{"n": n}, 0)
	require.False(t, ok)
}

func TestTableThatContainsItself(t *testing.T) {
	in := Table{}
	in["self"] = Table{"list": []any{0, in}}
	_, err := in.Size()
	require.ErrorContains(t, err, "tables lie in each other more than 100 deep: does one contain itself?")
	require.ErrorContains(t, err, "self.list[1].self … ")
	require.Less(t, len(err.Error()), 200)
	dst := []byte("before")
	out, err := AppendTable(dst, in)
	require.Error(t, err)
	require.Equal(t, dst, out)

	list := []any{nil}
	list[0] = list
	_, err = AppendTable(nil, Table{"list": list})
	require.ErrorContains(t, err, "does one contain itself?")
	require.ErrorContains(t, err, "list[0][0][0] … [0][0]")
	_, ok := appendTable(nil, in, 0)
	require.False(t, ok)
}

// nest puts depth tables and arrays, in turn, around the value.
func nest(v any, depth int) any {
	for i := range depth {
		if i%2 == 0 {
			v = []any{v}
		} else {
			v = Table{"t": v}
		}
	}
	return v
}

func TestDepth(t *testing.T) {
	deepest := Table{"top": nest("bottom", maxDepth)}
	require.Equal(t, deepest, tableBack(t, deepest))
	_, err := Table{"top": nest("bottom", maxDepth+1)}.Size()
	require.ErrorContains(t, err, "more than 100 deep")

	raw, err := AppendTable(nil, deepest)
	require.NoError(t, err)
	deeper := rawTable("\x01kA" + string(rawTable("F"+string(raw))))
	got, rest, err := DecodeTable(deeper)
	require.NoError(t, err)
	require.Empty(t, rest)
	innermost := []byte("\x01tA\x00\x00\x00\x0BS\x00\x00\x00\x06bottom")
	require.Equal(t, Table{"k": []any{Table{"top": nest(innermost, maxDepth-2)}}}, got)
	require.Equal(t, got, tableBack(t, got))

	_, _, err = DecodeTable(deeper[:len(deeper)-1])
	require.ErrorIs(t, err, ErrMalformed)
}

// As deep as a frame of 1 MiB has room for.
func TestDepthOfNothingButTables(t *testing.T) {
	var tail []byte
	for size := 0; len(tail) < 1<<20; size += 5 {
		head := binary.BigEndian.AppendUint32(nil, uint32(size))
		slices.Reverse(head)
		tail = append(append(tail, head...), 'A')
	}
	slices.Reverse(tail)
	got, _, err := DecodeTable(rawTable("\x01k" + string(tail)))
	require.NoError(t, err)
	require.Equal(t, 100, strings.Count(fmt.Sprintf("%#v", got), "[]interface"))
}

// A nest of shared tables is small in memory and endless on the wire: it must be given up, not walked to its end.
func TestWideTableIsRefusedAtItsSize(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	v := any(big)
	for range 20 {
		v = []any{v, v}
	}
	_, err := Table{"v": v}.Size()
	require.ErrorContains(t, err, "here the table outgrows 4294967295 bytes")
}

func TestPathsStayReadable(t *testing.T) {
	for _, c := range []struct {
		field string
		steps []string // innermost first
		want  string
	}{
		{"", nil, ""},
		{"headers", []string{"a"}, "headers.a"},
		{"", []string{"a"}, "a"},
		{"", []string{"price", "[3]", "orders"}, "orders[3].price"},
		{"h", []string{"8", "7", "6", "5", "4", "3", "2", "1"}, "h.1.2.3.4.5.6.7.8"},
		{"h", []string{"9", "8", "7", "6", "5", "4", "3", "2", "1"}, "h.1.2.3.4 … .6.7.8.9"},
	} {
		assert.Equal(t, c.want, joinPath(c.field, c.steps))
	}
	assert.Equal(t, `"line\nbreak"`, quoteKey("line\nbreak"))
}
