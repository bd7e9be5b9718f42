package wire

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// wireNames holds the protocol's name of each property and the order that they have on the wire.
var wireNames = []struct{ field, name string }{
	{"ContentType", "content-type"}, {"ContentEncoding", "content-encoding"}, {"Headers", "headers"},
	{"DeliveryMode", "delivery-mode"}, {"Priority", "priority"}, {"CorrelationID", "correlation-id"},
	{"ReplyTo", "reply-to"}, {"Expiration", "expiration"}, {"MessageID", "message-id"}, {"Timestamp", "timestamp"},
	{"Type", "type"}, {"UserID", "user-id"}, {"AppID", "app-id"}, {"ClusterID", "cluster-id"},
}

func fullProperties() Properties {
	return Properties{
		ContentType: "application/json", ContentEncoding: "gzip", Headers: everyKind(), DeliveryMode: 2, Priority: 9,
		CorrelationID: "corr", ReplyTo: "amq.rabbitmq.reply-to", Expiration: "60000", MessageID: "id",
		Timestamp: time.Unix(1700000000, 0).UTC(), Type: "order", UserID: "guest", AppID: "app", ClusterID: "cluster",
	}
}

// propertiesBack encodes into a content header, checks Size, and decodes.
func propertiesBack(t *testing.T, p *Properties) (raw []byte, got Properties) {
	t.Helper()
	out, err := AppendContentHeader([]byte("before"), 0xABCD, 0x0102030405060708, p)
	require.NoError(t, err)
	require.Equal(t, "before", string(out[:6]))
	f := onlyFrame(t, out[6:], FrameContentHeader, 0xABCD)
	h, err := ParseContentHeader(f.payload)
	require.NoError(t, err)
	require.Equal(t, uint64(0x0102030405060708), h.BodySize)
	require.Equal(t, ClassBasic, h.Class)
	size, err := p.Size()
	require.NoError(t, err)
	require.Len(t, h.Properties, size)
	require.NoError(t, got.Decode(h.Properties, nil))
	return h.Properties, got
}

func TestNoProperties(t *testing.T) {
	for _, p := range []*Properties{nil, {}} {
		raw, got := propertiesBack(t, p)
		assert.Equal(t, []byte{0, 0}, raw)
		assert.Equal(t, Properties{}, got)
	}
}

func TestEachPropertyAlone(t *testing.T) {
	full := fullProperties()
	all := reflect.ValueOf(full)
	require.Equal(t, len(wireNames), all.NumField())
	for i, n := range wireNames {
		t.Run(n.name, func(t *testing.T) {
			require.Equal(t, n.field, all.Type().Field(i).Name)
			var p Properties
			reflect.ValueOf(&p).Elem().Field(i).Set(all.Field(i))
			raw, got := propertiesBack(t, &p)
			assert.Equal(t, uint16(1)<<(15-i), uint16(raw[0])<<8|uint16(raw[1]))
			assert.Equal(t, p, got)
		})
		t.Run("all but "+n.name, func(t *testing.T) {
			p := full
			reflect.ValueOf(&p).Elem().Field(i).SetZero()
			_, got := propertiesBack(t, &p)
			assert.Equal(t, p, got)
		})
	}
}

func TestAllProperties(t *testing.T) {
	p := fullProperties()
	raw, got := propertiesBack(t, &p)
	assert.Equal(t, []byte{0xFF, 0xFC}, raw[:2])
	assert.Equal(t, p, got)
}

func TestPropertyBytes(t *testing.T) {
	raw, _ := propertiesBack(t, &Properties{ContentType: "a/b", Headers: Table{"k": true}, DeliveryMode: 2, Timestamp: time.Unix(258, 5), AppID: "x"})
	assert.Equal(t, "\xB0\x48\x03a/b\x00\x00\x00\x04\x01kt\x01\x02\x00\x00\x00\x00\x00\x00\x01\x02\x01x", string(raw))
}

func TestEmptyHeadersArePresent(t *testing.T) {
	p := Properties{Headers: Table{}}
	raw, got := propertiesBack(t, &p)
	assert.Equal(t, []byte{0x20, 0, 0, 0, 0, 0}, raw)
	assert.Equal(t, p, got)
}

