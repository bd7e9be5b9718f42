package iter

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestClaims(t *testing.T) {
	var c chunk[int]
	c.refill([]int{1, 2, 3, 4, 5})
	item, ok := c.one()
	assert.Equal(t, []any{1, true}, []any{item, ok})
	assert.Equal(t, []int{9, 2, 3}, c.claim([]int{9}, 2))
	assert.Equal(t, 2, c.left())
	assert.Equal(t, []int{4, 5}, c.seal())
	assert.Empty(t, c.claim(nil, 1))
	_, ok = c.one()
	assert.False(t, ok)
	assert.Zero(t, c.left())
}

// A batch may be of any size, and ask an exhausted chunk again and again.
func TestClaimsDoNotOverflow(t *testing.T) {
	var c chunk[int]
	c.refill([]int{1, 2})
	assert.Equal(t, []int{1, 2}, c.claim(nil, math.MaxInt))
	for range 10 {
		assert.Empty(t, c.claim(nil, math.MaxInt))
		assert.Zero(t, c.left())
	}
}
