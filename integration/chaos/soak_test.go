package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/integration/rabbit"
	"github.com/leveret-mq/leveret/scope"
)

var duration = flag.Duration("duration", 10*time.Second, "how long TestSoak lasts, at least")

// roundLength is how long one round of a soak lasts. The book of a round is closed
// with it, so that the heap between two rounds is the client's.
const roundLength = time.Minute

// spareHeap is what the heap may have grown by: caches of the runtime and of the
// tests, and no more after an hour than after a minute.
const spareHeap = 2 << 20

// Everything at once, for as long as one likes: messages through an outbox and to
// consumers as in all runs, connections, channels, publishers and consumers that
// come and go, one connection that stays, and in every round an operator and a
// network that fails. What is left at the end is what was there at the start.
func TestSoak(t *testing.T) {
	node := startNode(t)
	(&soak{node: node, cfg: config(t, node), rnd: rand.New(rand.NewPCG(*seed, 4))}).last(t)
}

// last is the whole of a soak.
func (s *soak) last(t *testing.T) {
	begun, before := time.Now(), footprint()
	t.Logf("seed %d, %v", *seed, *duration)
	require.NoError(t, scope.Run(t.Context(), func(around *scope.Scope) error {
		around.Go(s.stay)
		defer s.done.Store(true)
		for n := 1; n == 1 || time.Since(begun) < *duration; n++ {
			length := min(roundLength, *duration-time.Since(begun))
			if !t.Run("Round"+strconv.Itoa(n), func(t *testing.T) { s.round(t, length) }) {
				return errors.New("a round failed")
			}
			t.Logf("after %v and %d rounds: %v; %v", time.Since(begun).Round(time.Second), n, s.sum.summary(), footprint())
		}
		return nil
	}))
	var after trace
	err := until(t.Context(), "goroutines", func() bool { after = footprint(); return after.goroutines <= before.goroutines })
	t.Logf("summary: seed %d, %s of %v: %v\n  %v\n  at the start %v, at the end %v",
		*seed, t.Name(), time.Since(begun).Round(time.Second), s.sum.summary(), &s.guests, before, after)
	require.NoError(t, err)
	assert.LessOrEqual(t, after.heap, before.heap+spareHeap, "bytes of heap")
	assert.Zero(t, s.sum.lost)
}

// soak is a long run, made of rounds.
type soak struct {
	node   *rabbit.Node
	cfg    amqp.Config // straight to it
	rnd    *rand.Rand
	next   int // the intervention that is due
	sum    account
	guests guests
	done   atomic.Bool
}

// guests counts what came and went beside the runs' own.
type guests struct{ connections, channels, messages atomic.Int64 }

func (g *guests) String() string {
	return fmt.Sprintf("%d connections and %d channels came and went, each channel with a queue, a publisher and a consumer of %d messages in all",
		g.connections.Load(), g.channels.Load(), g.messages.Load())
}

// trace is what the program takes up.
type trace struct {
	heap       uint64
	goroutines int
}

func (f trace) String() string {
	return fmt.Sprintf("%d goroutines and %.1f MB of heap", f.goroutines, float64(f.heap)/1e6)
}

// footprint collects the garbage first, twice for what sync.Pools keep.
func footprint() trace {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return trace{m.HeapAlloc, runtime.NumGoroutine()}
}

// round is a run in which something goes wrong all the time.
func (s *soak) round(t *testing.T, length time.Duration) {
	end := time.Now().Add(length)
	witness := newWitness()
	publisher, consumer := s.cfg, s.cfg
	gates := []*gateway{newGateway(t, &publisher, nil), newGateway(t, &consumer, witness)}
	r := start(t, plan{
		queue: amqp.Queue{Name: "soak", Durable: true}, publisher: publisher, consumers: []amqp.Config{consumer, consumer},
		admin: s.cfg, witness: witness, atLeast: 1000, publishers: 16, pace: 4 * time.Millisecond,
	})
	var over atomic.Bool
	require.NoError(t, scope.Run(r.ctx, func(around *scope.Scope) error {
		defer over.Store(true)
		for range 2 {
			around.Go(func(ctx context.Context) error { return s.comeAndGo(ctx, client(publisher, "guest"), &over) })
		}
		return s.trouble(t, &storm{run: r, rnd: s.rnd, gates: gates}, end)
	}))
	a := r.finish()
	s.sum.add(a)
}

