package scope

import (
	"context"
	"errors"
	"reflect"
	"slices"
)

// isEcho reports whether err says nothing but that the scope's context, which has ended, has ended: whether all that it
// is made of is the cause, the cause of an interruption, or the error of the context. The lock is held.
func (s *Scope) isEcho(err error) bool {
	cause, timedOut := context.Cause(s.ctx), s.timedOut()
	return all(err, func(err error, leaf bool) bool {
		switch {
		case same(err, cause), s.broken != nil && same(err, s.broken):
			return true
		case !leaf:
			return false
		case errors.Is(err, context.Canceled): // Is, because net has its own spelling of it
			return true
		default:
			return timedOut && errors.Is(err, context.DeadlineExceeded)
		}
	})
}

// timedOut reports whether a deadline around the scope has passed. If none has, a task that exceeded a deadline
// exceeded one of its own, and that is a failure.
func (s *Scope) timedOut() bool {
	return s.ctx.Err() == context.DeadlineExceeded ||
		s.caller.Err() == context.DeadlineExceeded ||
		s.outer != nil && s.outer.ctx.Err() == context.DeadlineExceeded
}

// all reports whether err's tree consists of what is accepted: err itself, or else all that it wraps. An overrun is
// never accepted by what it wraps, since the clean-up that it cut short is not what the cancellation cut short.
func all(err error, accept func(err error, leaf bool) bool) bool {
	switch e := err.(type) { //nolint:errorlint // it goes through the tree itself
	case overrun:
		return accept(err, false)
	case interface{ Unwrap() error }:
		if accept(err, false) {
			return true
		}
		if inner := e.Unwrap(); inner != nil {
			return all(inner, accept)
		}
	case interface{ Unwrap() []error }:
		if accept(err, false) {
			return true
		}
		if inner := e.Unwrap(); len(inner) > 0 {
			return !slices.ContainsFunc(inner, func(err error) bool { return err == nil || !all(err, accept) })
		}
	}
	return accept(err, true)
}

// contains reports whether target itself, not only something that claims to be it, is in err's tree.
func contains(err, target error) bool {
	if same(err, target) {
		return true
	}
	switch e := err.(type) { //nolint:errorlint // it goes through the tree itself
	case interface{ Unwrap() error }:
		inner := e.Unwrap()
		return inner != nil && contains(inner, target)
	case interface{ Unwrap() []error }:
		return containsAny(e.Unwrap(), target)
	}
	return false
}

// containsAny reports whether target is in one of the trees.
func containsAny(errs []error, target error) bool {
	return slices.ContainsFunc(errs, func(err error) bool { return err != nil && contains(err, target) })
}

// same is a == b, also for errors of a type that Go cannot compare: an error made of a slice, say.
func same(a, b error) bool {
	switch {
	case reflect.TypeOf(a) != reflect.TypeOf(b):
		return false
	case reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable():
		return a == b //nolint:errorlint // itself, and not something that claims to be it
	default:
		return reflect.DeepEqual(a, b)
	}
}
