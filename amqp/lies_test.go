package amqp_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// What a broker that lies says, and what it comes to. Single violations are in protocol_test.go.

// The broker closes the channel, whatever it is in the middle of: the call that is under way is told, or the scope, and
// the connection lives on.
func TestChannelCloseInEveryState(t *testing.T) {
	closing := func(p *peer) {
		p.say(1, &wire.ChannelClose{ReplyCode: 406, ReplyText: "PRECONDITION_FAILED - whim"})
		for {
			if _, ok := p.next().method.(*wire.ChannelCloseOk); ok {
				return
			}
		}
	}
	for name, c := range map[string]struct {
		script func(*peer)
		body   func(context.Context, *amqp.Channel) error
		ends   bool // our own channel.close is under way, and is answered as well
	}{
		"idle": {script: func(p *peer) { p.channel() }, body: waits},
		"opening": {script: func(p *peer) {
			p.greet()
			expect[*wire.ChannelOpen](p, 1)
		}, body: waits},
		"in a call": {script: func(p *peer) {
			p.channel()
			expect[*wire.QueueDeclare](p, 1)
		}, body: func(ctx context.Context, ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q"})
			return err
		}},
		"consuming": {script: func(p *peer) {
			p.consumer()
			p.message(1, "c", 1, "one")
		}, body: func(ctx context.Context, ch *amqp.Channel) error {
			return ch.WithConsumer(ctx, amqp.Consume{Tag: "c"}, func(c *amqp.Consumer) error {
				for range c.Messages() { // until the end
				}
				return c.Err()
			})
		}},
		"before a confirm": {script: func(p *peer) {
			p.channel()
			expect[*wire.ConfirmSelect](p, 1)
			p.say(1, &wire.ConfirmSelectOk{})
			p.content(1)
		}, body: func(ctx context.Context, ch *amqp.Channel) error {
			if err := ch.Confirm(ctx); err != nil {
				return err
			}
			err := ch.Publish(ctx, "x", "k", amqp.Message{})
			assert.ErrorIs(t, err, amqp.ErrUnconfirmed)
			return err
		}},
		"stopped by flow": {script: func(p *peer) {
			p.channel()
			p.say(1, &wire.ChannelFlow{Active: false})
			expect[*wire.ChannelFlowOk](p, 1)
		}, body: func(ctx context.Context, ch *amqp.Channel) error {
			synctest.Wait()
			return ch.Publish(ctx, "x", "k", amqp.Message{})
		}},
		"in a transaction": {script: func(p *peer) {
			p.channel()
			expect[*wire.TxSelect](p, 1)
			p.say(1, &wire.TxSelectOk{})
			expect[*wire.TxCommit](p, 1)
		}, body: func(ctx context.Context, ch *amqp.Channel) error {
			return ch.WithTx(ctx, func() error { return nil })
		}},
		"closing": {script: func(p *peer) {
			p.channel()
			expect[*wire.ChannelClose](p, 1)
		}, body: func(context.Context, *amqp.Channel) error { return nil }, ends: true},
	} {
		t.Run(name, func(t *testing.T) {
			err := against(t, amqp.Config{}, func(p *peer) {
				c.script(p)
				closing(p)
				if c.ends {
					p.say(1, &wire.ChannelCloseOk{})
				}
			}, func(ctx context.Context, conn *amqp.Conn) error {
				err := conn.WithChannel(ctx, func(ch *amqp.Channel) error { return c.body(ctx, ch) })
				says(t, err, []error{amqp.PreconditionFailed, amqp.ErrChannelClosed}, "PRECONDITION_FAILED - whim")
				return conn.WithChannel(ctx, func(ch *amqp.Channel) error {
					assert.True(t, ch.ID() == 1 || c.ends, "the number is free again")
					return nil
				})
			})
			require.NoError(t, err)
		})
	}
}

// waits is a body that waits for the channel's end.
func waits(_ context.Context, ch *amqp.Channel) error {
	<-ch.Context().Done()
	return nil
}

