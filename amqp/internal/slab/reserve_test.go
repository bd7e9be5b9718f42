package slab

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestReserveIsHeldByWhoReceivesALot(t *testing.T) {
	var a, b Reserve
	a.Received(reserveAfter - 1)
	assert.Nil(t, reserve.memory)
	a.Received(1)
	assert.Len(t, reserve.memory, reserveSize)
	b.Received(reserveAfter)
	assert.Equal(t, 2, reserve.holders)
	a.Release()
	a.Release()
	assert.Len(t, reserve.memory, reserveSize, "b holds it")
	b.Release()
	assert.Nil(t, reserve.memory)
	assert.Zero(t, reserve.holders)
	a.Received(reserveAfter - 1)
	assert.Nil(t, reserve.memory, "what came before counts no more")
}
