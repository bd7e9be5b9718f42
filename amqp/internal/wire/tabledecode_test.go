package wire

import (
	"bytes"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDecodeForeignKinds(t *testing.T) {
	got, rest, err := DecodeTable(rawTable("\x01LL\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01tt\x02\x01TT\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFE"))
	require.NoError(t, err)
	require.Empty(t, rest)
	require.Equal(t, Table{"L": uint64(math.MaxUint64), "t": true, "T": time.Unix(-2, 0).UTC()}, got)
}

func TestLastOfDuplicateKeysCounts(t *testing.T) {
	got, _, err := DecodeTable(rawTable("\x01kB\x01\x01oV\x01kB\x02"))
	require.NoError(t, err)
	require.Equal(t, Table{"k": uint8(2), "o": nil}, got)
}

func TestMalformedTables(t *testing.T) {
	for _, c := range []struct {
		name string
		raw  []byte
		want string
	}{
		{"nothing", nil, "table: malformed: 4 bytes too few"},
		{"half a length", []byte{0, 0, 0}, "table: malformed: 1 bytes too few"},
		{"length beyond the end", []byte{0, 0, 0, 5, 1, 'k', 'V'}, "table: malformed: 2 bytes too few"},
		{"huge length", []byte{255, 255, 255, 255}, "table: malformed: 4294967295 bytes too few"},
		{"key beyond the end", rawTable("\x05k"), "table: malformed: 4 bytes too few"},
		{"key without value", rawTable("\x01k"), "table: malformed: 1 bytes too few"},
		{"unknown kind", rawTable("\x01kZ\x00"), "table: malformed: unknown kind of value 'Z'"},
		{"string beyond the end", rawTable("\x01kS\x00\x00\x00\x09abc"), "table: malformed: 6 bytes too few"},
		{"huge string", rawTable("\x01kS\xFF\xFF\xFF\xFFabc"), "table: malformed: 4294967292 bytes too few"},
		{"table beyond the end", rawTable("\x01kF\x00\x00\x00\x09abc"), "table: malformed: 6 bytes too few"},
		{"array beyond the end", rawTable("\x01kA\xFF\xFF\xFF\xFF"), "table: malformed: 4294967295 bytes too few"},
		{"value beyond its array", rawTable("\x01kA\x00\x00\x00\x01I\x00\x00\x00\x01"), "table: malformed: a value reaches beyond the table or array it is in"},
		{"value beyond its table", rawTable("\x01kF\x00\x00\x00\x03\x01kI\x00\x00\x00\x01"), "table: malformed: a value reaches beyond the table or array it is in"},
		{"error inside", rawTable("\x01kA\x00\x00\x00\x02VZ\x01lV"), "table: malformed: unknown kind of value 'Z'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, rest, err := DecodeTable(c.raw)
			require.ErrorIs(t, err, ErrMalformed)
			require.EqualError(t, err, c.want)
			require.Nil(t, got)
			require.Equal(t, c.raw, rest)
		})
	}
}

func TestEveryCutOfATableIsAnError(t *testing.T) {
	raw, err := AppendTable(nil, everyKind())
	require.NoError(t, err)
	for n := range raw {
		_, _, err := DecodeTable(raw[:n:n])
		require.ErrorIs(t, err, ErrMalformed, "cut to %d", n)
		// With the length made right, the cut lies within an entry, or between two.
		_, _, err = DecodeTable(rawTable(string(raw[min(n, 4):n])))
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
		}
	}
}

func TestTableKeepsNothingOfTheInput(t *testing.T) {
	raw, err := AppendTable(nil, everyKind())
	require.NoError(t, err)
	got, _, err := DecodeTable(raw)
	require.NoError(t, err)
	clear(raw)
	require.Equal(t, everyKind(), got)
	b := got["bytes"].([]byte)
	assert.Equal(t, []byte{0, 1, 0xCE}, b)
}

// The comment on DecodeTable promises a factor of 128.
func TestTableMemoryIsBounded(t *testing.T) {
	var keys strings.Builder
	for i := range 60_000 {
		fmt.Fprintf(&keys, "\x02%c%cV", rune(i>>8&0x7F), rune(i&0x7F))
	}
	nested := "V"
	for range maxDepth - 1 {
		nested = string(rawTable(nested))
		nested = "A" + nested
	}
	for name, entries := range map[string]string{
		"keys":          keys.String(),
		"array of nil":  "\x01kA" + string(rawTable(strings.Repeat("V", 1<<18))),
		"tables":        "\x01kA" + string(rawTable(strings.Repeat("F\x00\x00\x00\x00", 1<<16))),
		"filled tables": "\x01kA" + string(rawTable(strings.Repeat("F\x00\x00\x00\x02\x00V", 1<<16))),
		"arrays":        "\x01kA" + string(rawTable(strings.Repeat("A\x00\x00\x00\x01V", 1<<16))),
		"deep":          "\x01kA" + string(rawTable(strings.Repeat(nested, 200))),
		"strings":       "\x01kA" + string(rawTable(strings.Repeat("S\x00\x00\x00\x00", 1<<16))),
		"bytes":         "\x01kA" + string(rawTable(strings.Repeat("x\x00\x00\x00\x01a", 1<<16))),
		"times":         "\x01kA" + string(rawTable(strings.Repeat("T\x00\x00\x00\x00\x00\x00\x00\x01", 1<<16))),
		"damaged":       "\x01kA" + string(rawTable(strings.Repeat("V", 1<<18)+"Z")),
		"long key":      "\xFF" + strings.Repeat("k", 255) + "x\x00\x01\x00\x00" + string(bytes.Repeat([]byte{7}, 1<<16)),
	} {
		t.Run(name, func(t *testing.T) {
			raw := rawTable(entries)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, err := DecodeTable(raw)
			runtime.ReadMemStats(&after)
			if name != "damaged" {
				require.NoError(t, err)
			}
			factor := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(raw))
			t.Logf("%.1f bytes allocated for each of %d", factor, len(raw))
			require.LessOrEqual(t, factor, 128.0)
		})
	}
}
