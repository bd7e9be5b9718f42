// Perf loads a broker and tells what it bears: how many messages a second, how long
// each takes from the publisher to the consumer, and how long its confirm takes.
// All sides are in this process, each on a connection of its own.
//
//	go run ./examples/perf -duration 10s -producers 2 -consumers 2 -size 1024 -confirm 200
//	go run ./examples/perf -rate 1000 -kind quorum -ack 50 -prefetch 500 -json result.json
//
// Without AMQP_URL it loads the broker inside the program, which is made for tests
// and not for load.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/examples/internal/demo"
)

func main() {
	opts, err := parse(os.Args[1:])
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	demo.Main(func(ctx context.Context, cfg amqp.Config) error {
		result, err := newRun(opts).do(ctx, cfg)
		if err != nil {
			return err
		}
		fmt.Print(result)
		return result.save(opts.JSON)
	})
}
