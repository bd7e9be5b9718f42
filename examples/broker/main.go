// Broker serves the in-process broker of package amqptest to other programs, until
// Ctrl-C. It keeps nothing on disk.
//
//	go run ./examples/broker -broker 127.0.0.1:5673
//	AMQP_URL=amqp://127.0.0.1:5673/ go run ./examples/receive
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net"
	"os"
	"os/signal"

	"github.com/leveret-mq/leveret/amqp/amqptest"
)

func main() {
	addr := flag.String("broker", "127.0.0.1:5672", "the address to serve on")
	flag.Parse()
	if err := serve(*addr); err != nil {
		log.Fatal(err)
	}
}

func serve(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	b := amqptest.NewBroker(amqptest.WithListener(l), amqptest.WithLogger(slog.Default()))
	defer b.Close()
	fmt.Printf("AMQP_URL=%s\n", b.URI())

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	<-ctx.Done()
	return nil
}
