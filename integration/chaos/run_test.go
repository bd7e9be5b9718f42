package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/scope"
)

// retry is how the clients reconnect, and recoveryLimit how much later than a
// bystander they are to be back at work after a broker is.
var (
	retry         = amqp.Retry{Min: 20 * time.Millisecond, Max: 500 * time.Millisecond}
	recoveryLimit = retry.Max + 2*time.Second
)

// plan says what a run is made of.
type plan struct {
	queue     amqp.Queue
	publisher amqp.Config   // of the outbox's connection
	consumers []amqp.Config // of one connection each
	admin     amqp.Config   // straight to a broker
	mandatory bool
	witness   *witness // nil: none

	atLeast    int           // messages to be confirmed; 0: what the flag says
	publishers int           // how many publish at the same time; 0: as the length of the run wants it
	pace       time.Duration // between two messages of one
}

// run is messages on their way from publishers to consumers.
type run struct {
	plan
	t      *testing.T
	book   *book
	outbox *amqp.Outbox
	ctx    context.Context // ends when the run does

	blocked      atomic.Bool   // what the publisher's connection was told last
	enough, idle chan struct{} // closed: publish no more, consume no more
	published    chan struct{} // closed when every Publish has returned
	over         chan struct{} // closed when the run is
	err          error         // why, then
	most         int           // goroutines seen at once
	began        time.Time
}

// start begins a run. The test maltreats the brokers then, and calls finish.
func start(t *testing.T, p plan) *run {
	t.Helper()
	if p.atLeast == 0 {
		p.atLeast = *messages
	}
	t.Logf("seed %d, at least %d messages", *seed, p.atLeast)
	r := &run{
		plan: p, t: t, book: &book{}, outbox: amqp.NewOutbox(amqp.OutboxOptions{Mandatory: p.mandatory}),
		enough: make(chan struct{}), idle: make(chan struct{}),
		published: make(chan struct{}), over: make(chan struct{}), began: time.Now(),
	}
	if p.publishers == 0 {
		r.publishers, r.pace = 8, 10*time.Millisecond
		if long() {
			r.publishers, r.pace = 48, time.Microsecond
		}
	}
	if p.witness != nil {
		p.witness.mayAck(r.book.wasHandled)
	}
	require.Zero(t, r.goroutines())
	ctx, cancel := context.WithCancelCause(bounded(t))
	r.ctx = ctx
	go func() {
		defer close(r.over)
		defer cancel(errors.New("the run is over"))
		labelledAs(t.Name(), func() { r.err = scope.Run(ctx, r.live) })
	}()
	t.Cleanup(func() {
		cancel(errors.New("the test is over"))
		r.stop(r.enough)
		r.stop(r.idle)
		<-r.over
	})
	require.NoError(t, r.sent(1))
	return r
}

func (r *run) stop(what chan struct{}) {
	select {
	case <-what:
	default:
		close(what)
	}
}

// client completes a connection's configuration. The time limits are short, for
// somebody who connects again.
func client(cfg amqp.Config, name string) amqp.Config {
	cfg.ConnectionName = name
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = time.Second
	}
	cfg.DialTimeout = 2 * time.Second
	cfg.CloseTimeout = time.Second
	cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	return cfg
}

// patiently is the same for a connection that nobody makes again: a machine that
// has other things to do must not cost it.
func patiently(cfg amqp.Config, name string) amqp.Config {
	cfg = client(cfg, name)
	cfg.Heartbeat, cfg.DialTimeout, cfg.CloseTimeout = time.Minute, time.Minute, time.Minute
	return cfg
}

// live is the life of the run: consumers, the outbox, and those who publish.
func (r *run) live(s *scope.Scope) error {
	for i, cfg := range r.consumers {
		s.Go(func(ctx context.Context) error {
			err := amqp.Supervise(ctx, client(cfg, fmt.Sprint("consumer ", i+1)), retry, r.consume)
			return wrap("consumer's Supervise", err)
		})
	}
	return scope.Run(s.Context(), func(outbox *scope.Scope) error {
		outbox.Go(func(ctx context.Context) error {
			cfg := client(r.publisher, "publisher")
			cfg.Trace = &amqp.Trace{Blocked: func(_ *amqp.Conn, blocked bool, _ string) { r.blocked.Store(blocked) }}
			return wrap("publisher's Supervise", amqp.Supervise(ctx, cfg, retry, r.send))
		})
		if err := scope.Run(outbox.Context(), r.publishing); err != nil {
			return err
		}
		if err := until(outbox.Context(), "the outbox", func() bool { return r.outbox.Len() == 0 }); err != nil {
			return err
		}
		close(r.published)
		outbox.Cancel(nil)
		return nil
	})
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// send is the publishing connection's body.
func (r *run) send(conn *amqp.Conn) (err error) {
	l := r.book.open("publisher")
	defer func() { r.book.close(l, err) }()
	r.blocked.Store(false)
	if err := r.declare(conn); err != nil {
		return err
	}
	return r.outbox.Run(conn)
}

func (r *run) declare(conn *amqp.Conn) error {
	return conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(ch.Context(), r.queue)
		return err
	})
}

