package slab

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClassesHoldWhatTheyAreFor(t *testing.T) {
	for n := minRecycled; n <= maxRecycled; n++ {
		c := class(n)
		if c < 0 || c >= classes || size(c) < n || c > 0 && size(c-1) >= n {
			require.Fail(t, "the wrong class", "%d for %d bytes", c, n)
		}
	}
	require.Equal(t, minRecycled, size(0))
	require.Equal(t, maxRecycled, size(classes-1))
}