// trouble has an operator intervene once, and the network fail until the end.
func (s *soak) trouble(t *testing.T, w *storm, end time.Time) error {
	does := interventions[s.next%len(interventions)]
	if time.Until(end) < roundLength/2 {
		does = interventions[s.next%2] // the others take their time
	}
	s.next++
	began := time.Now()
	does.do(t, w.run, s.node, w.rnd)
	w.recovered(does.name, began)
	for time.Now().Before(end) {
		if err := w.pause(50, 500); err != nil {
			return err
		}
		f, g, d := faults[s.rnd.IntN(len(faults))], s.rnd.IntN(len(w.gates)), randomDirection(s.rnd)
		began := time.Now()
		if err := f.do(w, w.gates[g], d); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		w.recovered(f.name, began)
	}
	w.observe()
	return nil
}

// comeAndGo makes one connection after the other, each for a few channels.
func (s *soak) comeAndGo(ctx context.Context, cfg amqp.Config, over *atomic.Bool) error {
	for !over.Load() {
		err := amqp.Supervise(ctx, cfg, retry, func(conn *amqp.Conn) error {
			s.guests.connections.Add(1)
			for range 5 {
				if err := s.visit(conn); err != nil {
					return err
				}
			}
			return nil
		})
		if !ofTrouble(err) {
			return fmt.Errorf("a guest: %w", err)
		}
	}
	return nil
}

// ofTrouble tells whether a connection ended well, or by the trouble that is made
// here: it was lost on its goodbye, or that was held up for too long.
func ofTrouble(err error) bool {
	return err == nil || errors.Is(err, amqp.ErrConnectionClosed) || errors.Is(err, context.DeadlineExceeded)
}

// stay is the life of the connection that stays from the first round to the last,
// as long as it is let.
func (s *soak) stay(ctx context.Context) error {
	for !s.done.Load() {
		err := amqp.Supervise(ctx, client(s.cfg, "resident"), retry, func(conn *amqp.Conn) error {
			for !s.done.Load() {
				if err := s.visit(conn); err != nil {
					return err
				}
			}
			return nil
		})
		if !ofTrouble(err) {
			return fmt.Errorf("the resident: %w", err)
		}
	}
	return nil
}

// visit opens a channel, sends messages to a queue of its own, and receives them.
func (s *soak) visit(conn *amqp.Conn) error {
	const count = 50
	return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
		s.guests.channels.Add(1)
		q, err := ch.QueueDeclare(ch.Context(), amqp.Queue{Exclusive: true, AutoDelete: true})
		if err != nil {
			return err
		}
		err = ch.WithPublisher(ch.Context(), amqp.PublisherOptions{Mandatory: true, MaxInFlight: 10}, func(p *amqp.Publisher) error {
			for n := range count {
				if _, err := p.Publish(p.Context(), "", q.Name, amqp.Message{Body: fmt.Append(nil, n)}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		return ch.WithConsumer(ch.Context(), amqp.Consume{Queue: q.Name, Prefetch: 20}, func(c *amqp.Consumer) error {
			n := 0
			for body, env := range c.Messages() {
				if string(body) != strconv.Itoa(n) {
					return fmt.Errorf("message %d of %s is %q", n, q.Name, body)
				}
				if err := env.Ack(); err != nil {
					return err
				}
				s.guests.messages.Add(1)
				if n++; n == count {
					return nil
				}
			}
			return c.Err()
		})
	})
}
