package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// The rules that the whole API obeys have a file of tests each, rule_*_test.go. Most of them run in a bubble of
// testing/synctest, where "everybody waits" is something that a test can know.

// world is a bubble's broker, and how to reach it.
type world struct {
	*testing.T
	broker *amqptest.Broker
	cfg    amqp.Config
}

// patience is the bubble's time after which a test counts as hanging. Real time hardly passes meanwhile.
const patience = 100 * time.Hour

// bubble runs test with a broker of its own, where time passes only while everybody waits.
func bubble(t *testing.T, test func(w *world), opts ...amqptest.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		guard := time.AfterFunc(patience, func() {
			stacks := make([]byte, 1<<20)
			fmt.Fprintf(os.Stderr, "%s hangs:\n%s\n", t.Name(), stacks[:runtime.Stack(stacks, true)])
			os.Exit(2)
		})
		defer guard.Stop()
		broker := amqptest.NewBroker(append([]amqptest.Option{amqptest.InMemory()}, opts...)...)
		defer broker.Close()
		test(&world{t, broker, amqp.Config{Dial: broker.Dial, Logger: slog.New(slog.DiscardHandler)}})
	})
}

// connect runs body on a connection of its own, with a context that nothing ends.
func (w *world) connect(body func(*amqp.Conn) error) error {
	return amqp.WithConnection(context.Background(), w.cfg, body)
}

// channel runs body on a channel of its own, with a context that nothing ends.
func (w *world) channel(body func(*amqp.Channel) error) error {
	return amqp.WithChannel(context.Background(), w.cfg, body)
}

// queue declares a queue and fills it with messages "0", "1", … from another connection.
func (w *world) queue(name string, messages int) {
	w.Helper()
	require.NoError(w, w.channel(func(ch *amqp.Channel) error {
		if _, err := ch.QueueDeclare(ch.Context(), amqp.Queue{Name: name, Durable: true}); err != nil {
			return err
		}
		return fill(ch, name, 0, messages)
	}))
}

// flood publishes n messages of so many bytes, and waits for the broker to have them.
func (w *world) flood(queue string, n, size int) {
	w.Helper()
	require.NoError(w, w.channel(func(ch *amqp.Channel) error {
		for range n {
			if err := ch.Publish(ch.Context(), "", queue, amqp.Message{Body: make([]byte, size)}); err != nil {
				return err
			}
		}
		return ch.Confirm(ch.Context())
	}))
}

// fill publishes messages numbered from first on, and waits for the broker to have them.
func fill(ch *amqp.Channel, queue string, first, n int) error {
	return ch.WithPublisher(ch.Context(), amqp.PublisherOptions{}, func(p *amqp.Publisher) error {
		for i := range n {
			if _, err := p.Publish(p.Context(), "", queue, amqp.Message{Body: fmt.Append(nil, first+i)}); err != nil {
				return err
			}
		}
		return nil
	})
}

// state is what the broker knows of a queue.
func (w *world) state(queue string) amqptest.QueueInfo {
	w.Helper()
	info, ok := w.broker.Queue(queue)
	require.True(w, ok, "queue %q", queue)
	return info
}

// bodies lists what is ready in a queue.
func (w *world) bodies(queue string) (list []string) {
	for _, m := range w.broker.Messages(queue) {
		list = append(list, string(m.Body))
	}
	return list
}

// journal collects what happened, in order.
type journal struct {
	mu      sync.Mutex
	entries []string
}

func (j *journal) note(entry string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, entry)
}

func (j *journal) read() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.entries...)
}

// listen notes every one of the methods that arrives at the broker.
func (j *journal) listen(b *amqptest.Broker, methods ...string) {
	for _, m := range methods {
		b.On(m, func(e *amqptest.Event) amqptest.Action {
			if e.Direction == amqptest.ToBroker {
				j.note(e.Method)
			}
			return amqptest.Pass()
		})
	}
}

// lose has the broker lose every method of a name.
func (w *world) lose(method string) (stop func()) {
	return w.broker.On(method, func(*amqptest.Event) amqptest.Action { return amqptest.Drop() })
}

// slow delays every method of a name.
func (w *world) slow(method string, d time.Duration) (stop func()) {
	return w.broker.On(method, func(*amqptest.Event) amqptest.Action { return amqptest.Delay(d) })
}

// asException is the broker's exception in err, or nil.
func asException(err error) *amqp.Error {
	var e *amqp.Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// flat counts the errors that are joined in err.
func flat(err error) int {
	if err == nil {
		return 0
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok && fmt.Sprintf("%T", err) == "*errors.joinError" {
		n := 0
		for _, e := range many.Unwrap() {
			n += flat(e)
		}
		return n
	}
	return 1
}
