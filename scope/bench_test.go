package scope_test

import (
	"context"
	"testing"

	"github.com/leveret-mq/leveret/scope"
)

func BenchmarkRun(b *testing.B) {
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		_ = scope.Run(ctx, func(*scope.Scope) error { return nil })
	}
}

func BenchmarkGo(b *testing.B) {
	b.ReportAllocs()
	_ = scope.Run(context.Background(), func(s *scope.Scope) error {
		for b.Loop() {
			s.Go(func(context.Context) error { return nil })
		}
		return nil
	})
}