// publishing is publishers that publish until there is enough.
func (r *run) publishing(s *scope.Scope) error {
	for i := range r.publishers {
		s.Go(func(ctx context.Context) error {
			rnd := rand.New(rand.NewPCG(*seed, uint64(i)))
			turn := time.NewTicker(r.pace)
			defer turn.Stop()
			for {
				select {
				case <-r.enough:
					return nil
				case <-ctx.Done():
					return nil
				case <-turn.C:
					r.publish(ctx, rnd)
				}
			}
		})
	}
	return nil
}

var padding = bytes.Repeat([]byte{'.'}, 2000)

// publish publishes one message. Every twentieth is in a hurry.
func (r *run) publish(ctx context.Context, rnd *rand.Rand) {
	n := r.book.begin()
	if rnd.IntN(20) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(1+rnd.IntN(40))*time.Millisecond)
		defer cancel()
	}
	body := append(fmt.Append(nil, n, " "), padding[:rnd.IntN(len(padding))]...)
	r.book.end(n, r.outbox.Publish(ctx, "", r.queue.Name, amqp.Message{
		Body: body, Properties: amqp.Properties{DeliveryMode: amqp.Persistent, MessageID: strconv.Itoa(n)},
	}))
}

// number is the number of the message that has this body.
func number(body []byte) (int, error) {
	text, _, _ := bytes.Cut(body, []byte(" "))
	return strconv.Atoi(string(text))
}

// consume is a consuming connection's body.
func (r *run) consume(conn *amqp.Conn) (err error) {
	l := r.book.open("consumer")
	defer func() { r.book.close(l, err) }()
	for {
		err := conn.WithChannel(conn.Context(), func(ch *amqp.Channel) error {
			if _, err := ch.QueueDeclare(ch.Context(), r.queue); err != nil {
				return err
			}
			return ch.WithConsumer(ch.Context(), amqp.Consume{Queue: r.queue.Name, Prefetch: 50}, func(c *amqp.Consumer) error {
				c.Go(func(ctx context.Context) error {
					select {
					case <-r.idle:
						c.Stop()
					case <-ctx.Done():
					}
					return nil
				})
				return c.Process(4, func(_ context.Context, body []byte, env *amqp.Envelope) error { return r.handle(l, body, env) })
			})
		})
		if !errors.Is(err, amqp.ErrConsumerCancelled) || errors.Is(err, amqp.ErrConnectionClosed) {
			return err
		}
		// Its queue was deleted: the next round declares it again.
	}
}

var errOnPurpose = errors.New("this message fails once")

// handle handles one message. Some take long, whatever happens to the connection
// meanwhile, and some fail once.
func (r *run) handle(l *life, body []byte, env *amqp.Envelope) error {
	n, err := number(body)
	if err != nil {
		return err
	}
	switch luck := (uint64(n) + *seed) % 200; {
	case luck == 0 && !env.Redelivered:
		r.book.handlerFailed()
		return errOnPurpose
	case luck%40 == 1:
		<-time.After(time.Duration(luck/10+1) * time.Millisecond)
	}
	r.book.handle(n, l, env.Redelivered)
	return nil
}

// sent waits until so many messages more are confirmed.
func (r *run) sent(more int) error {
	want := r.book.confirmedSoFar() + more
	return until(r.ctx, fmt.Sprint(want, " confirms"), func() bool { return r.book.confirmedSoFar() >= want })
}

// share lets the run go on for its part of the messages: one of so many.
func (r *run) share(of int) {
	r.t.Helper()
	r.observe()
	require.NoError(r.t, r.sent(max(1, r.atLeast/of)))
}

