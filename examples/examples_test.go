package examples_test

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/integration/rabbit"
)

// alone are the programs that end by themselves on any broker, with what they print.
var alone = map[string][]string{
	"hello":            {"published, and confirmed by the broker", `received "Hello, hare!"`},
	"send_with_return": {`returned "is anybody there?": 312 NO_ROUTE`, "the message was returned as unroutable: 312 NO_ROUTE"},
	"graceful":         {"finished job 0", "shutting down: finishing what has begun", "jobs are left in the queue"},
	"batch":            {"inserted 100 rows, 700 bytes", "inserted 50 rows, 400 bytes"},
	"perf":             {"published        200", "received         200", "confirmed        200   failed 0", "latency", "99.9 %"},
	"outbox":           {"ordered 3 carrots: 202 Accepted", "somebody pulls the cable", "ordered 4 carrots: 202 Accepted", "ordered 6 carrots: 202 Accepted"},
}

// arguments are for programs that would take long without.
var arguments = map[string][]string{
	"perf": {"-messages", "100", "-producers", "2", "-rate", "100", "-consumers", "2", "-confirm", "10", "-ack", "5", "-size", "100"},
}

// paired are those that play both sides when there is no broker to share.
var paired = map[string][]string{
	"send":                {`sent "Hello World!"`, `(the other side received "Hello World!")`},
	"receive":             {`received "Hello World!"`},
	"new_task":            {`sent task "third..."`, `(the other side received "third...")`},
	"worker":              {`done with "first."`, `done with "second.."`},
	"emit_log":            {`sent "info: Hello World!"`, `(the other side received "info: Hello World!")`},
	"receive_logs":        {`received "info: Hello World!"`},
	"emit_log_direct":     {`sent "Hello World!" as "info"`, `(the other side received "Hello World!")`},
	"receive_logs_direct": {`received "all is well" as "info"`, `received "the disk is nearly full" as "warning"`},
	"emit_log_topic":      {`sent "Hello World!" as "anonymous.info"`, `(the other side received "Hello World!")`},
	"receive_logs_topic":  {`received "a new disk" as "kern.info"`, `received "no more time" as "cron.critical"`},
	"rpc_client":          {"fib(10) = 55", "fib(50) = 12586269025"},
	"rpc_server":          {"fib(30)", "got 832040"},
}

// With nothing but Go, every program does something, says on which broker, and ends.
func TestWithoutBroker(t *testing.T) {
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, e := range entries {
		if name := e.Name(); e.IsDir() && name != "internal" && name != "broker" {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				want := slices.Concat(alone[name], paired[name])
				require.NotEmpty(t, want, "a program that no test knows")
				said := start(t, "", name, arguments[name]...).ends()
				for _, text := range append(want, "this runs on a broker inside the program") {
					require.Contains(t, said, text)
				}
				require.NotContains(t, said, "which nobody asked for)")
				require.NotContains(t, said, `received "which nobody asked for"`)
			})
		}
	}
}

// The programs with a broker that they share: the one that examples/broker serves.
func TestWithServedBroker(t *testing.T) {
	needInterrupt(t)
	b := start(t, "", "broker", "-broker", "127.0.0.1:0")
	b.says("\n")
	uri := strings.TrimSpace(strings.TrimPrefix(b.output.String(), "AMQP_URL="))
	withBroker(t, uri)
	b.interrupted()
}

// The programs with a real RabbitMQ.
func TestWithRabbitMQ(t *testing.T) {
	needInterrupt(t)
	rabbit.Need(t)
	ctx := t.Context()
	node, err := rabbit.Open(ctx, rabbit.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, node.Stop(context.WithoutCancel(ctx))) }()
	const vhost = "leveret-examples"
	require.NoError(t, node.NewVhost(ctx, vhost))
	defer func() { require.NoError(t, node.DeleteVhost(context.WithoutCancel(ctx), vhost)) }()
	withBroker(t, node.URI(vhost))
}

func needInterrupt(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED: Windows has no signal by which a test can press Ctrl-C")
	}
}

func withBroker(t *testing.T, uri string) {
	t.Helper()
	t.Run("alone", func(t *testing.T) {
		for name, want := range alone {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				said := start(t, uri, name, arguments[name]...).ends()
				for _, text := range want {
					require.Contains(t, said, text)
				}
				require.NotContains(t, said, "inside the program")
			})
		}
	})
	t.Run("rpc_client without a server", func(t *testing.T) {
		p := start(t, uri, "rpc_client")
		p.says("start ./examples/rpc_server")
		require.Error(t, p.cmd.Wait())
	})
	t.Run("paired", func(t *testing.T) { pairs(t, uri) })
}

// pairs runs two programs that share a broker, until the consumer has got what it waits for.
func pairs(t *testing.T, uri string) {
	t.Helper()
	for _, pair := range []struct {
		consumer, publisher []string
		ready, got, tells   string
	}{
		{
			consumer: []string{"receive"}, ready: "waiting", publisher: []string{"send"}, tells: "sent",
			got: `received "Hello World!"`,
		},
		{
			consumer: []string{"worker"}, ready: "waiting", publisher: []string{"new_task", "quick.", "slow..."}, tells: "sent",
			got: `done with "slow..."`,
		},
		{
			consumer: []string{"receive_logs"}, ready: "waiting", publisher: []string{"emit_log", "warning:", "rain"}, tells: "sent",
			got: `received "warning: rain"`,
		},
		{
			consumer: []string{"receive_logs_direct", "error"}, ready: "waiting",
			publisher: []string{"emit_log_direct", "error", "Run.", "Run."}, tells: "sent",
			got: `received "Run. Run." as "error"`,
		},
		{
			consumer: []string{"receive_logs_topic", "kern.*"}, ready: "waiting",
			publisher: []string{"emit_log_topic", "kern.critical", "panic"}, tells: "sent",
			got: `received "panic" as "kern.critical"`,
		},
		{
			consumer: []string{"rpc_server"}, ready: "waiting", publisher: []string{"rpc_client"}, tells: "fib(50) = 12586269025",
			got: "fib(50)",
		},
	} {
		t.Run(pair.consumer[0], func(t *testing.T) {
			t.Parallel()
			consumer := start(t, uri, pair.consumer[0], pair.consumer[1:]...)
			consumer.says(pair.ready)
			said := start(t, uri, pair.publisher[0], pair.publisher[1:]...).ends()
			require.Contains(t, said, pair.tells)
			consumer.says(pair.got)
			consumer.interrupted()
		})
	}
}
