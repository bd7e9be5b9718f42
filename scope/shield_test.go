package scope_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/leveret-mq/leveret/scope"
)

func TestShieldKeepsTheValuesAndNotTheEnd(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "value"), time.Hour)
	cancel()
	for _, timeout := range []time.Duration{-1, 0, time.Hour} {
		err := scope.Shield(ctx, timeout, func(ctx context.Context) error {
			assert.NoError(t, ctx.Err())
			assert.Equal(t, "value", ctx.Value(key{}))
			_, limited := ctx.Deadline()
			assert.Equal(t, timeout > 0, limited)
			return errFirst
		})
		assert.Equal(t, errFirst, err)
	}
}

func TestShieldEndsAfterItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const says = "shielded clean-up exceeded 5s"
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		tests := map[string]struct {
			err  func(ctx context.Context) error
			want string
		}{
			"the context's error": {func(ctx context.Context) error { return fmt.Errorf("flushing: %w", ctx.Err()) }, "scope: " + says + ": flushing: context deadline exceeded"},
			"the cause":           {context.Cause, "scope: " + says},
			"a failure":           {func(context.Context) error { return errFirst }, "first"},
		}
		for name, tt := range tests {
			begin := time.Now()
			err := scope.Shield(ctx, 5*time.Second, func(ctx context.Context) error {
				<-ctx.Done()
				assert.ErrorContains(t, context.Cause(ctx), says, name)
				assert.ErrorIs(t, context.Cause(ctx), context.DeadlineExceeded, name)
				return tt.err(ctx)
			})
			assert.EqualError(t, err, tt.want, name)
			assert.Equal(t, 5*time.Second, time.Since(begin), name)
		}
		assert.NoError(t, scope.Shield(ctx, time.Second, func(ctx context.Context) error { <-ctx.Done(); return nil }))
	})
}

func TestShieldReleasesItsContextOnPanic(t *testing.T) {
	var kept context.Context
	assert.Panics(t, func() {
		_ = scope.Shield(t.Context(), time.Hour, func(ctx context.Context) error {
			kept = ctx //nolint:fatcontext // kept to be looked at
			return explode()
		})
	})
	assert.Error(t, kept.Err())
}

// A deadline around the scope makes its own echoes, which must not hide that the clean-up took too long, too.
func TestAnOverrunIsNoEcho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := scope.Run(ctx, func(s *scope.Scope) error {
			<-s.Context().Done()
			return shieldedFor(s.Context())
		})
		assert.ErrorContains(t, err, "shielded clean-up exceeded 1ns")
	})
}
