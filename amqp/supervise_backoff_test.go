package amqp_test

import (
	"context"
	"errors"
	"math"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// tried is one call of OnRetry.
type tried struct {
	attempt int
	delay   time.Duration
	cause   error
	at      time.Time
}

// noting is a Retry that notes the calls of OnRetry.
func noting(retry amqp.Retry) (amqp.Retry, *[]tried) {
	var all []tried
	retry.OnRetry = func(attempt int, delay time.Duration, cause error) {
		all = append(all, tried{attempt, delay, cause, time.Now()})
	}
	return retry, &all
}

func attempts(all []tried) (list []int) {
	for _, r := range all {
		list = append(list, r.attempt)
	}
	return list
}

func TestSuperviseBacksOffWithFullJitter(t *testing.T) {
	bubble(t, func(w *world) {
		dials := w.unreachable()
		const count = 400
		retry, all := noting(amqp.Retry{Min: 100 * time.Millisecond, Max: time.Second, Attempts: count})
		err := amqp.Supervise(context.Background(), w.cfg, retry, neverRuns(w))
		require.ErrorIs(w, err, errNoRoute)
		require.ErrorContains(w, err, "gave up after 400 attempts")
		require.EqualValues(w, count, dials.Load())
		require.Len(w, *all, count-1, "no wait after the last attempt")
		least, most := time.Hour, time.Duration(0)
		for i, r := range *all {
			require.Equal(w, i+1, r.attempt)
			require.ErrorIs(w, r.cause, errNoRoute)
			bound := min(100*time.Millisecond<<min(i, 10), time.Second)
			require.GreaterOrEqual(w, r.delay, time.Duration(0))
			require.Less(w, r.delay, bound, "attempt %d", r.attempt)
			if i > 0 {
				before := (*all)[i-1]
				require.Equal(w, before.delay, r.at.Sub(before.at), "the wait is as long as it was announced")
			}
			if bound == time.Second {
				least, most = min(least, r.delay), max(most, r.delay)
			}
		}
		// That 400 draws leave out a tenth of the range happens once in 10^18 runs.
		assert.Less(w, least, 100*time.Millisecond)
		assert.Greater(w, most, 900*time.Millisecond)
	})
}

func TestSuperviseRetriesForEverByDefault(t *testing.T) {
	bubble(t, func(w *world) {
		w.unreachable()
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		longest := time.Duration(0)
		retry := amqp.Retry{OnRetry: func(attempt int, delay time.Duration, _ error) {
			longest = max(longest, delay)
			switch attempt {
			case 1:
				assert.Less(w, delay, 100*time.Millisecond)
			case 500:
				cancel(enough)
			}
		}}
		require.ErrorIs(w, amqp.Supervise(ctx, w.cfg, retry, neverRuns(w)), enough)
		assert.Greater(w, longest, 20*time.Second)
		assert.Less(w, longest, 30*time.Second)
	})
}

// Waits that have no bound to speak of double until they would overflow, and no further. It has no world, whose clock
// does not reach that far.
func TestSuperviseWithVastWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		cfg := amqp.Config{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errNoRoute }}
		retry := amqp.Retry{Min: math.MaxInt64/4 + 2, Max: math.MaxInt64, OnRetry: func(attempt int, delay time.Duration, _ error) {
			assert.GreaterOrEqual(t, delay, time.Duration(0))
			if attempt == 3 {
				cancel(enough)
			}
		}}
		err := amqp.Supervise(ctx, cfg, retry, func(*amqp.Conn) error { return nil })
		require.ErrorIs(t, err, enough)
	})
}

func TestSuperviseStartsAnewAfterAConnectionThatLasted(t *testing.T) {
	bubble(t, func(w *world) {
		lives := []time.Duration{0, 0, 0, 999 * time.Millisecond, time.Second, 0, 0}
		retry, all := noting(amqp.Retry{Min: 100 * time.Millisecond, Max: time.Minute})
		n := 0
		require.NoError(w, amqp.Supervise(context.Background(), w.cfg, retry, func(conn *amqp.Conn) error {
			if n == len(lives) {
				return nil
			}
			time.Sleep(lives[n])
			n++
			return w.lostAtOnce(conn)
		}))
		require.Equal(w, []int{1, 2, 3, 4, 1, 2, 3}, attempts(*all))
		for _, r := range *all {
			require.ErrorIs(w, r.cause, amqp.ErrConnectionClosed)
		}
	})
}

// A connection that took long to be made, and then broke at once, has not lasted.
func TestSuperviseCountsNoSlowConnectAsLasting(t *testing.T) {
	bubble(t, func(w *world) {
		dial := w.cfg.Dial
		w.cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			time.Sleep(10 * time.Second)
			return dial(ctx, network, addr)
		}
		retry, all := noting(amqp.Retry{Min: 100 * time.Millisecond, Max: time.Minute, Attempts: 4})
		err := amqp.Supervise(context.Background(), w.cfg, retry, w.lostAtOnce)
		require.ErrorContains(w, err, "gave up after 4 attempts")
		require.Equal(w, []int{1, 2, 3}, attempts(*all))
	})
}
