package scope_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/scope"
)

// told is what an overdue scope has said, and when.
type told struct {
	begin time.Time
	lines []string
}

// listen has h tell of its being overdue by a minute, until it has done so often enough.
func listen(h *scope.Handle, times int) *told {
	l := &told{begin: time.Now()}
	h.Overdue(time.Minute, func(body bool, tasks int) bool {
		l.lines = append(l.lines, fmt.Sprintf("%v: body %t, tasks %d", time.Since(l.begin), body, tasks))
		return len(l.lines) >= times
	})
	return l
}

func TestAScopeThatDoesNotEndIsTold(t *testing.T) {
	hang := func(context.Context) error { time.Sleep(5 * time.Minute); return nil }
	for name, c := range map[string]struct {
		body  func(s *scope.Scope, cancel func())
		times int
		want  []string
	}{
		"the body": {func(_ *scope.Scope, cancel func()) { cancel(); time.Sleep(5 * time.Minute) }, 1,
			[]string{"1m0s: body true, tasks 0"}},
		"tasks": {func(s *scope.Scope, cancel func()) { s.Go(hang); s.Go(hang); s.Go(untilCancelled); cancel() }, 1,
			[]string{"1m0s: body false, tasks 2"}},
		"both": {func(s *scope.Scope, cancel func()) { s.Go(hang); cancel(); time.Sleep(90 * time.Second) }, 3,
			[]string{"1m0s: body true, tasks 1", "2m0s: body false, tasks 1", "3m0s: body false, tasks 1"}},
		"by itself": {func(s *scope.Scope, _ func()) { s.Go(hang); s.Cancel(nil) }, 1,
			[]string{"1m0s: body false, tasks 1"}},
		"in time":         {func(_ *scope.Scope, cancel func()) { cancel(); time.Sleep(59 * time.Second) }, 1, nil},
		"never cancelled": {func(s *scope.Scope, _ func()) { s.Go(hang); time.Sleep(time.Hour) }, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				h := scope.Open(ctx, nil)
				l := listen(h, c.times)
				_, _ = h.Run(func() error { c.body(h.Scope(), cancel); return nil })
				time.Sleep(time.Hour)
				assert.Equal(t, c.want, l.lines)
			})
		})
	}
}

func TestAPanicThatATaskHoldsUpIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := scope.Open(t.Context(), nil)
		l := listen(h, 1)
		require.PanicsWithValue(t, "of the body", func() {
			_, _ = h.Run(func() error {
				h.Scope().Go(func(context.Context) error { time.Sleep(2 * time.Minute); return nil })
				panic("of the body")
			})
		})
		assert.Equal(t, []string{"1m0s: body false, tasks 1"}, l.lines)
	})
}
