package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/integration/proxy"
	"github.com/leveret-mq/leveret/integration/rabbit"
)

// gateway is a proxy in front of a broker, and a strike that is prepared.
type gateway struct {
	*proxy.Proxy
	strike atomic.Pointer[strike]
}

// strike hits the frame in a direction that comes after so many others.
type strike struct {
	direction proxy.Direction
	countdown int
	verdict   proxy.Verdict
	struck    atomic.Bool
}

// newGateway leads to the broker of cfg, under the eyes of w if there is one.
func newGateway(t *testing.T, cfg *amqp.Config, w *witness) *gateway {
	t.Helper()
	p, err := proxy.Start(address(*cfg))
	require.NoError(t, err)
	t.Cleanup(p.Close)
	cfg.Host, cfg.Port = "127.0.0.1", p.Port()
	g := &gateway{Proxy: p}
	p.OnFrame(func(f proxy.Frame) proxy.Verdict {
		if w != nil {
			w.see(f)
		}
		return g.judge(f)
	})
	return g
}

func (g *gateway) judge(f proxy.Frame) proxy.Verdict {
	s := g.strike.Load()
	if s == nil || s.direction != f.Direction {
		return proxy.Pass
	}
	if s.countdown--; s.countdown > 0 {
		return proxy.Pass
	}
	g.strike.Store(nil)
	s.struck.Store(true)
	return s.verdict
}

// storm is bad weather for a run's connections.
type storm struct {
	*run
	rnd   *rand.Rand
	gates []*gateway
}

// faults are what the network does, each with a name. Each returns when the
// network is as it was.
var faults = []struct {
	name string
	do   func(s *storm, g *gateway, d proxy.Direction) error
}{
	{"reset", func(_ *storm, g *gateway, _ proxy.Direction) error { g.ResetAll(); return nil }},
	{"reset instead of a frame", func(s *storm, g *gateway, d proxy.Direction) error { return s.strike(g, d, proxy.Reset) }},
	{"reset within a frame", func(s *storm, g *gateway, d proxy.Direction) error { return s.strike(g, d, proxy.Half) }},
	{"reset behind a frame", func(s *storm, g *gateway, d proxy.Direction) error { return s.strike(g, d, proxy.PassReset) }},
	{"stall", func(s *storm, g *gateway, d proxy.Direction) error {
		g.Hold(d, true)
		defer g.Hold(d, false)
		return s.pause(50, 400)
	}},
	{"stall and reset", func(s *storm, g *gateway, d proxy.Direction) error {
		g.Hold(d, true)
		defer g.Hold(d, false)
		defer g.ResetAll()
		return s.pause(20, 200)
	}},
	{"refusal", func(s *storm, g *gateway, _ proxy.Direction) error {
		g.Refuse(true)
		defer g.Refuse(false)
		g.ResetAll()
		return s.pause(50, 400)
	}},
	{"limit", func(s *storm, g *gateway, d proxy.Direction) error {
		g.Bandwidth(d, 20_000+s.rnd.IntN(100_000))
		defer g.Bandwidth(d, 0)
		return s.pause(50, 400)
	}},
	{"crumbs", func(s *storm, g *gateway, d proxy.Direction) error {
		g.Chunk(d, 1+s.rnd.IntN(9))
		defer g.Chunk(d, 0)
		return s.pause(50, 200)
	}},
	{"latency", func(s *storm, g *gateway, d proxy.Direction) error {
		g.Delay(d, time.Duration(1+s.rnd.IntN(30))*time.Millisecond)
		defer g.Delay(d, 0)
		return s.pause(50, 200)
	}},
	{"silence", func(s *storm, g *gateway, d proxy.Direction) error {
		// Only heartbeats tell that frames are gone. The gateway's other
		// connection may not go on without them either, nor one that is made
		// meanwhile: what has lost frames is reset when no more are lost.
		before := s.book.cutsSoFar()
		g.BlackHole(d, true)
		defer g.ResetAll()
		defer g.BlackHole(d, false)
		return until(s.ctx, "a missing heartbeat", func() bool { return s.book.cutsSoFar() > before })
	}},
}

func (s *storm) strike(g *gateway, d proxy.Direction, v proxy.Verdict) error {
	hit := &strike{direction: d, countdown: 1 + s.rnd.IntN(100), verdict: v}
	g.strike.Store(hit)
	return until(s.ctx, "a frame to strike at", hit.struck.Load)
}

func randomDirection(rnd *rand.Rand) proxy.Direction { return proxy.Direction(rnd.IntN(2)) }

// pause lets some milliseconds go by.
func (s *storm) pause(least, most int) error {
	timer := time.NewTimer(time.Duration(least+s.rnd.IntN(most-least)) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

// testNetwork has a network between the clients and the broker that resets, cuts
// frames, stalls, limits, refuses and falls silent, at random.
func testNetwork(t *testing.T, node *rabbit.Node) {
	witness := newWitness()
	publisher, consumer, admin := config(t, node), config(t, node), config(t, node)
	gates := []*gateway{newGateway(t, &publisher, nil), newGateway(t, &consumer, witness)}
	r := start(t, plan{
		queue: amqp.Queue{Name: "network", Durable: true}, publisher: publisher,
		consumers: []amqp.Config{consumer, consumer}, admin: admin, witness: witness,
	})
	s := &storm{run: r, rnd: rand.New(rand.NewPCG(*seed, 2)), gates: gates}
	count := rounds(len(faults), 6*len(faults))
	order := s.rnd.Perm(count) // every fault comes at least once
	for i, n := range order {
		f, g, d := faults[n%len(faults)], s.rnd.IntN(len(gates)), randomDirection(s.rnd)
		began := time.Now()
		require.NoError(t, f.do(s, gates[g], d), "%s, fault %d", f.name, i+1)
		r.recovered(f.name, began)
		if long() {
			r.share(count + 1)
		}
	}
	a := r.finish()
	require.Positive(t, a.cuts["publisher"]+a.cuts["consumer"], fmt.Sprint(a.cuts))
}
