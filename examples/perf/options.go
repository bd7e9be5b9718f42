package main

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/leveret-mq/leveret/amqp"
)

// options are what the command line says.
type options struct {
	Producers, Consumers, Queues int
	Queue, Kind, Arguments       string
	Size                         int
	Persistent                   bool
	Rate, ConsumerRate           float64 // messages a second for each; 0: no limit
	Confirm                      int     // unconfirmed messages at most; 0: no confirms
	Prefetch                     int
	Ack                          int // 0: none, the broker counts messages as settled; 1: each; more: so many at once
	Duration                     time.Duration
	Messages                     int // of each producer; 0: no limit
	Drain                        time.Duration
	JSON                         string `json:"-"`
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("perf", flag.ContinueOnError)
	f.IntVar(&o.Producers, "producers", 1, "how many `connections` publish")
	f.IntVar(&o.Consumers, "consumers", 1, "how many `connections` consume")
	f.IntVar(&o.Queues, "queues", 1, "how many `queues` they share, in turn")
	f.StringVar(&o.Queue, "queue", "", "the queue's `name`, which is kept afterwards (default: queues of this run, which are deleted)")
	f.StringVar(&o.Kind, "kind", "classic", "the queues' `type`: classic, quorum or stream")
	f.StringVar(&o.Arguments, "arguments", "", "more queue arguments, `key=value,…`")
	f.IntVar(&o.Size, "size", 1000, "`bytes` of a message's body, at least 16")
	f.BoolVar(&o.Persistent, "persistent", false, "have the broker write messages to disk")
	f.Float64Var(&o.Rate, "rate", 0, "`messages` a second of each producer (0: as many as possible)")
	f.Float64Var(&o.ConsumerRate, "consumer-rate", 0, "`messages` a second of each consumer (0: as many as possible)")
	f.IntVar(&o.Confirm, "confirm", 0, "wait when so many `messages` of a producer are unconfirmed (0: no confirms)")
	f.IntVar(&o.Prefetch, "prefetch", 0, "unsettled `messages` of a consumer at most (0: 256; negative: no limit)")
	f.IntVar(&o.Ack, "ack", 1, "acknowledge so many `messages` at once (0: no acknowledgements)")
	f.DurationVar(&o.Duration, "duration", 10*time.Second, "publish for so `long` (0: without end)")
	f.IntVar(&o.Messages, "messages", 0, "publish so many `messages` for each producer (0: without end)")
	f.DurationVar(&o.Drain, "drain", 5*time.Second, "how `long` the consumers wait for the next message at the end")
	f.StringVar(&o.JSON, "json", "", "write the result to this `file` as well")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	return o, o.check()
}

// check refuses what can't work.
func (o *options) check() error {
	prefetch := o.Prefetch
	if prefetch == 0 {
		prefetch = 256
	}
	switch {
	case o.Producers < 0 || o.Consumers < 0 || o.Producers+o.Consumers == 0:
		return errors.New("there has to be a producer or a consumer")
	case o.Queues < 1 || o.Queues > 1 && o.Queue != "":
		return errors.New("-queues has to be positive, and 1 with -queue")
	case o.Size < stampSize:
		return fmt.Errorf("-size has to be %d at least: the body carries the time", stampSize)
	case o.Rate < 0 || o.ConsumerRate < 0 || o.Confirm < 0 || o.Ack < 0 || o.Duration < 0 || o.Messages < 0 || o.Drain < 0:
		return errors.New("no number may be negative, except for -prefetch")
	case o.Ack > 1 && prefetch > 0 && o.Ack > prefetch:
		return fmt.Errorf("-ack %d would wait for ever: the broker sends no more than the -prefetch of %d", o.Ack, prefetch)
	case o.Kind == amqp.StreamQueue && (o.Ack == 0 || o.Prefetch < 0):
		return errors.New("a stream is consumed with acknowledgements and a prefetch")
	}
	_, err := o.arguments()
	return err
}

// arguments are those of the queues.
func (o *options) arguments() (amqp.Table, error) {
	args := amqp.Table{"x-queue-type": o.Kind}
	for pair := range strings.SplitSeq(o.Arguments, ",") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, fmt.Errorf("-arguments: %q is not key=value", pair)
		}
		if n, err := strconv.Atoi(value); err == nil {
			args[key] = n
		} else if b, err := strconv.ParseBool(value); err == nil {
			args[key] = b
		} else {
			args[key] = value
		}
	}
	return args, nil
}
