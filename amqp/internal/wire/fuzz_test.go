package wire

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// addRecorded seeds a fuzz target with the payloads of one type from the recordings.
func addRecorded(f *testing.F, typ byte) {
	for _, name := range recordings {
		for _, fr := range recorded(f, name) {
			if fr.Type == typ {
				f.Add(fr.payload)
			}
		}
	}
}

func FuzzDecodeMethod(f *testing.F) {
	addRecorded(f, FrameMethod)
	for _, m := range everyMethod() {
		out, err := AppendMethod(nil, 1, fill(m))
		require.NoError(f, err)
		f.Add(out[FrameHeaderSize : len(out)-1])
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var m Method
		var err error
		bounded(t, payload, func() { m, err = DecodeMethod(payload) })
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			require.Nil(t, m)
			return
		}
		out, err := AppendMethod(nil, 7, m)
		if err != nil {
			requireRefusedValue(t, err)
			return
		}
		again, err := DecodeMethod(onlyFrame(t, out, FrameMethod, 7).payload)
		require.NoError(t, err)
		require.True(t, sameFields(m, again), "%v\n%v", m, again)
	})
}

// requireRefusedValue accepts the two things that can be decoded and not encoded.
func requireRefusedValue(t *testing.T, err error) {
	require.Regexp(t, "largest integer that a table can carry|is before 1970 and can't be carried", err.Error())
}

// sameFields compares two structs field by field, by the rules of same.
func sameFields(a, b any) bool {
	v, w := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	if v.Type() != w.Type() {
		return false
	}
	for i := range v.NumField() {
		if !same(v.Field(i).Interface(), w.Field(i).Interface()) {
			return false
		}
	}
	return true
}

func FuzzDecodeTable(f *testing.F) {
	raw, err := AppendTable(nil, everyKind())
	require.NoError(f, err)
	f.Add(raw)
	for kind := range 128 {
		f.Add(rawTable("\x01k" + string(rune(kind)) + "\x00\x00\x00\x04\x01kt\x01"))
	}
	f.Add(rawTable("\x01LL\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01TT\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFE"))
	f.Fuzz(func(t *testing.T, b []byte) {
		given := bytes.Clone(b)
		var table Table
		var rest []byte
		var err error
		bounded(t, b, func() { table, rest, err = DecodeTable(b) })
		require.Equal(t, given, b)
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			require.Nil(t, table)
			require.Equal(t, b, rest)
			return
		}
		require.NotNil(t, table)
		require.True(t, bytes.HasSuffix(b, rest))
		size, err := table.Size()
		unchecked, ok := appendTable(nil, table, 0)
		if err != nil {
			requireRefusedValue(t, err)
			require.False(t, ok)
			return
		}
		out, err := AppendTable([]byte("x"), table)
		require.NoError(t, err)
		require.True(t, ok)
		require.Len(t, unchecked, size)
		require.Len(t, out, size+1)
		require.LessOrEqual(t, size, len(b)-len(rest))
		again, rest, err := DecodeTable(out[1:])
		require.NoError(t, err)
		require.Empty(t, rest)
		require.True(t, same(table, again), "%v\n%v", table, again)
	})
}

func FuzzProperties(f *testing.F) {
	full := fullProperties()
	out, err := AppendContentHeader(nil, 1, 1, &full)
	require.NoError(f, err)
	f.Add(out[FrameHeaderSize+12 : len(out)-1])
	f.Add([]byte{0x10, 0x01, 0, 1, 0, 0, 7})
	for i := range 16 {
		f.Add(append(binary.BigEndian.AppendUint16(nil, 0x8000>>i), make([]byte, 8)...))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var p, shared Properties
		var err error
		bounded(t, raw, func() { err = p.Decode(raw, nil) })
		require.Equal(t, err, shared.Decode(raw, func(b []byte) string { return string(b) }))
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			return
		}
		require.True(t, sameFields(&p, &shared))
		out, err := AppendContentHeader(nil, 3, 9, &p)
		size, sizeErr := p.Size()
		require.Equal(t, err == nil, sizeErr == nil)
		if err != nil {
			requireRefusedValue(t, err)
			return
		}
		h, err := ParseContentHeader(onlyFrame(t, out, FrameContentHeader, 3).payload)
		require.NoError(t, err)
		require.Len(t, h.Properties, size)
		var again Properties
		require.NoError(t, again.Decode(h.Properties, nil))
		require.True(t, sameFields(&p, &again), "%v\n%v", p, again)
	})
}

