package wire

import (
	"fmt"
	"math"
	"time"
)

// DecodeTable decodes the table that b begins with, length first, and returns what follows it. An empty table is empty, not
// nil. Of two entries with one key the last one counts. What a table allocates is at most 128 times its length in bytes.
//
// Tables and arrays that lie more than 100 deep are not decoded, and are the bytes that they hold: an error would be that
// of the connection, for each consumer that the message comes to. So the depth of what has been decoded never keeps it from
// being encoded again.
//
// The strings in a table share one copy of its bytes: a string that is kept keeps that copy.
func DecodeTable(b []byte) (t Table, rest []byte, err error) {
	r := reader{b: b}
	size := r.long()
	body := r.take(size)
	if r.err != nil {
		return nil, b, fmt.Errorf("table: %w", r.err)
	}
	d := tableDecoder{reader: reader{b: body}}
	if len(body) > 0 {
		d.text = string(body)
	}
	t = d.entries(0, 0)
	if err := d.end(); err != nil {
		return nil, b, fmt.Errorf("table: %w", err)
	}
	return t, r.b, nil
}

// tableDecoder reads a table's body. The text is that body as a string and ends where b ends, which is how the strings in
// b are found in it.
type tableDecoder struct {
	reader
	text string
}

// str takes n bytes as a part of text.
func (d *tableDecoder) str(n uint32) string {
	start := len(d.text) - len(d.b)
	if d.take(n) == nil {
		return ""
	}
	return d.text[start:][:n]
}

// entries reads until only left bytes remain, which belong to whatever is around this table.
func (d *tableDecoder) entries(left, depth int) Table {
	t := Table{}
	for len(d.b) > left {
		key := d.str(uint32(d.octet()))
		t[key] = d.value(depth)
	}
	d.stopAt(left)
	return t
}

func (d *tableDecoder) array(left, depth int) []any {
	a := []any{}
	for len(d.b) > left {
		a = append(a, d.value(depth))
	}
	d.stopAt(left)
	return a
}

// stopAt checks that the last value did not reach beyond the end of its table or array.
func (d *tableDecoder) stopAt(left int) {
	if len(d.b) != left && d.err == nil {
		d.fail(fmt.Errorf("%w: a value reaches beyond the table or array it is in", ErrMalformed))
	}
}

func (d *tableDecoder) value(depth int) any {
	switch kind := d.octet(); kind {
	case 'V':
		return nil
	case 't':
		return d.octet() != 0
	case 'b':
		return int8(d.octet())
	case 'B':
		return d.octet()
	case 's':
		return int16(d.short())
	case 'u':
		return d.short()
	case 'I':
		return int32(d.long())
	case 'i':
		return d.long()
	case 'l':
		return int64(d.longlong())
	case 'L':
		return d.longlong()
	case 'f':
		return math.Float32frombits(d.long())
	case 'd':
		return math.Float64frombits(d.longlong())
	case 'S':
		return d.str(d.long())
	case 'x':
		return append([]byte{}, d.longBytes()...)
	case 'D':
		return Decimal{Scale: d.octet(), Value: int32(d.long())}
	case 'T':
		return time.Unix(int64(d.longlong()), 0).UTC()
	case 'F', 'A':
		if depth == maxDepth {
			return append([]byte{}, d.longBytes()...)
		}
		return d.nested(kind, depth+1)
	default:
		d.fail(fmt.Errorf("%w: unknown kind of value %q", ErrMalformed, kind))
		return nil
	}
}

// nested reads a table or an array within the one that is being read.
func (d *tableDecoder) nested(kind byte, depth int) any {
	size := d.long()
	if uint64(size) > uint64(len(d.b)) {
		d.tooShort(uint64(size))
		return nil
	}
	left := len(d.b) - int(size)
	if kind == 'F' {
		return d.entries(left, depth)
	}
	return d.array(left, depth)
}
