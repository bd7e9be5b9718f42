package amqptest

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// An argument of a queue: which kinds of queue take it, and how it is understood. A reader returns
// what RabbitMQ prints as the reason when the value won't do, or "".
type queueArgument struct {
	classic, quorum bool
	read            func(s *queueSettings, v any) (refusal string)
}

var queueArguments = map[string]queueArgument{
	"x-message-ttl": {true, true, func(s *queueSettings, v any) string {
		return readMilliseconds(v, true, &s.ttl)
	}},
	"x-expires": {true, true, func(s *queueSettings, v any) string {
		return readMilliseconds(v, false, &s.expires)
	}},
	"x-consumer-timeout": {true, true, func(s *queueSettings, v any) string {
		s.consumerLimitSet = true
		return readMilliseconds(v, true, &s.consumerTimeout)
	}},
	"x-max-length":       {true, true, func(s *queueSettings, v any) string { return readCount(v, &s.maxLength) }},
	"x-max-length-bytes": {true, true, func(s *queueSettings, v any) string { return readCount(v, &s.maxBytes) }},
	"x-delivery-limit":   {false, true, func(s *queueSettings, v any) string { return readCount(v, &s.deliveryLimit) }},
	"x-max-priority": {true, false, func(s *queueSettings, v any) string {
		refusal := readCount(v, &s.maxPriority)
		if refusal == "" && s.maxPriority > 255 {
			refusal = fmt.Sprintf("{max_value_exceeded,%d}", s.maxPriority)
		}
		return refusal
	}},
	"x-overflow": {true, true, func(s *queueSettings, v any) string {
		return readChoice(v, &s.overflow, "invalid_overflow", dropHead, rejectPublish, rejectPublishDLX)
	}},
	"x-dead-letter-exchange":    {true, true, func(s *queueSettings, v any) string { return readName(v, &s.deadExchange) }},
	"x-dead-letter-routing-key": {true, true, func(s *queueSettings, v any) string { return readName(v, &s.deadKey) }},
	"x-dead-letter-strategy": {false, true, func(_ *queueSettings, v any) string {
		return readChoice(v, new(string), "invalid_dlx_strategy", "at-most-once")
	}},
	"x-single-active-consumer": {true, true, func(s *queueSettings, v any) string {
		on, ok := v.(bool)
		if s.singleActive = on; !ok {
			return unacceptable(v)
		}
		return ""
	}},
	"x-queue-type": {true, true, func(*queueSettings, any) string { return "" }},
	// Where and how a node keeps a queue makes no difference to its clients.
	"x-queue-mode": {true, false, func(_ *queueSettings, v any) string {
		return readChoice(v, new(string), fmt.Sprintf("\"unsupported queue mode '%v'\"", v), "default", "lazy")
	}},
	"x-queue-version": {true, false, func(_ *queueSettings, v any) string {
		if n, ok := asInt(v); ok && n != 1 && n != 2 {
			return fmt.Sprintf("\"unsupported queue version '%d'\"", n)
		}
		return readCount(v, new(int))
	}},
	"x-queue-master-locator": {true, false, func(_ *queueSettings, v any) string {
		return readChoice(v, new(string), "invalid_master_locator", "min-masters", "client-local", "random")
	}},
	"x-queue-leader-locator": {false, true, func(_ *queueSettings, v any) string {
		return readChoice(v, new(string), "invalid_queue_locator_arg", "client-local", "balanced", "random", "least-leaders")
	}},
	// Messages that come again come at once here.
	"x-delayed-retry-type": {false, true, func(_ *queueSettings, v any) string {
		return readChoice(v, new(string), "invalid_delayed_retry_type", "disabled", "all", "failed", "returned")
	}},
	"x-delayed-retry-min":         {false, true, func(_ *queueSettings, v any) string { return readMilliseconds(v, false, new(time.Duration)) }},
	"x-delayed-retry-max":         {false, true, func(_ *queueSettings, v any) string { return readMilliseconds(v, false, new(time.Duration)) }},
	"x-quorum-initial-group-size": {false, true, func(_ *queueSettings, v any) string { return readCount(v, new(int)) }},
}

// newArguments are unknown to older versions.
var newArguments = []string{"x-consumer-timeout", "x-delayed-retry-type", "x-delayed-retry-min", "x-delayed-retry-max"}

// deprecatedArguments are refused by newer versions, as features that have a name.
var deprecatedArguments = map[string]string{"x-queue-master-locator": "queue_master_locator"}

func deprecated(feature string) *exception {
	return fail(internalError, "Feature `%s` is deprecated.\nBy default, this feature is not permitted anymore.", feature)
}

