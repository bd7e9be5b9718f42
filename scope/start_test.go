package scope_test

import (
	"context"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/scope"
)

func TestStartReturnsWhenTheTaskHasStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		err := scope.Run(t.Context(), func(s *scope.Scope) error {
			err := s.Start(func(ctx context.Context, started func()) error {
				time.Sleep(time.Minute)
				started()
				started() // harmless
				<-ctx.Done()
				started()
				return errSecond
			})
			assert.NoError(t, err)
			assert.Equal(t, time.Minute, time.Since(begin))
			return errFirst
		})
		assert.Equal(t, []error{errFirst, errSecond}, leaves(err), "once started, the task is like any other")
	})
}

func TestAnErrorBeforeStartedBelongsToTheCallerOfStart(t *testing.T) {
	err := scope.Run(t.Context(), func(s *scope.Scope) error {
		err := s.Start(func(context.Context, func()) error { return io.ErrUnexpectedEOF })
		assert.Equal(t, io.ErrUnexpectedEOF, err)
		assert.NoError(t, s.Context().Err(), "the scope goes on")

		err = s.Start(func(context.Context, func()) error { return nil })
		assert.ErrorContains(t, err, "without having started")

		err = s.Start(func(context.Context, func()) error { runtime.Goexit(); return nil })
		assert.ErrorContains(t, err, "Goexit")
		return nil
	})
	assert.NoError(t, err)
}

func TestStartWaitsForTheTaskAlsoWhenTheScopeIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		require.NoError(t, scope.Run(t.Context(), func(s *scope.Scope) error {
			s.Go(func(context.Context) error {
				time.Sleep(time.Second)
				s.Cancel(nil)
				return nil
			})
			err := s.Start(func(ctx context.Context, started func()) error {
				<-ctx.Done()
				time.Sleep(time.Second) // to tidy up
				return context.Cause(ctx)
			})
			assert.Equal(t, context.Canceled, err)
			assert.Equal(t, 2*time.Second, time.Since(begin))

			err = s.Start(func(ctx context.Context, started func()) error {
				assert.Error(t, ctx.Err())
				started()
				return nil
			})
			assert.NoError(t, err, "the task decides whether it has started")
			return nil
		}))
	})
}

func TestStartedAfterTheEndIsHarmless(t *testing.T) {
	var kept func()
	require.NoError(t, scope.Run(t.Context(), func(s *scope.Scope) error {
		return s.Start(func(_ context.Context, started func()) error {
			kept = started
			started()
			return nil
		})
	}))
	kept()
}

func TestStartFromATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, scope.Run(t.Context(), func(s *scope.Scope) error {
			s.Go(func(context.Context) error {
				time.Sleep(time.Second) // the body has returned
				return s.Start(func(_ context.Context, started func()) error { started(); return nil })
			})
			return nil
		}))
	})
}
