package wire

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size returns how many bytes the table takes, its four length bytes included. The error names the path to a value that
// cannot be carried, such as orders[3].price.
func (t Table) Size() (int, error) { return tableSize("", t) }

// tableSize is Size with the name of the field that holds the table in front of every path.
func tableSize(field string, t Table) (int, error) {
	if len(t) == 0 {
		return 4, nil
	}
	var s tableSizer
	s.table(t, 0)
	if s.problem == "" {
		return s.n, nil
	}
	return s.n, fmt.Errorf("%s: %s", joinPath(field, s.path), s.problem)
}

// tableSizer adds up bytes until something cannot be carried. The path is built backwards, on the way out of the failure,
// so that a good table costs nothing for it.
type tableSizer struct {
	n       int
	problem string
	path    []string // innermost first
}

func (s *tableSizer) table(t Table, depth int) bool {
	s.n += 4
	for key, v := range t {
		s.n += 1 + len(key)
		if len(key) > math.MaxUint8 {
			return s.fail(fmt.Sprintf("the key has %d bytes, and a key holds %d at most", len(key), math.MaxUint8), quoteKey(key))
		}
		if !s.value(v, depth) {
			return s.fail("", quoteKey(key))
		}
	}
	return true
}

func (s *tableSizer) array(a []any, depth int) bool {
	s.n += 4
	for i, v := range a {
		if !s.value(v, depth) {
			return s.fail("", "["+strconv.Itoa(i)+"]")
		}
	}
	return true
}

// fail keeps the problem, if there is a new one, adds a step to the path, and is false.
func (s *tableSizer) fail(problem, step string) bool {
	if problem != "" {
		s.problem = problem
	}
	s.path = append(s.path, step)
	return false
}

func (s *tableSizer) refuse(format string, args ...any) bool {
	s.problem = fmt.Sprintf(format, args...)
	return false
}

// value adds the bytes of v with the letter of its kind. It must know the same types as appendValue.
func (s *tableSizer) value(v any, depth int) bool {
	s.n++
	switch v := v.(type) {
	case nil:
	case bool, int8, uint8:
		s.n++
	case int16, uint16:
		s.n += 2
	case int32, uint32, float32:
		s.n += 4
	case int, int64, float64:
		s.n += 8
	case uint:
		return s.unsigned(uint64(v))
	case uint64:
		return s.unsigned(v)
	case string:
		s.n += 4 + len(v)
	case []byte:
		s.n += 4 + len(v)
	case Decimal:
		s.n += 5
	case time.Time:
		if v.Unix() < 0 {
			return s.refuse("%s is before 1970 and can't be carried in a table", v.UTC().Format(time.RFC3339))
		}
		s.n += 8
	case []string:
		s.n += 4
		for _, e := range v {
			s.n += 5 + len(e)
		}
	default:
		return s.nested(v, depth+1)
	}
	return s.fits()
}

func (s *tableSizer) nested(v any, depth int) bool {
	if depth > maxDepth {
		return s.refuse("tables lie in each other more than %d deep: does one contain itself?", maxDepth)
	}
	switch v := v.(type) {
	case Table:
		return s.table(v, depth)
	case map[string]any:
		return s.table(v, depth)
	case []any:
		return s.array(v, depth)
	}
	return s.refuse("type %T can't be carried in a table", v)
}

func (s *tableSizer) unsigned(v uint64) bool {
	s.n += 8
	if v > math.MaxInt64 {
		return s.refuse("%d is above %d, the largest integer that a table can carry", v, int64(math.MaxInt64))
	}
	return true
}

// fits stops at the first value that makes the table too long for its length field.
func (s *tableSizer) fits() bool {
	if uint64(s.n) > math.MaxUint32 {
		return s.refuse("here the table outgrows %d bytes", uint32(math.MaxUint32))
	}
	return true
}

// joinPath puts the steps, innermost first, behind the field: headers.orders[3].price. Long paths lose their middle.
func joinPath(field string, steps []string) string {
	const shown = 4 // steps kept at each end
	var b strings.Builder
	b.WriteString(field)
	for i := len(steps) - 1; i >= 0; i-- {
		if i == len(steps)-1-shown && i >= shown {
			b.WriteString(" … ")
			i = shown - 1
		}
		if b.Len() > 0 && !strings.HasPrefix(steps[i], "[") {
			b.WriteByte('.')
		}
		b.WriteString(steps[i])
	}
	return b.String()
}

// quoteKey keeps an odd or long key readable, and on one line, within a path.
func quoteKey(key string) string {
	const most = 40
	if len(key) > most {
		key = key[:most] + "…"
	}
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return !strconv.IsPrint(r) || strings.ContainsRune(`.[]" `, r) }) {
		return strconv.Quote(key)
	}
	return key
}