// A broker that says something at every moment, and never what is wanted, has DialTimeout for it.
func TestHandshakeThatNeverEnds(t *testing.T) {
	start := wire.ConnectionStart{VersionMinor: 9, Mechanisms: "PLAIN", ServerProperties: amqp.Table{"x": string(make([]byte, 100_000))}}
	whole := method(0, &start)
	for name, say := range map[string]func(p *peer){
		"byte by byte": func(p *peer) {
			for _, b := range whole {
				if _, err := p.conn.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		},
		"properties without end": func(p *peer) {
			p.raw(whole[:1000])
			for {
				if _, err := p.conn.Write(make([]byte, 10)); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var took time.Duration
			err := against(t, amqp.Config{DialTimeout: 20 * time.Second}, func(p *peer) {
				p.next()
				begin := time.Now()
				say(p)
				took = time.Since(begin).Round(time.Second)
			}, idle)
			says(t, err, []error{context.DeadlineExceeded}, "no connection within DialTimeout, 20s", "waiting for connection.start")
			assert.Contains(t, []time.Duration{20 * time.Second, 21 * time.Second}, took, "when the next byte found nobody")
		})
	}
}

// A gigabyte of what the broker says of itself is refused by the head of its frame.
func TestAGigabyteOfServerProperties(t *testing.T) {
	sent := 0
	err := against(t, amqp.Config{}, func(p *peer) {
		p.next()
		p.raw(wire.AppendFrameHeader(nil, wire.FrameMethod, 0, 1<<30))
		for piece := make([]byte, 64<<10); sent < 1<<30; sent += len(piece) {
			if _, err := p.conn.Write(piece); err != nil {
				return
			}
		}
	}, idle)
	says(t, err, []error{amqp.ErrProtocol}, "with 1073741824 bytes exceeds frame_max, which allows 131072")
	assert.Less(t, sent, 1<<20)
}

// The broker confirms messages on a channel that has no confirms, and again and again on one that has. Whoever was told
// that a message is confirmed was told the truth, as far as the broker said it.
func TestConfirmsBesideTheTruth(t *testing.T) {
	for name, frames := range map[string][]byte{
		"multiple, of nothing":     wire.AppendAck(nil, 1, 0, true),
		"multiple, beyond the end": wire.AppendAck(nil, 1, 1<<63, true),
		"refused, beyond the end":  wire.AppendNack(nil, 1, 1<<63, true, true),
		"refused after confirmed":  cat(wire.AppendAck(nil, 1, 1, false), wire.AppendNack(nil, 1, 1, false, false)),
	} {
		t.Run(name, func(t *testing.T) {
			var outcome error
			err := against(t, amqp.Config{}, func(p *peer) {
				p.channel()
				expect[*wire.ConfirmSelect](p, 1)
				p.say(1, &wire.ConfirmSelectOk{})
				p.content(1)
				if name == "multiple, of nothing" {
					p.raw(wire.AppendAck(nil, 1, 1, false)) // so that nothing is open
				}
				p.raw(frames)
			}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
				if err := ch.Confirm(ctx); err != nil {
					return err
				}
				outcome = ch.Publish(ctx, "x", "k", amqp.Message{})
				<-ch.Context().Done()
				return nil
			}))
			says(t, err, []error{amqp.ErrProtocol, amqp.ErrConnectionClosed}, "the broker confirmed")
			if outcome != nil {
				require.ErrorIs(t, outcome, amqp.ErrUnconfirmed)
				require.NotErrorIs(t, outcome, amqp.ErrNacked)
			}
		})
	}
}

// What hostile brokers announce and do not send holds up nothing: the scope ends in time.
func TestAMessageThatNeverEnds(t *testing.T) {
	var took time.Duration
	stop := errors.New("enough")
	err := against(t, amqp.Config{CloseTimeout: 3 * time.Second}, func(p *peer) {
		p.consumer()
		p.raw(cat(wire.AppendDeliver(nil, 1, "c", 1, false, "", ""), header(1, 1<<20), wire.AppendFrameHeader(nil, wire.FrameBody, 1, 8000)))
		<-p.over
	}, func(ctx context.Context, c *amqp.Conn) error {
		defer func(begin time.Time) { took = time.Since(begin) }(time.Now())
		return c.WithChannel(ctx, func(ch *amqp.Channel) error {
			return ch.WithConsumer(ctx, amqp.Consume{Tag: "c"}, func(*amqp.Consumer) error {
				time.Sleep(time.Second)
				return stop
			})
		})
	})
	says(t, err, []error{stop, context.DeadlineExceeded}, "CloseTimeout, 3s")
	assert.Equal(t, 4*time.Second, took)
}