func TestRefusedProperties(t *testing.T) {
	long := strings.Repeat("x", 256)
	refused := func(p *Properties, want string) {
		t.Helper()
		dst := append(make([]byte, 0, 1000), "before"...)
		out, err := AppendContentHeader(dst, 1, 1, p)
		require.EqualError(t, err, want)
		require.Equal(t, "before", string(out))
		out, err = AppendContentHeaderWith(dst, 1, 1, p, "n", 1)
		require.EqualError(t, err, want)
		require.Equal(t, "before", string(out))
		_, err = p.Size()
		require.EqualError(t, err, want)
	}
	for i, n := range wireNames {
		p := fullProperties()
		f := reflect.ValueOf(&p).Elem().Field(i)
		if f.Kind() != reflect.String {
			continue
		}
		f.SetString(long[:255])
		_, got := propertiesBack(t, &p)
		require.Equal(t, p, got)
		f.SetString(long)
		refused(&p, n.name+": 256 bytes, and a short string holds 255 at most")
	}
	refused(&Properties{Timestamp: time.Unix(-1, 0)}, "timestamp: 1969-12-31T23:59:59Z is before 1970 and can't be carried")
	refused(&Properties{Headers: Table{"a": []any{struct{}{}}}}, "headers.a[0]: type struct {} can't be carried in a table")
	refused(&Properties{AppID: "x", Headers: Table{long: 1}}, "headers."+long[:40]+"…: the key has 256 bytes, and a key holds 255 at most")
}

func TestTimestampsFarAway(t *testing.T) {
	for _, secs := range []uint64{0, 1, 1 << 40, 1700000000000, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64} {
		raw := []byte{0, 0x40, byte(secs >> 56), byte(secs >> 48), byte(secs >> 40), byte(secs >> 32), byte(secs >> 24), byte(secs >> 16), byte(secs >> 8), byte(secs)}
		var p Properties
		require.NoError(t, p.Decode(raw, nil))
		assert.Equal(t, int64(secs), p.Timestamp.Unix())
		assert.NotEmpty(t, p.Timestamp.String())
		out, err := AppendContentHeader(nil, 1, 0, &p)
		if secs > math.MaxInt64 {
			require.ErrorContains(t, err, "timestamp: ")
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, raw, out[FrameHeaderSize+12:len(out)-1])
	}
}

func TestTextMakesTheStrings(t *testing.T) {
	p := Properties{ContentType: "t", Headers: Table{"k": "v"}, MessageID: "m", ClusterID: "c"}
	raw, _ := propertiesBack(t, &p)
	var seen []string
	var got Properties
	require.NoError(t, got.Decode(raw, func(b []byte) string {
		seen = append(seen, string(b))
		return strings.ToUpper(string(b))
	}))
	assert.Equal(t, []string{"t", "m", "c"}, seen)
	assert.Equal(t, Properties{ContentType: "T", Headers: Table{"k": "v"}, MessageID: "M", ClusterID: "C"}, got)
}

func TestDecodeSetsEveryField(t *testing.T) {
	p := fullProperties()
	require.NoError(t, p.Decode([]byte{0, 0}, nil))
	assert.Equal(t, Properties{}, p)
}

func TestContinuedFlags(t *testing.T) {
	var p Properties
	require.NoError(t, p.Decode([]byte{0x10, 0x01, 0, 0, 2}, nil))
	assert.Equal(t, Properties{DeliveryMode: 2}, p)
	require.NoError(t, p.Decode([]byte{0x10, 0x01, 0, 1, 0, 1, 0, 0, 7}, nil))
	assert.Equal(t, Properties{DeliveryMode: 7}, p)
	require.NoError(t, p.Decode([]byte{0x00, 0x01, 0, 0}, nil))
	assert.Equal(t, Properties{}, p)
}

func TestMalformedProperties(t *testing.T) {
	for _, c := range []struct{ name, raw, want string }{
		{"nothing", "", "properties: malformed: 2 bytes too few"},
		{"half a word of flags", "\x00", "properties: malformed: 1 bytes too few"},
		{"unknown bit", "\x00\x02", "properties: malformed: unknown property flags 0x0002"},
		{"continued into nothing", "\x00\x01", "properties: malformed: 2 bytes too few"},
		{"continued for ever", strings.Repeat("\x00\x01", 1000), "properties: malformed: 2 bytes too few"},
		{"unknown flags in a second word", "\x00\x01\x80\x00", "properties: malformed: unknown property flags 0x8000"},
		{"value missing", "\x10\x00", "properties: malformed: 1 bytes too few"},
		{"text beyond the end", "\x80\x00\x05ab", "properties: malformed: 3 bytes too few"},
		{"bytes left over", "\x10\x00\x02\x03", "properties: malformed: 1 bytes too many"},
		{"bad table", "\x20\x00\x00\x00\x00\x03\x01kZ", "properties: table: malformed: unknown kind of value 'Z'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p Properties
			err := p.Decode([]byte(c.raw), nil)
			require.ErrorIs(t, err, ErrMalformed)
			require.EqualError(t, err, c.want)
		})
	}
	p := fullProperties()
	raw, _ := propertiesBack(t, &p)
	for n := range raw {
		require.ErrorIs(t, new(Properties).Decode(raw[:n:n], nil), ErrMalformed)
	}
}
