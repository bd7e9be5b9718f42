package amqp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"time"
)

// Retry says how Supervise waits between two attempts: a random time between 0
// and a bound that doubles from Min to Max with every failure in a row. Zero
// values stand for 100 ms, 30 s, and attempts for ever.
type Retry struct {
	Min, Max time.Duration
	Attempts int // failures in a row until it gives up; 0: never
	// OnRetry is called before each wait: with how many attempts have failed in
	// a row, how long the wait is, and what ended the attempt. Nil: the same is
	// logged as a warning.
	OnRetry func(attempt int, delay time.Duration, cause error)
}

const (
	defaultRetryMin = 100 * time.Millisecond
	defaultRetryMax = 30 * time.Second
	// lasting is how many times Min a connection has to live to count as a
	// success, after which the waits start anew.
	lasting = 10
)

// Supervise is WithConnection that runs body again, on a new connection, when
// the connection is lost or can't be had, the first one included. By then
// everything in the old connection's scope has ended, so body declares, binds and
// consumes anew, and no old delivery is settled on the new connection; what has
// to survive lives outside of it, see Outbox.
//
// It also runs body again, with a warning in the log, when body failed with a
// refusal that passes: the node that has the queue is down, the queue or its
// consumer is somebody else's alone (a connection of one's own, maybe, whose loss
// the broker has not noticed), a token has expired, or the broker ended the
// consumer (ErrConsumerCancelled). A body that wants to deal with these by itself
// does not return them.
//
// It returns when body ends otherwise, with what WithConnection returns; when ctx
// ends; when Retry.Attempts have failed in a row; and for what waiting does not
// heal: a refused login or virtual host (AccessRefused, NotAllowed), a certificate
// that does not fit, a configuration that can't work, a violation of the protocol
// that body itself makes, such as NotImplemented, a declaration that the broker
// does not permit any more, and an error of body's own.
//
// When the broker answers a call by an exception that ends the connection, the call
// returns it, and a body that returns nil all the same has dealt with it: it is
// done, and Supervise returns nil. After a loss that answers no call, a body that
// returns nil runs again.
//
// A body that has ended before the connection is lost, on the goodbye, has done
// its work: its channels are closed, after what it settled has reached the broker.
// It does not run again, and the loss is what Supervise returns.
func Supervise(ctx context.Context, cfg Config, retry Retry, body func(*Conn) error) error {
	if err := cfg.check(); err != nil {
		return err
	}
	retry = retry.withDefaults()
	for failures := 1; ; failures++ {
		a := once(ctx, cfg, body)
		switch {
		case a.failure == final:
			return a.err
		case ctx.Err() != nil:
			return cutShort(ctx, a.err)
		case a.failure == ofGoodbye:
			return a.err
		case a.failure == refusal:
			cfg.withDefaults().Logger.Warn("amqp: supervise: the broker refused what it may grant later", "attempt", failures, "error", a.err)
		}
		if a.lived/lasting >= retry.Min {
			failures = 1
		}
		if retry.Attempts > 0 && failures >= retry.Attempts {
			return fmt.Errorf("amqp: gave up after %d attempts: %w", failures, a.err)
		}
		if !retry.wait(ctx, &cfg, failures, a.err) {
			return cutShort(ctx, a.err)
		}
	}
}

// cutShort is what the end of ctx made of an attempt that would have been followed
// by another. The attempt's failure is told in words alone: whoever ended ctx has
// ended the retries on purpose, and finds nothing but that.
func cutShort(ctx context.Context, failure error) error {
	return fmt.Errorf("%w (the last attempt: %s)", context.Cause(ctx), failure.Error())
}

func (r Retry) withDefaults() Retry {
	if r.Min <= 0 {
		r.Min = defaultRetryMin
	}
	if r.Max <= 0 {
		r.Max = defaultRetryMax
	}
	r.Max = max(r.Max, r.Min)
	return r
}

// bound is the longest wait after so many failures.
func (r *Retry) bound(failures int) time.Duration {
	bound := r.Min
	for range failures - 1 {
		if bound > r.Max/2 {
			return r.Max
		}
		bound *= 2
	}
	return bound
}

// wait reports false when ctx ended it.
func (r *Retry) wait(ctx context.Context, cfg *Config, failures int, cause error) bool {
	delay := rand.N(r.bound(failures)) // #nosec G404 -- jitter is no secret
	cfg.Trace.retry(failures, delay, cause)
	if r.OnRetry != nil {
		r.OnRetry(failures, delay, cause)
	} else {
		cfg.logger().Warn("amqp: connecting again after a wait", "uri", cfg.String(), "attempt", failures, "delay", delay, "cause", cause)
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

var errNotConnected = errors.New("no endpoint took the connection")

// attempt is how one connection went.
type attempt struct {
	lived   time.Duration // from its opening on
	failure failure
	err     error
}

// failure is what an attempt ended by.
type failure uint8

const (
	final     failure = iota // nothing that another attempt would change, or no failure at all
	ofGoodbye                // the connection was lost when its scope had ended
	loss                     // the connection was lost, or not to be had
	refusal                  // the broker refused something that it may not refuse later
)

// once makes one attempt.
func once(ctx context.Context, cfg Config, body func(*Conn) error) attempt {
	c, err := connect(ctx, cfg)
	if err != nil {
		a := attempt{failure: loss, err: fmt.Errorf("%w: %w", errNotConnected, err)}
		if all(err, isPermanent) {
			a.failure = final
		}
		return a
	}
	began := time.Now()
	err = c.run(ctx, body)
	return attempt{time.Since(began), c.failure(err), err}
}

// failure classifies what a connection's run returned.
func (c *Conn) failure(err error) failure {
	lost := c.lost()
	ownError := func(e error) bool {
		return !passes(e) && (lost == nil || !errors.Is(e, lost) && !errors.Is(e, ErrConnectionClosed) && !errors.Is(e, ErrChannelClosed) &&
			!errors.Is(e, context.Canceled) && !errors.Is(e, context.DeadlineExceeded))
	}
	switch {
	case err == nil || lost != nil && isOwnFault(lost) || some(err, ownError):
		return final
	case some(err, passes):
		return refusal
	case lost == nil:
		return final
	case !c.cutOff:
		return ofGoodbye
	}
	return loss
}

// all tells whether every error that err joins satisfies is.
func all(err error, is func(error) bool) bool {
	return !some(err, func(e error) bool { return !is(e) })
}

// some tells whether one of the errors that err joins satisfies is.
func some(err error, is func(error) bool) bool {
	if err == nil {
		return false
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok && isJoin(err) { // one level after the other
		for _, e := range j.Unwrap() {
			if some(e, is) {
				return true
			}
		}
		return false
	}
	return is(err)
}

var joinType = reflect.TypeOf(errors.Join(errNotConnected))

// isJoin tells a list of errors, made by errors.Join, from one error that wraps
// several.
func isJoin(err error) bool { return reflect.TypeOf(err) == joinType }
