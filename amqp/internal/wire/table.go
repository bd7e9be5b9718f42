package wire

import (
	"encoding/binary"
	"math"
	"time"
)

// Table holds named values: header fields, arguments, and what peers say of themselves.
//
// A value is nil, a bool, any kind of integer, float32, float64, string, []byte, Decimal, time.Time, Table,
// map[string]any, []any or []string. Integers above the largest int64 and times before 1970 cannot be carried, and times
// travel in whole seconds.
type Table map[string]any

// Decimal is the number Value divided by ten to the power of Scale.
type Decimal struct {
	Scale uint8
	Value int32
}

// maxDepth bounds how deep tables and arrays lie in each other, in both directions: it stops a table that contains itself,
// and has nobody who goes through a received one run out of stack.
const maxDepth = 100

// AppendTable appends a table with its length. On error, which names the path to the value, dst comes back as it was.
func AppendTable(dst []byte, t Table) ([]byte, error) {
	if _, err := t.Size(); err != nil {
		return dst, err
	}
	return appendCheckedTable(dst, t), nil
}

// appendCheckedTable appends a table whose Size was without error. Only a table that another goroutine changes meanwhile
// can fail here still; it becomes an empty one, so that the frame stays whole.
func appendCheckedTable(dst []byte, t Table) []byte {
	out, ok := appendTable(dst, t, 0)
	if !ok {
		return append(dst, 0, 0, 0, 0)
	}
	return out
}

// appendTable reports false for a table that cannot be carried; Size says why. The length is written last, so that it is
// right whatever the table holds.
func appendTable(dst []byte, t Table, depth int) (_ []byte, ok bool) {
	n := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	for key, v := range t {
		if dst, ok = appendEntry(dst, key, v, depth); !ok {
			return dst, false
		}
	}
	return patchLength(dst, n)
}

func appendEntry(dst []byte, key string, v any, depth int) ([]byte, bool) {
	if len(key) > math.MaxUint8 {
		return dst, false
	}
	return appendValue(appendShortstr(dst, key), v, depth)
}

func appendArray(dst []byte, a []any, depth int) (_ []byte, ok bool) {
	n := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	for _, v := range a {
		if dst, ok = appendValue(dst, v, depth); !ok {
			return dst, false
		}
	}
	return patchLength(dst, n)
}

func appendStrings(dst []byte, a []string) ([]byte, bool) {
	n := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	for _, s := range a {
		dst = appendLongstr(append(dst, 'S'), s)
	}
	return patchLength(dst, n)
}

// patchLength fills in the four length bytes at n, now that what follows them is there.
func patchLength(dst []byte, n int) ([]byte, bool) {
	size := len(dst) - n - 4
	if uint64(size) > math.MaxUint32 {
		return dst, false
	}
	binary.BigEndian.PutUint32(dst[n:], uint32(size))
	return dst, true
}

// appendValue appends the letter of v's kind and v. It must know the same types as valueSize.
func appendValue(dst []byte, v any, depth int) ([]byte, bool) {
	switch v := v.(type) {
	case nil:
		return append(dst, 'V'), true
	case string:
		return appendLongstr(append(dst, 'S'), v), true
	case int:
		return appendInt64(dst, int64(v)), true
	case int64:
		return appendInt64(dst, v), true
	case int32:
		return binary.BigEndian.AppendUint32(append(dst, 'I'), uint32(v)), true
	case bool:
		return append(dst, 't', bit(v, 0)), true
	case int8:
		return append(dst, 'b', byte(v)), true
	case uint8:
		return append(dst, 'B', v), true
	case int16:
		return binary.BigEndian.AppendUint16(append(dst, 's'), uint16(v)), true
	case uint16:
		return binary.BigEndian.AppendUint16(append(dst, 'u'), v), true
	case uint32:
		return binary.BigEndian.AppendUint32(append(dst, 'i'), v), true
	case uint:
		return appendInt64(dst, int64(v)), uint64(v) <= math.MaxInt64
	case uint64:
		return appendInt64(dst, int64(v)), v <= math.MaxInt64
	case float32:
		return binary.BigEndian.AppendUint32(append(dst, 'f'), math.Float32bits(v)), true
	case float64:
		return binary.BigEndian.AppendUint64(append(dst, 'd'), math.Float64bits(v)), true
	case []byte:
		return appendLongstr(append(dst, 'x'), v), true
	case Decimal:
		return binary.BigEndian.AppendUint32(append(dst, 'D', v.Scale), uint32(v.Value)), true
	case time.Time:
		return binary.BigEndian.AppendUint64(append(dst, 'T'), uint64(v.Unix())), v.Unix() >= 0
	case []string:
		return appendStrings(append(dst, 'A'), v)
	}
	return appendNested(dst, v, depth+1)
}

func appendNested(dst []byte, v any, depth int) ([]byte, bool) {
	if depth > maxDepth {
		return dst, false
	}
	switch v := v.(type) {
	case Table:
		return appendTable(append(dst, 'F'), v, depth)
	case map[string]any:
		return appendTable(append(dst, 'F'), v, depth)
	case []any:
		return appendArray(append(dst, 'A'), v, depth)
	}
	return dst, false
}

func appendInt64(dst []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, 'l'), uint64(v))
}
