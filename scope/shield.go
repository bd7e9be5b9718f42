package scope

import (
	"context"
	"fmt"
	"time"
)

// Shield calls fn with a context that has ctx's values but not its end, for clean-up that the caller's cancellation
// must not reach: to settle the message in hand, to say goodbye. It ends after timeout, with a cause that says so;
// a timeout of zero or less is none. Shield returns fn's error; one that only says that the time was up comes with
// that cause, so that no scope takes it for an echo of its own cancellation.
func Shield(ctx context.Context, timeout time.Duration, fn func(ctx context.Context) error) error {
	ctx = context.WithoutCancel(ctx)
	if timeout <= 0 {
		return fn(ctx)
	}
	cause := overrun(timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, cause)
	defer cancel()
	err := fn(ctx)
	if err == nil || ctx.Err() == nil || !all(err, isDeadline) {
		return err
	}
	return fmt.Errorf("%w: %w", cause, err)
}

func isDeadline(err error, leaf bool) bool {
	return leaf && err == context.DeadlineExceeded //nolint:errorlint // a leaf wraps nothing
}

// overrun is the cause of a shielded context that took too long.
type overrun time.Duration

func (o overrun) Error() string {
	return fmt.Sprintf("scope: shielded clean-up exceeded %v", time.Duration(o))
}

// Unwrap says what kind of error this is.
func (o overrun) Unwrap() error { return context.DeadlineExceeded }
