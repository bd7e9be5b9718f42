package amqptest

import (
	"reflect"
	"strings"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// A headersRouter compares a message's headers with the arguments of each binding.
type headersRouter struct{ bindings []*binding }

// A headersPattern is a binding's arguments, understood.
type headersPattern struct {
	any   bool // one matching header is enough
	wants wire.Table
}

// parseHeadersPattern reads binding arguments: x-match, and the headers to compare. Headers whose name
// begins with "x-" count only when x-match says so.
func parseHeadersPattern(arguments wire.Table) (*headersPattern, *exception) {
	p := &headersPattern{wants: wire.Table{}}
	withX := false
	if value, ok := arguments["x-match"]; ok {
		mode, isString := value.(string)
		if !isString {
			return nil, fail(preconditionFailed, "Invalid x-match field type %s (value %v); expected longstr", typeName(value), value)
		}
		switch mode {
		case "all", "any", "all-with-x", "any-with-x":
		default:
			return nil, fail(preconditionFailed, "Invalid x-match field value <<%q>>; expected all, any, all-with-x, or any-with-x", mode)
		}
		p.any = strings.HasPrefix(mode, "any")
		withX = strings.HasSuffix(mode, "-with-x")
	}
	for name, value := range arguments {
		if name != "x-match" && (withX || !strings.HasPrefix(name, "x-")) {
			p.wants[name] = value
		}
	}
	return p, nil
}

func (p *headersPattern) matches(headers wire.Table) bool {
	for name, want := range p.wants {
		have, ok := headers[name]
		// A binding argument without a value asks for presence alone.
		if matched := ok && (want == nil || equalValues(want, have)); matched == p.any {
			return p.any
		}
	}
	return !p.any
}

func (r *headersRouter) add(b *binding)    { r.bindings = append(r.bindings, b) }
func (r *headersRouter) remove(b *binding) { r.bindings = without(r.bindings, b) }

func (r *headersRouter) match(m *message, _ string, found func(*binding)) {
	var headers wire.Table
	if m.has(flagHeaders) {
		headers = m.properties().Headers
	}
	for _, b := range r.bindings {
		if b.headers.matches(headers) {
			found(b)
		}
	}
}

// equalValues compares two field values; numbers are compared by value, whatever their width.
func equalValues(a, b any) bool {
	if x, ok := asInt(a); ok {
		y, ok := asInt(b)
		return ok && x == y
	}
	if x, ok := a.([]byte); ok {
		a = string(x) // both are bytes to RabbitMQ
	}
	if y, ok := b.([]byte); ok {
		b = string(y)
	}
	if x, ok := a.(time.Time); ok {
		y, ok := b.(time.Time)
		return ok && x.Equal(y)
	}
	return reflect.DeepEqual(a, b)
}
