package wire

import (
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestContentHeaderBytes(t *testing.T) {
	out, err := AppendContentHeader(nil, 0x0102, 0x0304050607080900, &Properties{DeliveryMode: 2})
	require.NoError(t, err)
	assert.Equal(t, "\x02\x01\x02\x00\x00\x00\x0F\x00\x3C\x00\x00\x03\x04\x05\x06\x07\x08\x09\x00\x10\x00\x02\xCE", string(out))
	bare := "\x02\x01\x02\x00\x00\x00\x0E\x00\x3C\x00\x00\x03\x04\x05\x06\x07\x08\x09\x00\x00\x00\xCE"
	for _, p := range []*Properties{nil, {}} {
		out, err := AppendContentHeader(nil, 0x0102, 0x0304050607080900, p)
		require.NoError(t, err)
		assert.Equal(t, bare, string(out))
	}
}

func TestParseContentHeader(t *testing.T) {
	payload := []byte("\x00\x3C\x00\x00\xFF\x00\x00\x00\x00\x00\x00\x01\x10\x00\x02")
	h, err := ParseContentHeader(payload)
	require.NoError(t, err)
	assert.Equal(t, ContentHeader{Class: 60, BodySize: 0xFF00000000000001, Properties: []byte{0x10, 0, 2}}, h)
	for n := range 14 {
		_, err := ParseContentHeader(payload[:n:n])
		require.ErrorIs(t, err, ErrMalformed)
	}
	_, err = ParseContentHeader(payload[:14])
	require.NoError(t, err)
}

func TestContentHeaderWith(t *testing.T) {
	full := fullProperties()
	for name, p := range map[string]*Properties{
		"nil": nil, "zero": {}, "no headers": {ContentType: "a/b", AppID: "x"}, "headers": {Headers: Table{"k": "v"}},
		"the same key": {Headers: Table{"seq": "theirs", "k": "v"}}, "everything": &full,
	} {
		t.Run(name, func(t *testing.T) {
			var before, want Properties
			if p != nil {
				before, want = *p, *p
				before.Headers = maps.Clone(p.Headers)
			}
			want.Headers = maps.Clone(want.Headers)
			if want.Headers == nil {
				want.Headers = Table{}
			}
			want.Headers["seq"] = int64(-7)
			out, err := AppendContentHeaderWith([]byte("before"), 5, 99, p, "seq", -7)
			require.NoError(t, err)
			require.Equal(t, "before", string(out[:6]))
			h, err := ParseContentHeader(onlyFrame(t, out[6:], FrameContentHeader, 5).payload)
			require.NoError(t, err)
			assert.Equal(t, uint64(99), h.BodySize)
			size, err := want.Size()
			require.NoError(t, err)
			assert.Len(t, h.Properties, size, "the key must not stand there twice")
			var got Properties
			require.NoError(t, got.Decode(h.Properties, nil))
			assert.Equal(t, want, got)
			if p != nil {
				assert.Equal(t, before, *p)
			}
		})
	}
}

func TestContentHeaderWithLongKey(t *testing.T) {
	dst := []byte("before")
	out, err := AppendContentHeaderWith(dst, 1, 1, nil, strings.Repeat("k", 256), math.MaxInt64)
	require.EqualError(t, err, "headers."+strings.Repeat("k", 40)+"…: 256 bytes, and a short string holds 255 at most")
	require.Equal(t, dst, out)
	_, err = AppendContentHeaderWith(dst, 1, 1, nil, strings.Repeat("k", 255), math.MinInt64)
	require.NoError(t, err)
}
