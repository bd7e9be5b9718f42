package amqp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
	// a row, how long the wait is, and what ended the attempt.
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
// It returns when body ends otherwise than by the loss of its connection, with
// what WithConnection returns; when ctx ends; when Retry.Attempts have failed in
// a row; and for what waiting does not heal: a refused login or virtual host
// (AccessRefused, NotAllowed), a certificate that does not fit, a configuration
// that can't work, a violation of the protocol that body itself makes, such as
// NotImplemented, and an error of body's own.
func Supervise(ctx context.Context, cfg Config, retry Retry, body func(*Conn) error) error {
	if err := cfg.check(); err != nil {
		return err
	}
	retry = retry.withDefaults()
	for failures := 1; ; failures++ {
		lived, again, err := once(ctx, cfg, body)
		switch {
		case !again:
			return err
		case ctx.Err() != nil:
			return cutShort(ctx, err)
		}
		if lived/lasting >= retry.Min {
			failures = 1
		}
		if retry.Attempts > 0 && failures >= retry.Attempts {
			return fmt.Errorf("amqp: gave up after %d attempts: %w", failures, err)
		}
		if !retry.wait(ctx, failures, err) {
			return cutShort(ctx, err)
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
func (r *Retry) wait(ctx context.Context, failures int, cause error) bool {
	delay := rand.N(r.bound(failures)) // #nosec G404 -- jitter is no secret
	if r.OnRetry != nil {
		r.OnRetry(failures, delay, cause)
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

// once makes one attempt. It reports how long there was a connection, and whether
// another attempt makes sense.
func once(ctx context.Context, cfg Config, body func(*Conn) error) (lived time.Duration, again bool, err error) {
	c, err := connect(ctx, cfg)
	if err != nil {
		return 0, !all(err, isPermanent), fmt.Errorf("%w: %w", errNotConnected, err)
	}
	began := time.Now()
	err = c.run(ctx, body)
	lived = time.Since(began)
	lost := c.lost()
	if lost == nil || isOwnFault(lost) {
		return lived, false, err
	}
	ownError := func(e error) bool {
		return !errors.Is(e, lost) && !errors.Is(e, ErrConnectionClosed) && !errors.Is(e, ErrChannelClosed) &&
			!errors.Is(e, context.Canceled) && !errors.Is(e, context.DeadlineExceeded)
	}
	return lived, !some(err, ownError), err
}

// isPermanent tells whether an attempt to connect would fail in the same way for
// ever.
func isPermanent(err error) bool {
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.Is(err, AccessRefused) || errors.Is(err, NotAllowed) || errors.As(err, &certificate) ||
		errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}

// isOwnFault tells whether a connection ended by something that body would do
// again.
func isOwnFault(lost error) bool {
	var said *Error
	if !errors.As(lost, &said) {
		return errors.Is(lost, ErrMessageTooLarge)
	}
	switch said.Code {
	case ConnectionForced, InternalError, ResourceError:
		return false
	}
	return true
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
	if j, ok := err.(interface{ Unwrap() []error }); ok && isJoin(err) { //nolint:errorlint // one level after the other
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