// recovered waits until messages flow again, now that the broker is back from what
// began then.
func (r *run) recovered(after string, began time.Time) {
	r.t.Helper()
	r.book.back(began)
	var beside sync.WaitGroup
	var took time.Duration
	beside.Go(func() { took = r.bystander() })
	err := until(r.ctx, "messages after "+after, r.book.flowing)
	beside.Wait()
	require.NoError(r.t, err)
	r.book.recovered(after, took)
}

// bystander is how long somebody who was there for none of it takes now to connect,
// look at the queue, and get a message through another one: what the broker and the
// machine make everybody wait for.
func (r *run) bystander() time.Duration {
	began := time.Now()
	_ = until(r.ctx, "a bystander", func() bool {
		err := amqp.WithConnection(r.ctx, patiently(r.admin, "bystander"), func(conn *amqp.Conn) error {
			_, _ = conn.QueueStatus(r.ctx, r.queue.Name) // there may be none for a moment
			return conn.WithChannel(r.ctx, sendAndGet)
		})
		return err == nil
	})
	return time.Since(began)
}

// sendAndGet sends a message and receives it.
func sendAndGet(ch *amqp.Channel) error {
	ctx := ch.Context()
	queue, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
	if err == nil {
		err = ch.Confirm(ctx)
	}
	if err == nil {
		err = ch.Publish(ctx, "", queue.Name, amqp.Message{Mandatory: true})
	}
	if err == nil {
		_, _, err = ch.Get(ctx, queue.Name, true)
	}
	return err
}

// observe counts the run's goroutines.
func (r *run) observe() { r.most = max(r.most, r.goroutines()) }

// finish ends the run when enough was sent and all that was confirmed is handled,
// prints the account, and checks it.
func (r *run) finish() account {
	t := r.t
	t.Helper()
	require.NoError(t, r.sent(max(0, r.atLeast-r.book.confirmedSoFar())))
	r.observe()
	r.stop(r.enough)
	select {
	case <-r.published:
	case <-r.ctx.Done():
	}
	settled := until(r.ctx, "the consumers", r.book.settled)
	if settled == nil {
		settled = r.emptied()
	}
	r.stop(r.idle)
	<-r.over
	a := r.book.draw()
	left := r.left()
	after := r.goroutines()
	t.Logf("%v\n  left in the queue %d; goroutines: 0 before, %d seen at once, %d after%v", a, left, r.most, after, r.witness)
	t.Logf("summary: seed %d, %s: %s, goroutines 0 before and %d after, %v", *seed, t.Name(), a.summary(), after, time.Since(r.began).Round(time.Second))
	require.NoError(t, r.err)
	require.NoError(t, settled)
	a.check(t)
	assert.GreaterOrEqual(t, a.confirmed, r.atLeast)
	assert.Zero(t, left, "messages left in the queue")
	assert.Zero(t, after, "goroutines")
	r.witness.check(t)
	return a
}

// emptied waits until the queue has nothing ready.
func (r *run) emptied() error {
	return amqp.WithConnection(r.ctx, patiently(r.admin, "admin"), func(conn *amqp.Conn) (err error) {
		if err := until(r.ctx, "an empty queue", func() bool {
			var q amqp.QueueStatus
			q, err = conn.QueueStatus(r.ctx, r.queue.Name)
			return err != nil || q.Messages == 0
		}); err != nil {
			return err
		}
		return err
	})
}

// left counts what is in the queue when nobody consumes any more.
func (r *run) left() (count int) {
	ctx := context.WithoutCancel(r.ctx)
	assert.NoError(r.t, amqp.WithChannel(ctx, patiently(r.admin, "admin"), func(ch *amqp.Channel) error {
		for {
			_, env, err := ch.Get(ctx, r.queue.Name, false)
			if errors.Is(err, amqp.ErrEmptyQueue) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := env.Ack(); err != nil {
				return err
			}
			count++
		}
	}))
	return count
}

// check fails the test for whatever must not be.
func (a account) check(t *testing.T) {
	t.Helper()
	assert.Zero(t, a.lost, "lost")
	assert.Zero(t, a.phantoms, "arrived although not sent")
	assert.Zero(t, a.pending, "publishes that have not returned")
	assert.Empty(t, a.unexplained, "unexplained duplicates")
	assert.Empty(t, a.unexpected)
	for _, r := range a.recoveries {
		limit := recoveryLimit + r.bystander
		assert.LessOrEqual(t, r.confirmed, limit, "first confirm after %s", r.after)
		assert.LessOrEqual(t, r.handled, limit, "first handled message after %s", r.after)
	}
}