func olderThan(version any, oldest int64) bool {
	n, ok := asInt(version)
	return ok && n > 0 && n < oldest
}

// readQueueArguments understands the arguments of queue.declare. What the broker does not know it refuses:
// a test should not pass because an argument was ignored.
func (b *Broker) readQueueArguments(vhost, name string, arguments wire.Table) (queueSettings, *exception) {
	s := queueSettings{ttl: -1, expires: -1, maxLength: -1, maxBytes: -1, deliveryLimit: b.cfg.version.deliveryLimit, overflow: dropHead}
	who := subject("queue", name, vhost)
	if value, ok := arguments["x-queue-type"]; ok {
		kind, isString := value.(string)
		switch {
		case !isString:
			return s, fail(preconditionFailed, "invalid arg 'x-queue-type' for %s: %s", who, unacceptable(value))
		case kind == "quorum":
			s.quorum = true
		case kind != "classic":
			return s, fail(preconditionFailed, "invalid arg 'x-queue-type' for %s: \"unsupported queue type '%s'\"", who, kind)
		}
	}
	for _, arg := range slices.Sorted(maps.Keys(arguments)) {
		known, ok := queueArguments[arg]
		if !b.cfg.version.knowsNewArguments && slices.Contains(newArguments, arg) {
			ok = false // this version does not know it
		}
		switch {
		case b.cfg.version.deniesDeprecated && deprecatedArguments[arg] != "":
			return s, deprecated(deprecatedArguments[arg])
		case arg == "x-queue-version" && olderThan(arguments[arg], b.cfg.version.oldestQueueVersion):
			return s, fail(preconditionFailed, "invalid arg '%s' for %s: \"unsupported queue version '%d'\"", arg, who, arguments[arg])
		case !ok && b.cfg.arguments[arg]:
		case !ok:
			return s, fail(preconditionFailed, "invalid arg '%s' for %s: amqptest does not know it; WithArguments lets it pass", arg, who)
		case s.quorum && !known.quorum:
			return s, fail(preconditionFailed, "invalid arg '%s' for %s of queue type rabbit_quorum_queue", arg, who)
		case !s.quorum && !known.classic:
			return s, fail(preconditionFailed, "invalid arg '%s' for %s of queue type rabbit_classic_queue", arg, who)
		default:
			if e := readQueueArgument(&s, known, arg, arguments[arg], who); e != nil {
				return s, e
			}
		}
	}
	if s.deadKey != nil && s.deadExchange == nil {
		return s, fail(preconditionFailed, "invalid arg 'x-dead-letter-routing-key' for %s: routing_key_but_no_dlx_defined", who)
	}
	return s, nil
}

func readQueueArgument(s *queueSettings, known queueArgument, arg string, value any, who string) *exception {
	if _, isString := value.(string); arg == "x-dead-letter-exchange" && !isString {
		return fail(preconditionFailed, "invalid type '%s' for arg '%s' in %s", typeName(value), arg, who)
	}
	if refusal := known.read(s, value); refusal != "" {
		return fail(preconditionFailed, "invalid arg '%s' for %s: %s", arg, who, refusal)
	}
	return nil
}

func unacceptable(v any) string { return fmt.Sprintf("{unacceptable_type,%s}", typeName(v)) }

func readCount(v any, into *int) string {
	n, refusal := readNatural(v)
	if refusal == "" {
		*into = int(min(n, math.MaxInt))
	}
	return refusal
}

func readNatural(v any) (n int64, refusal string) {
	n, ok := asInt(v)
	switch {
	case !ok:
		return 0, fmt.Sprintf("\"expected integer, got %s\"", typeName(v))
	case n < 0:
		return 0, fmt.Sprintf("{value_negative,%d}", n)
	}
	return n, ""
}

func readMilliseconds(v any, zero bool, into *time.Duration) string {
	ms, refusal := readNatural(v)
	switch {
	case refusal != "":
		return refusal
	case ms == 0 && !zero:
		return "{value_zero,0}"
	case ms > maxTTL:
		return fmt.Sprintf("{value_too_large,%d}", ms)
	}
	*into = time.Duration(ms) * time.Millisecond
	return ""
}

func readChoice(v any, into *string, refusal string, choices ...string) string {
	text, ok := v.(string)
	switch {
	case !ok:
		return unacceptable(v)
	case !slices.Contains(choices, text):
		return refusal
	}
	*into = text
	return ""
}

func readName(v any, into **string) string {
	text, ok := v.(string)
	if !ok {
		return unacceptable(v)
	}
	*into = &text
	return ""
}
