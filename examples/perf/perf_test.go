package main

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Percentiles are within a hundredth of those of the sorted list.
func TestHistogramPercentiles(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) // #nosec G404 -- it is a test
	for name, value := range map[string]func() time.Duration{
		"uniform":          func() time.Duration { return time.Duration(random.IntN(1e9)) },
		"over many orders": func() time.Duration { return time.Duration(math.Exp(random.Float64() * 40)) },
		"small":            func() time.Duration { return time.Duration(random.IntN(200)) },
	} {
		t.Run(name, func(t *testing.T) {
			var h, half histogram
			var all []time.Duration
			for i := range 10_000 {
				d := value()
				all = append(all, d)
				if i%2 == 0 {
					h.record(d)
				} else {
					half.record(d)
				}
			}
			h.add(&half)
			slices.Sort(all)
			for _, p := range []float64{0, 1, 50, 75, 95, 99, 99.9} {
				want := all[int(p/100*float64(len(all)))]
				assert.InDelta(t, float64(want), float64(h.percentile(p)), float64(want)/100, "%v %%", p)
			}
			assert.Equal(t, all[len(all)-1], h.percentile(100))
			assert.Equal(t, all[0], h.min)
			assert.Equal(t, all[len(all)-1], h.max)
			assert.Equal(t, uint64(len(all)), h.n)
		})
	}
}

func TestHistogramAtItsEnds(t *testing.T) {
	var h histogram
	assert.Zero(t, h.percentile(50))
	assert.Zero(t, h.mean())
	h.add(new(histogram))
	assert.Zero(t, h.n)
	for _, d := range []time.Duration{-1, 0, math.MaxInt64} {
		h.record(d)
	}
	assert.Equal(t, time.Duration(math.MaxInt64), h.percentile(100))
	assert.Equal(t, time.Duration(-1), h.min)
	for bucket := range buckets - 1 {
		require.Equal(t, bucket, bucketOf(middleOf(bucket)))
	}
}

func TestPaceKeepsTheRateAndCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace{rate: 100}
		began := time.Now()
		for range 11 {
			require.NoError(t, p.wait(t.Context()))
		}
		assert.Equal(t, 100*time.Millisecond, time.Since(began))
		time.Sleep(time.Second)
		for range 100 {
			require.NoError(t, p.wait(t.Context()))
		}
		assert.Equal(t, 1100*time.Millisecond, time.Since(began))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, p.wait(ctx), context.Canceled)
		require.ErrorIs(t, (&pace{}).wait(ctx), context.Canceled)
		require.NoError(t, (&pace{}).wait(t.Context()))
	})
}

func TestStopwatchMeasuresTheMessageItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStopwatch(new(recorder), 1)
		s.start(0) // not on a channel with confirms
		s.start(1)
		time.Sleep(time.Second)
		s.stop(1)
		assert.Equal(t, time.Second, s.to.h.max)
		s.start(2)
		for n := range uint64(5) {
			s.start(3 + n) // the last takes the place of the first
		}
		s.stop(2)
		assert.Equal(t, uint64(1), s.to.h.n)
	})
}

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"-producers", "0", "-consumers", "0"}, {"-queues", "2", "-queue", "q"}, {"-size", "15"}, {"-rate", "-1"}, {"-ack", "300"},
		{"-ack", "11", "-prefetch", "10"}, {"-kind", "stream", "-ack", "0"}, {"-arguments", "max"},
	} {
		_, err := parse(args)
		assert.Error(t, err, "%v", args)
	}
	o, err := parse([]string{"-ack", "300", "-prefetch", "-1", "-arguments", "x-max-length=5,x-single-active-consumer=true,x-overflow=reject-publish"})
	require.NoError(t, err)
	queueArgs, err := o.arguments()
	require.NoError(t, err)
	assert.EqualValues(t, map[string]any{
		"x-queue-type": "classic", "x-max-length": 5, "x-single-active-consumer": true, "x-overflow": "reject-publish",
	}, queueArgs)
}
