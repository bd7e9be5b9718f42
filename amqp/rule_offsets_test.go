package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// A network that fails at each byte of a conversation in turn, in either direction.

const (
	offsetBeat     = 2 * time.Second  // the heartbeat interval
	offsetDial     = 5 * time.Second  // Config.DialTimeout
	offsetClose    = 3 * time.Second  // Config.CloseTimeout
	offsetPatience = 30 * time.Second // what the program's context gives
)

// dealing is what a program knows of the messages it has to do with.
type dealing struct {
	queue     string
	confirmed []string // the broker said that it has them
	handled   []string // they were received, and acknowledged afterwards
}

const dealt = 3 // messages

// deal connects, declares, publishes, waits for the confirms, fetches, consumes, acknowledges and says goodbye.
func (d *dealing) deal(ctx context.Context, cfg amqp.Config) error {
	return amqp.WithChannel(ctx, cfg, func(ch *amqp.Channel) error {
		if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: d.queue, Durable: true}); err != nil {
			return err
		}
		if err := d.publish(ctx, ch); err != nil {
			return err
		}
		_, env, err := ch.Get(ctx, d.queue, false)
		if err != nil {
			return err
		}
		if err := env.Nack(true); err != nil {
			return err
		}
		return ch.WithConsumer(ctx, amqp.Consume{Queue: d.queue}, func(c *amqp.Consumer) error {
			for body, env := range c.Messages() {
				d.handled = append(d.handled, string(body))
				if err := env.Ack(); err != nil {
					return err
				}
				if len(d.handled) == dealt {
					return nil
				}
			}
			return c.Err()
		})
	})
}

// publish notes which messages the broker has confirmed, also when others are not.
func (d *dealing) publish(ctx context.Context, ch *amqp.Channel) error {
	receipts := map[string]amqp.Receipt{}
	err := ch.WithPublisher(ctx, amqp.PublisherOptions{Mandatory: true}, func(p *amqp.Publisher) error {
		for i := range dealt {
			body := fmt.Sprint("message ", i)
			r, err := p.Publish(ctx, "", d.queue, amqp.Message{Body: []byte(body)})
			if err != nil {
				return err
			}
			receipts[body] = r
		}
		return nil
	})
	for body, r := range receipts {
		if r.Wait(ctx) == nil {
			d.confirmed = append(d.confirmed, body)
		}
	}
	return err
}

// failAt runs the conversation once, on a link that fails. It reports whether the link did not come to that.
func failAt(w *world, how linkFault, reading bool, at int64) (over bool) {
	var link *badLink
	cfg := w.cfg
	cfg.DialTimeout, cfg.CloseTimeout = offsetDial, offsetClose
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		inner, err := w.broker.Dial(ctx, network, addr)
		link = bad(inner, how, reading, at)
		return link, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), offsetPatience)
	defer cancel()
	d := dealing{queue: fmt.Sprintf("q%05d", at)}
	begin := time.Now()
	err := d.deal(ctx, cfg)
	took := time.Since(begin)
	what := fmt.Sprintf("%s at %d, reading=%v: %v", how, at, reading, err)
	if link.passed <= at && err == nil {
		return true
	}
	require.GreaterOrEqual(w, link.passed, at, what)
	if how == flipping {
		// There are no checksums in AMQP: what is not noticed may be anything.
		require.LessOrEqual(w, took, offsetPatience+2*offsetClose, what)
	} else {
		require.LessOrEqual(w, took, max(offsetDial, 5*offsetBeat/2)+offsetClose, what)
		requireLost(w, err, what)
	}
	time.Sleep(3 * offsetBeat) // the broker has noticed, too
	synctest.Wait()
	require.Empty(w, w.broker.Connections(), what)
	if how != flipping {
		kept := append(w.bodies(d.queue), d.handled...)
		for _, body := range d.confirmed {
			require.True(w, slices.Contains(kept, body), "%q was confirmed, and is lost: %s", body, what)
		}
	}
	return false
}

// requireLost checks that err says that the connection was lost, and nothing that is not known.
func requireLost(w *world, err error, what string) {
	w.Helper()
	var network net.Error
	lost := errors.Is(err, amqp.ErrConnectionClosed) || errors.As(err, &network) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrClosedPipe) || errors.Is(err, context.DeadlineExceeded)
	require.True(w, lost, what)
	for _, wrong := range []error{amqp.ErrProtocol, amqp.ErrNacked, amqp.ErrReturned, context.Canceled, amqp.ErrEmptyQueue} {
		require.NotErrorIs(w, err, wrong, what)
	}
}

// Wherever the network fails, the program is told in time, with an error that says so, and no message is lost that was
// confirmed. A byte that is another is found when it breaks the protocol; the program ends in time all the same.
func TestConversationThatFailsAtEachByte(t *testing.T) {
	const shards = 4 // of a bubble each, beside each other
	for _, how := range []linkFault{cutting, stalling, swallowing, flipping} {
		for name, reading := range map[string]bool{"reading": true, "writing": false} {
			if how == swallowing && reading {
				continue // stalling, for a reader
			}
			for shard := range int64(shards) {
				t.Run(fmt.Sprintf("%s %s, part %d", how, name, shard), func(t *testing.T) {
					t.Parallel()
					bubble(t, func(w *world) {
						runs := 0
						for at := shard * offsetStride; !failAt(w, how, reading, at); at += shards * offsetStride {
							runs++
						}
						assert.Greater(w, runs*shards*offsetStride, 700, "bytes in all")
					}, amqptest.WithTuning(100, 131072, offsetBeat))
				})
			}
		}
	}
}
