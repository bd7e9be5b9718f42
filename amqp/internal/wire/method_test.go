package wire

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// everyMethod returns an empty one of each method, found by asking for every number.
func everyMethod() []Method {
	var all []Method
	for class := range MethodID(200) {
		for method := range MethodID(200) {
			if m := newMethod(class<<16 | method); m != nil {
				all = append(all, m)
			}
		}
	}
	return all
}

// fill gives every field of the method a value of its own.
func fill(m Method) Method {
	v := reflect.ValueOf(m).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Interface().(type) {
		case bool:
			f.SetBool(true)
		case string:
			f.SetString(fmt.Sprintf("text %d", i))
		case []byte:
			f.SetBytes([]byte{0, byte(i), 255})
		case Table:
			f.Set(reflect.ValueOf(everyKind()))
		default:
			f.SetUint((0xF1E2D3C4B5A69788 + uint64(i)) & (1<<(8*f.Type().Size()) - 1))
		}
	}
	return m
}

// roundTrip encodes and decodes, and checks that the frame is well formed and that decoding gives want.
func roundTrip(t *testing.T, m, want Method) {
	t.Helper()
	out, err := AppendMethod([]byte("before"), 0xABCD, m)
	require.NoError(t, err)
	require.Equal(t, "before", string(out[:6]))
	f := onlyFrame(t, out[6:], FrameMethod, 0xABCD)
	id, err := PeekMethodID(f.payload)
	require.NoError(t, err)
	require.Equal(t, m.ID(), id)
	got, err := DecodeMethod(f.payload)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestEveryMethodIsKnown(t *testing.T) {
	names := map[string]bool{}
	for _, m := range everyMethod() {
		id := m.ID()
		assert.Equal(t, reflect.TypeOf(m), reflect.TypeOf(newMethod(id)))
		assert.NotContains(t, id.String(), "method ")
		// queue.declare-ok is QueueDeclareOk.
		assert.Equal(t, strings.ToLower(reflect.TypeOf(m).Elem().Name()), strings.NewReplacer(".", "", "-", "").Replace(id.String()))
		names[id.String()] = true
	}
	assert.Len(t, names, 14+6+8+10+18+2+6)
}

func TestMethodID(t *testing.T) {
	assert.Equal(t, BasicPublishID, MethodID(60<<16|40))
	assert.Equal(t, uint16(60), BasicPublishID.Class())
	assert.Equal(t, uint16(40), BasicPublishID.Method())
	assert.Equal(t, "basic.publish", BasicPublishID.String())
	assert.Equal(t, "method 60/99", MethodID(60<<16|99).String())
	var withContent []string
	for _, m := range everyMethod() {
		if m.ID().HasContent() {
			withContent = append(withContent, m.ID().String())
		}
	}
	assert.Equal(t, []string{"basic.publish", "basic.return", "basic.deliver", "basic.get-ok"}, withContent)
}

func TestMethodsRoundTrip(t *testing.T) {
	for _, m := range everyMethod() {
		t.Run(m.ID().String(), func(t *testing.T) {
			full := fill(newMethod(m.ID()))
			roundTrip(t, full, full)
			// An absent table and absent bytes come back empty.
			want := newMethod(m.ID())
			for _, f := range reflect.ValueOf(want).Elem().Fields() {
				if f.Kind() == reflect.Map {
					f.Set(reflect.MakeMap(f.Type()))
				} else if f.Kind() == reflect.Slice {
					f.Set(reflect.MakeSlice(f.Type(), 0, 0))
				}
			}
			roundTrip(t, newMethod(m.ID()), want)
		})
	}
}

func TestEachBitHasItsPlace(t *testing.T) {
	for _, m := range everyMethod() {
		full := reflect.ValueOf(fill(newMethod(m.ID()))).Elem()
		for i := range full.NumField() {
			if full.Field(i).Kind() != reflect.Bool {
				continue
			}
			full.Field(i).SetBool(false)
			cleared := full.Addr().Interface().(Method)
			t.Run(m.ID().String()+" without "+full.Type().Field(i).Name, func(t *testing.T) { roundTrip(t, cleared, cleared) })
			full.Field(i).SetBool(true)
		}
	}
}

func TestLongStringsAreRefused(t *testing.T) {
	long := map[string]bool{"Mechanisms": true, "Locales": true}
	for _, m := range everyMethod() {
		v := reflect.ValueOf(m).Elem()
		for i := range v.NumField() {
			field := v.Type().Field(i).Name
			if v.Field(i).Kind() != reflect.String || long[field] {
				continue
			}
			t.Run(m.ID().String()+" "+field, func(t *testing.T) {
				v.Field(i).SetString(strings.Repeat("x", 255))
				_, err := AppendMethod(nil, 1, m)
				require.NoError(t, err)
				v.Field(i).SetString(strings.Repeat("x", 256))
				dst := []byte("before")
				out, err := AppendMethod(dst, 1, m)
				require.ErrorContains(t, err, m.ID().String()+": ")
				require.ErrorContains(t, err, "256 bytes")
				require.Contains(t, strings.ReplaceAll(strings.ToLower(err.Error()), "-", ""), strings.ToLower(field)+":")
				require.Equal(t, dst, out)
				v.Field(i).SetString("")
			})
		}
	}
}

func TestMethodWithBadTableIsRefused(t *testing.T) {
	dst := []byte("before")
	out, err := AppendMethod(dst, 1, &QueueDeclare{Queue: "q", Arguments: Table{"x-args": []any{1, struct{}{}}}})
	require.EqualError(t, err, "queue.declare: arguments.x-args[1]: type struct {} can't be carried in a table")
	require.Equal(t, dst, out)
}

func TestFirstProblemIsReported(t *testing.T) {
	long := strings.Repeat("x", 300)
	_, err := AppendMethod(nil, 1, &ExchangeBind{Destination: "d", Source: long, RoutingKey: long, Arguments: Table{"a": struct{}{}}})
	require.EqualError(t, err, "exchange.bind: source: 300 bytes, and a short string holds 255 at most")
}

func TestDamagedMethodsAreErrors(t *testing.T) {
	for _, m := range everyMethod() {
		t.Run(m.ID().String(), func(t *testing.T) {
			out, err := AppendMethod(nil, 1, fill(m))
			require.NoError(t, err)
			payload := onlyFrame(t, out, FrameMethod, 1).payload
			for n := range payload {
				got, err := DecodeMethod(payload[:n:n])
				require.ErrorIs(t, err, ErrMalformed, "cut to %d of %d bytes", n, len(payload))
				require.Nil(t, got)
			}
			_, err = DecodeMethod(append(payload[:len(payload):len(payload)], 0))
			require.ErrorIs(t, err, ErrMalformed)
			require.ErrorContains(t, err, m.ID().String()+": malformed: 1 bytes too many")
		})
	}
}

func TestUnknownMethodIsAnError(t *testing.T) {
	got, err := DecodeMethod([]byte{0, 60, 0, 99, 1, 2, 3})
	require.ErrorIs(t, err, ErrMalformed)
	require.EqualError(t, err, "malformed: method 60/99 does not exist")
	require.Nil(t, got)
	_, err = PeekMethodID([]byte{0, 60, 0})
	require.ErrorIs(t, err, ErrMalformed)
	id, err := PeekMethodID([]byte{0, 60, 0, 99})
	require.NoError(t, err)
	require.Equal(t, MethodID(60<<16|99), id)
}

func TestMethodKeepsNothingOfThePayload(t *testing.T) {
	out, err := AppendMethod(nil, 0, &ConnectionStartOk{ClientProperties: Table{"k": "v", "b": []byte("bytes")}, Mechanism: "PLAIN", Response: []byte("secret")})
	require.NoError(t, err)
	m, err := DecodeMethod(onlyFrame(t, out, FrameMethod, 0).payload)
	require.NoError(t, err)
	clear(out)
	require.Equal(t, &ConnectionStartOk{ClientProperties: Table{"k": "v", "b": []byte("bytes")}, Mechanism: "PLAIN", Response: []byte("secret")}, m)
}