func FuzzParseDeliver(f *testing.F) {
	addRecorded(f, FrameMethod)
	f.Fuzz(func(t *testing.T, payload []byte) {
		var d Deliver
		err := ParseDeliver(payload, &d)
		m, slowErr := DecodeMethod(payload)
		want, isDeliver := m.(*BasicDeliver)
		require.Equal(t, slowErr == nil && isDeliver, err == nil)
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			return
		}
		require.Equal(t, want, &BasicDeliver{string(d.ConsumerTag), d.DeliveryTag, d.Redelivered, string(d.Exchange), string(d.RoutingKey)})
		out := AppendDeliver(nil, 2, string(d.ConsumerTag), d.DeliveryTag, d.Redelivered, string(d.Exchange), string(d.RoutingKey))
		slow, err := AppendMethod(nil, 2, m)
		require.NoError(t, err)
		require.Equal(t, slow, out)
	})
}

func FuzzParseAckAndNack(f *testing.F) {
	addRecorded(f, FrameMethod)
	f.Fuzz(func(t *testing.T, payload []byte) {
		m, _ := DecodeMethod(payload)
		tag, multiple, err := ParseAck(payload)
		ack, isAck := m.(*BasicAck)
		require.Equal(t, isAck, err == nil)
		if isAck {
			require.Equal(t, &BasicAck{tag, multiple}, ack)
		}
		tag, multiple, requeue, err := ParseNack(payload)
		nack, isNack := m.(*BasicNack)
		require.Equal(t, isNack, err == nil)
		if isNack {
			require.Equal(t, &BasicNack{tag, multiple, requeue}, nack)
		}
	})
}

func FuzzContentHeader(f *testing.F) {
	addRecorded(f, FrameContentHeader)
	f.Fuzz(func(t *testing.T, payload []byte) {
		h, err := ParseContentHeader(payload)
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			require.Less(t, len(payload), 14)
			return
		}
		var p Properties
		if p.Decode(h.Properties, nil) != nil {
			return
		}
		out, err := AppendContentHeader(nil, 1, h.BodySize, &p)
		if err != nil {
			requireRefusedValue(t, err)
			return
		}
		again, err := ParseContentHeader(onlyFrame(t, out, FrameContentHeader, 1).payload)
		require.NoError(t, err)
		require.Equal(t, h.BodySize, again.BodySize)
		require.LessOrEqual(t, len(again.Properties), len(h.Properties))
	})
}

func FuzzFrameHeader(f *testing.F) {
	f.Add([]byte{1, 0, 1, 0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < FrameHeaderSize {
			return
		}
		h := ParseFrameHeader(b)
		require.Equal(t, b[:FrameHeaderSize], AppendFrameHeader(nil, h.Type, h.Channel, h.Size))
	})
}

func FuzzFrameBody(f *testing.F) {
	f.Add([]byte("hello"), uint16(1), uint32(0))
	f.Add(bytes.Repeat([]byte("ab"), 5000), uint16(9), uint32(MinFrameMax))
	f.Fuzz(func(t *testing.T, body []byte, channel uint16, frameMax uint32) {
		var joined []byte
		frames := splitFrames(t, AppendBody(nil, channel, body, frameMax))
		for i, fr := range frames {
			if fr.FrameHeader != (FrameHeader{FrameBody, channel, uint32(len(fr.payload))}) {
				t.Fatalf("frame %d has the head %v", i, fr.FrameHeader)
			}
			if last := i == len(frames)-1; frameMax > FrameOverhead && (len(fr.whole) > int(frameMax) || !last && len(fr.whole) < int(frameMax)) {
				t.Fatalf("frame %d of %d has %d bytes", i, len(frames), len(fr.whole))
			}
			joined = append(joined, fr.payload...)
		}
		require.True(t, slices.Equal(body, joined))
	})
}
