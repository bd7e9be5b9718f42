package amqp

import (
	"log/slog"
	"testing"
	"time"
)

// DefaultLogger is where a Config without a Logger logs.
func DefaultLogger() *slog.Logger { return Config{}.withDefaults().Logger }

// OfferGap has reads count as close that are so far apart, until the test has ended.
func OfferGap(t testing.TB, gap time.Duration) {
	before := offerGap.Swap(int64(gap))
	t.Cleanup(func() { offerGap.Store(before) })
}

// IsReading tells whether a loop over the consumer waits in a read of its own.
func (c *Consumer) IsReading() bool {
	l := &c.ch.conn.lead
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.by == c
}

// SetUnreadBound has ErrSlowConsumer come after so many bytes.
func (c *Conn) SetUnreadBound(n int64) { c.unreadBound = n }

// IsHeldBack tells whether the reader waits for a consumer to take what it has.
func (c *Conn) IsHeldBack() bool { return c.paused.Load() }
