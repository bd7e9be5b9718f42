//go:build !race

package scope_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/leveret-mq/leveret/scope"
)

// A client has a scope for each channel and consumer, thousands of them.
func TestAScopeIsSmall(t *testing.T) {
	const many = 10_000
	ctx := t.Context()
	outer := scope.Open(ctx, nil)
	defer func() { _, _ = outer.Run(func() error { return nil }) }()
	for name, tt := range map[string]struct {
		ctx   context.Context
		bytes int
	}{
		"in the outer scope's context": {outer.Scope().Context(), 400},
		"in another context":           {ctx, 600},
	} {
		handles := make([]*scope.Handle, many)
		before := heap()
		for i := range handles {
			handles[i] = scope.Open(tt.ctx, outer.Scope())
		}
		each := (heap() - before) / many
		t.Logf("%s: %d bytes", name, each)
		assert.LessOrEqual(t, each, tt.bytes, name)
		for _, h := range handles {
			err, _ := h.Run(func() error { return nil })
			assert.NoError(t, err)
		}
		clear(handles)
		assert.LessOrEqual(t, (heap()-before)/many, 200, "%s: what is over is forgotten, but for the size of maps", name)
		runtime.KeepAlive(handles)
	}
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
