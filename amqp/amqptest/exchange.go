package amqptest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// An exchange routes messages to queues and to other exchanges. It is guarded by the broker's lock.
type exchange struct {
	vhost      *vhost
	name       string
	kind       string
	durable    bool
	autoDelete bool
	internal   bool
	arguments  wire.Table
	alternate  *string

	router  router
	from    map[bindingKey]*binding // the bindings whose source it is
	to      map[*binding]struct{}   // the bindings whose destination it is
	order   uint64                  // counts bindings
	deleted bool
	mark    uint64 // the routing that reached it last, against loops
}

// A router finds the bindings of an exchange that a message matches.
type router interface {
	add(*binding)
	remove(*binding)
	match(m *message, key string, found func(*binding))
}

// routers makes the router of each kind of exchange that there is.
var routers = map[string]func() router{
	"direct":  func() router { return directRouter{} },
	"fanout":  func() router { return &fanoutRouter{} },
	"topic":   func() router { return &topicRouter{} },
	"headers": func() router { return &headersRouter{} },
}

func newExchange(v *vhost, name, kind string) *exchange {
	return &exchange{vhost: v, name: name, kind: kind, router: routers[kind](),
		from: map[bindingKey]*binding{}, to: map[*binding]struct{}{}}
}

// A binding leads from an exchange to a queue or to another exchange; one of the two is nil.
type binding struct {
	source    *exchange
	queue     *queue
	exchange  *exchange
	key       string
	arguments wire.Table
	order     uint64
	headers   *headersPattern // of a binding to a headers exchange
}

// A bindingKey is what makes two bindings the same one.
type bindingKey struct {
	queue     *queue
	exchange  *exchange
	key       string
	arguments string
}

func (b *binding) identity() bindingKey {
	id := bindingKey{queue: b.queue, exchange: b.exchange, key: b.key}
	if len(b.arguments) > 0 {
		id.arguments = fmt.Sprintf("%#v", b.arguments) // prints maps in the order of their keys
	}
	return id
}

// bind adds a binding unless there is one like it.
func (x *exchange) bind(b *binding) {
	id := b.identity()
	if x.from[id] != nil {
		return
	}
	x.order++
	b.source, b.order = x, x.order
	x.from[id] = b
	x.router.add(b)
	if b.queue != nil {
		b.queue.bindings[b] = struct{}{}
	} else {
		b.exchange.to[b] = struct{}{}
	}
}

// unbind removes the binding that is like this one. An auto-delete exchange goes with its last binding.
func (x *exchange) unbind(like *binding) {
	id := like.identity()
	b := x.from[id]
	if b == nil {
		return
	}
	delete(x.from, id)
	x.router.remove(b)
	if b.queue != nil {
		delete(b.queue.bindings, b)
	} else {
		delete(b.exchange.to, b)
	}
	if x.autoDelete && len(x.from) == 0 {
		x.vhost.deleteExchange(x)
	}
}

// sortedBindings lists bindings in an order that does not change from run to run.
func sortedBindings(set map[*binding]struct{}) []*binding {
	list := make([]*binding, 0, len(set))
	for b := range set {
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b *binding) int {
		if a.source != b.source {
			return strings.Compare(a.source.name, b.source.name)
		}
		return cmp.Compare(a.order, b.order)
	})
	return list
}

// A directRouter matches the routing key as it is.
type directRouter map[string][]*binding

func (r directRouter) add(b *binding) { r[b.key] = append(r[b.key], b) }

func (r directRouter) remove(b *binding) {
	if r[b.key] = without(r[b.key], b); len(r[b.key]) == 0 {
		delete(r, b.key)
	}
}

func (r directRouter) match(_ *message, key string, found func(*binding)) {
	for _, b := range r[key] {
		found(b)
	}
}

// A fanoutRouter matches everything.
type fanoutRouter struct{ bindings []*binding }

func (r *fanoutRouter) add(b *binding)    { r.bindings = append(r.bindings, b) }
func (r *fanoutRouter) remove(b *binding) { r.bindings = without(r.bindings, b) }

func (r *fanoutRouter) match(_ *message, _ string, found func(*binding)) {
	for _, b := range r.bindings {
		found(b)
	}
}

// without takes one element out of a list.
func without[T comparable](list []T, gone T) []T {
	if i := slices.Index(list, gone); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}
