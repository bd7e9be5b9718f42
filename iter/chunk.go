package iter

import "sync/atomic"

// keep is the capacity, in items, up to which an empty buffer is kept for the next burst. A larger one is kept only
// while the traffic fills a quarter of it, and never while a loop waits.
const keep = 4096

// A chunk is a run of items that loops share without a lock: each claims its next items by an addition to n, and the
// items below n are the business of whoever claimed them. Only n changes while loops may see the chunk.
type chunk[T any] struct {
	n     atomic.Int64 // how many items have been claimed; more than there are, when loops found it exhausted
	items []T
}

// left is how many items nobody has claimed.
func (c *chunk[T]) left() int {
	return max(0, len(c.items)-int(c.n.Load()))
}

// one takes an item and forgets it.
func (c *chunk[T]) one() (item T, ok bool) {
	if i := c.n.Add(1) - 1; i < int64(len(c.items)) {
		var none T
		item, c.items[i] = c.items[i], none
		return item, true
	}
	return item, false
}

// claim takes up to want items, appends them to dst and forgets them.
func (c *chunk[T]) claim(dst []T, want int) []T {
	want = min(want, len(c.items)) // so that n cannot overflow
	i := int(c.n.Add(int64(want))) - want
	if i >= len(c.items) {
		return dst
	}
	got := c.items[i:min(i+want, len(c.items))]
	dst = append(dst, got...)
	clear(got)
	return dst
}

// seal claims all that is left, so that no loop can. The items stay where they are.
func (c *chunk[T]) seal() []T {
	i := int(c.n.Swap(int64(len(c.items))))
	return c.items[min(i, len(c.items)):]
}

// refill makes items the chunk's, all of them unclaimed.
func (c *chunk[T]) refill(items []T) {
	c.items = items
	c.n.Store(0)
}

// empty takes the memory of a chunk that all loops have done with, to be filled again, or gives it up if it has grown
// beyond what the traffic needs.
func (c *chunk[T]) empty() []T {
	items := c.items
	c.items = nil
	if cap(items) > keep && len(items) < cap(items)/4 {
		return nil
	}
	return items[:0]
}
