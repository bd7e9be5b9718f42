package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets whose width grows with the value: each
// power of two is divided into 128, so that a percentile is off by less than a
// hundredth.
type histogram struct {
	counts   [buckets]uint64
	n        uint64
	sum      time.Duration
	min, max time.Duration
}

const (
	fineBits = 7
	fine     = 1 << fineBits
	buckets  = (64 - fineBits) * fine
)

// bucketOf is the bucket of a duration, which is exact below 2·fine.
func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	shift := max(bits.Len64(v)-fineBits-1, 0)
	return shift*fine + int(v>>shift) // #nosec G115 -- below 2·fine
}

// middleOf is the middle of a bucket.
func middleOf(bucket int) time.Duration {
	shift := max(bucket/fine-1, 0)
	low := uint64(bucket-shift*fine) << shift        // #nosec G115 -- both are positive
	return time.Duration(low + (uint64(1)<<shift)/2) // #nosec G115 -- a bucket of a duration
}

func (h *histogram) record(d time.Duration) {
	if h.n == 0 || d < h.min {
		h.min = d
	}
	h.max = max(h.max, d)
	h.n++
	h.sum += d
	h.counts[bucketOf(d)]++
}

func (h *histogram) add(other *histogram) {
	if other.n == 0 {
		return
	}
	if h.n == 0 || other.min < h.min {
		h.min = other.min
	}
	h.max = max(h.max, other.max)
	h.n += other.n
	h.sum += other.sum
	for i, n := range other.counts {
		h.counts[i] += n
	}
}

// percentile is the duration that p in a hundred do not exceed.
func (h *histogram) percentile(p float64) time.Duration {
	rank := uint64(p / 100 * float64(h.n))
	for i, n := range h.counts {
		if rank < n {
			return min(max(middleOf(i), h.min), h.max)
		}
		rank -= n
	}
	return h.max
}

func (h *histogram) mean() time.Duration {
	if h.n == 0 {
		return 0
	}
	return h.sum / time.Duration(h.n) // #nosec G115 -- it is a count
}
