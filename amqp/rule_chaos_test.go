package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/amqptest"
)

// All rules at once, where nobody chose the moment.

// conversation does a bit of everything. Its error is nil or the end of the connection.
func conversation(ctx context.Context, cfg amqp.Config) error {
	return amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
		return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
			topology := amqp.Topology{
				Exchanges: []amqp.Exchange{{Name: "x", Kind: amqp.Fanout, AutoDelete: true}},
				Queues:    []amqp.Queue{{Name: "own", Exclusive: true}},
				Bindings:  []amqp.Binding{{Queue: "own", Exchange: "x"}},
			}
			if err := ch.Declare(ctx, topology); err != nil {
				return err
			}
			err := ch.WithPublisher(ctx, amqp.PublisherOptions{Mandatory: true}, func(p *amqp.Publisher) error {
				for i := range 4 {
					if _, err := p.Publish(ctx, "x", "", amqp.Message{Body: make([]byte, 50*i)}); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			if _, env, err := ch.Get(ctx, "own", false); err != nil {
				return err
			} else if err := env.Nack(true); err != nil {
				return err
			}
			return ch.WithConsumer(ctx, amqp.Consume{Queue: "own"}, func(c *amqp.Consumer) error {
				n := 0
				for _, env := range c.Messages() {
					if err := env.Ack(); err != nil {
						return err
					}
					if n++; n == 4 {
						return nil
					}
				}
				return c.Err()
			})
		})
	})
}

// through makes the world's connections go through faults.
func (w *world) through(faults amqptest.ConnFaults) amqp.Config {
	cfg := w.cfg
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		inner, err := w.broker.Dial(ctx, network, addr)
		return amqptest.Faulty(inner, faults), err
	}
	return cfg
}

func TestConversationByteByByte(t *testing.T) {
	for _, chunk := range []int{1, 2, 3, 7, 8, 13} {
		bubble(t, func(w *world) {
			for range 3 {
				require.NoError(w, conversation(context.Background(), w.through(amqptest.ConnFaults{ReadChunk: chunk, WriteChunk: chunk})))
			}
		})
	}
}

// The line is cut behind every few bytes of a conversation, in either direction. Each cut is an error that says so, and
// nothing hangs or stays.
func TestConversationCutAnywhere(t *testing.T) {
	directions := map[string]func(n int64) amqptest.ConnFaults{
		"read":  func(n int64) amqptest.ConnFaults { return amqptest.ConnFaults{CutAfterRead: n} },
		"write": func(n int64) amqptest.ConnFaults { return amqptest.ConnFaults{CutAfterWrite: n} },
	}
	for name, faults := range directions {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				cuts := 0
				for n := int64(1); ; n += 3 {
					err := conversation(context.Background(), w.through(faults(n)))
					if err == nil {
						break
					}
					cuts++
					var netErr net.Error
					require.True(w, errors.Is(err, amqp.ErrConnectionClosed) || errors.As(err, &netErr), "cut after %d: %v", n, err)
					require.NotErrorIs(w, err, amqp.ErrProtocol, "cut after %d", n)
					require.NotErrorIs(w, err, amqp.ErrNacked, "cut after %d", n)
					require.NotErrorIs(w, err, context.Canceled, "cut after %d", n)
					synctest.Wait()
					require.Empty(w, w.broker.Connections(), "cut after %d", n)
				}
				assert.Greater(w, cuts, 100)
				assert.Zero(w, own())
			})
		})
	}
}

// havoc does something to the broker every now and then.
func havoc(ctx context.Context, w *world, r *rand.Rand) {
	for ctx.Err() == nil {
		time.Sleep(time.Duration(r.IntN(int(20 * time.Millisecond))))
		switch r.IntN(12) {
		case 0:
			w.broker.Sever()
		case 1:
			w.broker.CloseConnections(320, "CONNECTION_FORCED")
		case 2, 3:
			w.broker.CloseChannels(406, "PRECONDITION_FAILED")
		case 4:
			w.broker.Stall()
			time.Sleep(time.Duration(r.Int64N(int64(3 * time.Second))))
			w.broker.Resume()
		case 5, 6:
			w.broker.Block("memory")
			time.Sleep(time.Duration(r.Int64N(int64(3 * time.Second))))
			w.broker.Unblock()
		case 7, 8:
			w.broker.CancelConsumers("q")
		case 9:
			w.broker.NackNext(r.IntN(3))
		}
	}
	w.broker.Resume()
	w.broker.Unblock()
}

