// Package demo decides which broker an example talks to, so that every example
// runs on a machine with nothing but Go.
//
// With AMQP_URL set it is that broker. Without, it is one inside the process,
// which ends with the program; a program that needs a counterpart, as a receiver
// needs a sender, gets one beside it.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
	"github.com/leveret-mq/leveret/scope"
)

// Program is what an example does with the broker of cfg. It returns when it is
// done, or when ctx ends.
type Program func(ctx context.Context, cfg amqp.Config) error

// Main runs a program that is complete in itself. Ctrl-C ends its ctx.
func Main(program Program) {
	run(program, func(ctx context.Context, cfg amqp.Config, _ *amqptest.Broker) error {
		return program(ctx, cfg)
	})
}

// Consumer runs a program that consumes until Ctrl-C. Beside an embedded broker
// publisher is its counterpart, and the program ends when it has handled what
// that has published.
func Consumer(program, publisher Program) {
	run(program, func(ctx context.Context, cfg amqp.Config, b *amqptest.Broker) error {
		return together(ctx, cfg, b, program, publisher)
	})
}

// Publisher runs a program that publishes and ends. Beside an embedded broker
// consumer is its counterpart.
func Publisher(program, consumer Program) {
	run(program, func(ctx context.Context, cfg amqp.Config, b *amqptest.Broker) error {
		return together(ctx, cfg, b, consumer, program)
	})
}

// run finds the broker: alone goes to that of AMQP_URL, and embedded is used with
// one in this process.
func run(alone Program, embedded func(context.Context, amqp.Config, *amqptest.Broker) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	var err error
	if uri := os.Getenv("AMQP_URL"); uri != "" {
		err = onBroker(ctx, uri, alone)
	} else {
		fmt.Println("(AMQP_URL is not set: this runs on a broker inside the program)")
		b := amqptest.NewBroker()
		err = onBroker(ctx, b.URI(), func(ctx context.Context, cfg amqp.Config) error {
			return embedded(ctx, cfg, b)
		})
		b.Close()
	}
	interrupted := ctx.Err() != nil && errors.Is(err, context.Cause(ctx))
	stop()
	if err != nil && !interrupted {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func onBroker(ctx context.Context, uri string, program Program) error {
	cfg, err := amqp.ParseURI(uri)
	if err != nil {
		return err
	}
	return program(ctx, cfg)
}

// together runs publisher when consumer is there, and ends consumer when nothing
// is left to be handled.
func together(ctx context.Context, cfg amqp.Config, b *amqptest.Broker, consumer, publisher Program) error {
	return scope.Run(ctx, func(s *scope.Scope) error {
		s.Go(func(ctx context.Context) error { return consumer(ctx, cfg) })
		if err := b.Wait(s.Context(), func() bool { return len(b.Consumers()) > 0 }); err != nil {
			return err
		}
		if err := publisher(s.Context(), cfg); err != nil {
			return err
		}
		if err := b.Wait(s.Context(), func() bool { return idle(b) }); err != nil {
			return err
		}
		s.Cancel(nil)
		return nil
	})
}

func idle(b *amqptest.Broker) bool {
	for _, q := range b.Queues() {
		if q.Ready+q.Unacked > 0 {
			return false
		}
	}
	return true
}
