package amqptest

import (
	"strconv"
	"strings"
	"time"
)

// maxTTL is the longest time that RabbitMQ takes for x-message-ttl, x-expires and expiration: 2^32-1 milliseconds.
const maxTTL = 1<<32 - 1

// expiryOf is when a message that arrives now expires: the shorter of its own expiration and the queue's x-message-ttl.
func (q *queue) expiryOf(m *message) time.Duration {
	ttl := q.settings.ttl
	if m.has(flagExpiration) {
		if text := m.properties().Expiration; text != "" {
			if ms, err := strconv.ParseUint(text, 10, 32); err == nil {
				if own := time.Duration(ms) * time.Millisecond; ttl < 0 || own < ttl {
					ttl = own
				}
			}
		}
	}
	if ttl < 0 {
		return 0
	}
	return q.vhost.broker.now() + ttl
}

// checkExpiration refuses what RabbitMQ refuses as a message's expiration.
func checkExpiration(text string) *exception {
	digits := len(text) - len(strings.TrimLeft(strings.TrimPrefix(text, "-"), "0123456789"))
	value, err := strconv.ParseInt(text[:digits], 10, 64)
	switch {
	case err != nil && digits > 0 && text[:digits] != "-":
		return fail(preconditionFailed, "invalid expiration '%s': {value_too_large,%s}", text, text[:digits])
	case err != nil:
		return fail(preconditionFailed, "invalid expiration '%s': no_integer", text)
	case digits < len(text):
		return fail(preconditionFailed, "invalid expiration '%s': {leftover_string,%q}", text, text[digits:])
	case value < 0:
		return fail(preconditionFailed, "invalid expiration '%s': {value_negative,%d}", text, value)
	case value > maxTTL:
		return fail(preconditionFailed, "invalid expiration '%s': {value_too_large,%d}", text, value)
	}
	return nil
}

// dropExpired removes expired messages from the front of each level. As in RabbitMQ, an expired message
// behind one that lives on stays until it comes to the front.
func (q *queue) dropExpired() {
	if q.expiring == 0 {
		q.expiry.stop()
		return
	}
	now := q.vhost.broker.now()
	var next time.Duration
	for i := range q.levels {
		level := &q.levels[i]
		for level.n > 0 && level.at(0).expires != 0 && level.at(0).expires <= now {
			e := level.popFront()
			q.count(&e, -1)
			q.deadLetter(e, "expired")
		}
		if level.n > 0 && level.at(0).expires != 0 && (next == 0 || level.at(0).expires < next) {
			next = level.at(0).expires
		}
	}
	switch {
	case next == 0:
		q.expiry.stop()
	case next != q.expiresNext || !q.expiry.running():
		q.expiresNext = next
		q.expiry.set(next - now)
	}
}