// life uses a connection in nested scopes, at random, until something ends it.
func life(ctx context.Context, cfg amqp.Config, r *rand.Rand, sent *int) error {
	short := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, time.Duration(r.IntN(int(200*time.Millisecond))))
	}
	goOn := func(*amqp.PublishError) error { return nil }
	return amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
		for range r.IntN(20) {
			err := conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				switch r.IntN(6) {
				case 0:
					ctx, cancel := short()
					defer cancel()
					return ch.WithConsumer(ctx, amqp.Consume{Queue: "q", Prefetch: r.IntN(20) - 1}, func(c *amqp.Consumer) error {
						return c.Process(1+r.IntN(3), func(context.Context, []byte, *amqp.Envelope) error {
							time.Sleep(time.Millisecond)
							return nil
						})
					})
				case 1:
					return ch.WithPublisher(ctx, amqp.PublisherOptions{MaxInFlight: 1 + r.IntN(5), OnFailure: goOn}, func(p *amqp.Publisher) error {
						for range r.IntN(50) {
							ctx, cancel := short()
							_, err := p.Publish(ctx, "", "q", amqp.Message{Body: make([]byte, r.IntN(20<<10))})
							cancel()
							if err != nil {
								return err
							}
						}
						return nil
					})
				case 2:
					if err := ch.Confirm(ctx); err != nil {
						return err
					}
					for range r.IntN(20) {
						ctx, cancel := short()
						err := ch.Publish(ctx, "", "q", amqp.Message{Mandatory: r.IntN(2) == 0})
						cancel()
						if err != nil {
							return err
						}
						*sent++
					}
				case 3:
					for range r.IntN(20) {
						ctx, cancel := short()
						_, env, err := ch.Get(ctx, "q", false)
						cancel()
						if err != nil {
							return err
						}
						if r.IntN(2) == 0 {
							if err := env.Ack(); err != nil {
								return err
							}
						}
					}
				case 4:
					return ch.WithTx(ctx, func() error {
						ctx, cancel := short()
						defer cancel()
						return ch.Publish(ctx, "", "q", amqp.Message{})
					})
				case 5:
					ctx, cancel := short()
					defer cancel()
					return ch.WithConsumer(ctx, amqp.Consume{Queue: "q"}, func(c *amqp.Consumer) error {
						for b := range c.Batches(1+r.IntN(10), time.Duration(r.IntN(int(time.Millisecond)))) {
							if err := b.Ack(); err != nil || r.IntN(5) == 0 {
								return err
							}
						}
						return c.Err()
					})
				}
				return nil
			})
			if err != nil && conn.Context().Err() != nil {
				return err
			}
		}
		return nil
	})
}

// Nothing hangs, nothing stays, and no error is a violation of the protocol, whatever happens when.
func TestHavoc(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			bubble(t, func(w *world) {
				w.queue("q", 50)
				w.cfg.CloseTimeout = time.Second
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				over := make(chan struct{})
				go func() {
					defer close(over)
					havoc(ctx, w, rand.New(rand.NewPCG(seed, 0)))
				}()
				lives := make(chan error)
				const n = 3
				for i := range n {
					go func() {
						r := rand.New(rand.NewPCG(seed, uint64(i+1)))
						sent := 0
						var all error
						for ctx.Err() == nil {
							err := life(ctx, w.cfg, r, &sent)
							if errors.Is(err, amqp.ErrProtocol) || errors.Is(err, amqp.UnexpectedFrame) || errors.Is(err, amqp.ChannelError) {
								all = errors.Join(all, err)
							}
							time.Sleep(time.Millisecond)
						}
						lives <- all
					}()
				}
				for range n {
					assert.NoError(w, <-lives)
				}
				<-over
				assert.Zero(w, own())
				assert.Empty(w, w.broker.Connections())
				assert.Zero(w, w.state("q").Unacked)
			}, amqptest.WithTuning(2047, 131072, 2*time.Second))
		})
	}
}
