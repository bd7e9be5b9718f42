package amqptest

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// asInt reads any integer of a table.
func asInt(v any) (int64, bool) {
	switch n := v.(type) {
	case int8:
		return int64(n), true
	case uint8:
		return int64(n), true
	case int16:
		return int64(n), true
	case uint16:
		return int64(n), true
	case int32:
		return int64(n), true
	case uint32:
		return int64(n), true
	case int64:
		return n, true
	case uint64:
		return int64(n), n < 1<<63
	}
	return 0, false
}

// typeName is what RabbitMQ calls the type of a field value.
func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "void"
	case bool:
		return "bool"
	case int8:
		return "byte"
	case uint8:
		return "unsignedbyte"
	case int16:
		return "short"
	case uint16:
		return "unsignedshort"
	case int32:
		return "signedint"
	case uint32:
		return "unsignedint"
	case int64, uint64:
		return "long"
	case float32:
		return "float"
	case float64:
		return "double"
	case string:
		return "longstr"
	case []byte:
		return "binary"
	case wire.Decimal:
		return "decimal"
	case time.Time:
		return "timestamp"
	case []any:
		return "array"
	}
	return "table"
}

func cloneWithout(t wire.Table, names ...string) wire.Table {
	t = maps.Clone(t)
	for _, name := range names {
		delete(t, name)
	}
	return t
}

// A subject is what a refusal is about, as RabbitMQ prints it: "queue 'q' in vhost '/'".
func subject(what, name, vhost string) string {
	return fmt.Sprintf("%s '%s' in vhost '%s'", what, name, vhost)
}

// sameArguments compares the arguments of a declaration with those of what is there already.
func sameArguments(subject string, received, current wire.Table) *exception {
	names := slices.Sorted(maps.Keys(received))
	for name := range current {
		if _, both := received[name]; !both {
			names = append(names, name)
		}
	}
	for _, name := range names {
		r, isReceived := received[name]
		c, isCurrent := current[name]
		switch {
		case isReceived && isCurrent && equalValues(r, c):
		case isReceived && isCurrent:
			return fail(preconditionFailed, "inequivalent arg '%s' for %s: received '%v' but current is '%v'", name, subject, r, c)
		case isReceived:
			return fail(preconditionFailed, "inequivalent arg '%s' for %s: received the value '%v' of type '%s' but current is none", name, subject, r, typeName(r))
		default:
			return fail(preconditionFailed, "inequivalent arg '%s' for %s: received none but current is the value '%v' of type '%s'", name, subject, c, typeName(c))
		}
	}
	return nil
}

// sameFlag compares one bit of a declaration with that of what is there already.
func sameFlag(subject, name string, received, current bool) *exception {
	if received == current {
		return nil
	}
	return fail(preconditionFailed, "inequivalent arg '%s' for %s: received '%t' but current is '%t'", name, subject, received, current)
}

// firstOf returns the first refusal.
func firstOf(refusals ...*exception) *exception {
	for _, e := range refusals {
		if e != nil {
			return e
		}
	}
	return nil
}
