package amqp

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/leveret-mq/leveret/scope"
)

// watch has the log tell, once, that a scope has been over for CloseTimeout and
// waits for something that does not heed its context: a goroutine of the
// user's, which nobody else can end. inner counts the scopes inside of it, if
// it may have any; while there are some, they tell.
func (c *Conn) watch(h *scope.Handle, name func() string, inner, handlers *atomic.Int32) {
	ctx := h.Scope().Context()
	h.Overdue(c.cfg.CloseTimeout, func(body bool, tasks int) bool {
		if inner != nil && inner.Load() > 0 {
			return false
		}
		c.cfg.Logger.Warn("amqp: a scope is over, and can't end since something in it does not heed its context",
			"scope", name(), "waits_for", inhabitants(body, tasks, handlers), "after", c.cfg.CloseTimeout, "cause", context.Cause(ctx))
		return true
	})
}

// inhabitants names what is still in a scope.
func inhabitants(body bool, tasks int, handlers *atomic.Int32) string {
	var list []string
	if body {
		list = append(list, "its body")
	}
	if tasks > 0 {
		list = append(list, fmt.Sprintf("tasks: %d", tasks))
	}
	if handlers != nil && handlers.Load() > 0 {
		list = append(list, fmt.Sprintf("handlers of Process: %d", handlers.Load()))
	}
	return strings.Join(list, ", ")
}

func (c *Conn) name() string { return "connection to " + c.RemoteAddr().String() }

func (ch *Channel) name() string { return fmt.Sprintf("channel %d of the %s", ch.id, ch.conn.name()) }

func (c *Consumer) name() string { return fmt.Sprintf("consumer %q on %s", c.tag, c.ch.name()) }

func (p *Publisher) name() string { return "publisher on " + p.ch.name() }
