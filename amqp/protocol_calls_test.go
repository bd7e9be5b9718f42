package amqp_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

func TestAWrongReplyToACall(t *testing.T) {
	var told error
	err := against(t, amqp.Config{}, func(p *peer) {
		p.channel()
		expect[*wire.QueueDeclare](p, 1)
		p.say(1, &wire.ExchangeDeclareOk{})
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		_, told = ch.QueueDeclare(ctx, amqp.Queue{Name: "q"})
		return nil
	}))
	says(t, told, []error{amqp.ErrProtocol, amqp.ErrConnectionClosed}, `declare queue "q"`, "exchange.declare-ok")
	says(t, err, []error{amqp.ErrProtocol})
}

func TestAnswersGoToTheCallsTheyFit(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.channel()
		expect[*wire.QueueDeclare](p, 1)
		expect[*wire.ExchangeDeclare](p, 1)
		expect[*wire.QueueDeclare](p, 1)
		p.say(1, &wire.ExchangeDeclareOk{}, &wire.QueueDeclareOk{Queue: "first"}, &wire.QueueDeclareOk{Queue: "second"})
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		var all sync.WaitGroup
		declare := func(name string) {
			all.Go(func() {
				status, err := ch.QueueDeclare(ctx, amqp.Queue{Name: name})
				assert.NoError(t, err)
				assert.Equal(t, name, status.Name)
			})
			synctest.Wait()
		}
		declare("first")
		all.Go(func() { assert.NoError(t, ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "x", Kind: amqp.Direct})) })
		synctest.Wait()
		declare("second")
		all.Wait()
		return nil
	}))
	require.NoError(t, err)
}

// --- The end of channels and connections ---

func TestConnectionCloseInEveryState(t *testing.T) {
	bye := &wire.ConnectionClose{ReplyCode: 320, ReplyText: "CONNECTION_FORCED - shutdown"}
	closing := func(p *peer) {
		p.say(0, bye)
		for {
			if _, ok := p.next().method.(*wire.ConnectionCloseOk); ok {
				break
			}
		}
		_ = p.conn.Close()
	}
	publish := func(ctx context.Context, ch *amqp.Channel) error {
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		err := ch.Publish(ctx, "x", "k", amqp.Message{})
		assert.ErrorIs(t, err, amqp.ErrUnconfirmed)
		return err
	}
	for name, c := range map[string]struct {
		script func(*peer)
		body   func(context.Context, *amqp.Conn) error
	}{
		"idle": {func(p *peer) { p.greet() }, idle},
		"opening a channel": {func(p *peer) {
			p.greet()
			expect[*wire.ChannelOpen](p, 1)
		}, inChannel(func(context.Context, *amqp.Channel) error { return nil })},
		"in a call": {func(p *peer) {
			p.channel()
			expect[*wire.QueueDeclare](p, 1)
		}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q"})
			return err
		})},
		"in a message": {func(p *peer) {
			p.consumer()
			p.raw(cat(wire.AppendDeliver(nil, 1, "c", 1, false, "", ""), header(1, 100)))
		}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
			return ch.WithConsumer(ctx, amqp.Consume{Tag: "c"}, func(c *amqp.Consumer) error {
				for range c.Messages() { // until the end
				}
				return nil
			})
		})},
		"before a confirm": {func(p *peer) {
			p.channel()
			expect[*wire.ConfirmSelect](p, 1)
			p.say(1, &wire.ConfirmSelectOk{})
			p.content(1)
		}, inChannel(publish)},
		"while blocked": {func(p *peer) {
			p.channel()
			p.say(0, &wire.ConnectionBlocked{Reason: "low on memory"})
		}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
			synctest.Wait()
			return ch.Publish(ctx, "x", "k", amqp.Message{})
		})},
		"closing a channel": {func(p *peer) {
			p.channel()
			expect[*wire.ChannelClose](p, 1)
		}, inChannel(func(context.Context, *amqp.Channel) error { return nil })},
		"in a transaction": {func(p *peer) {
			p.channel()
			expect[*wire.TxSelect](p, 1)
			p.say(1, &wire.TxSelectOk{})
			expect[*wire.TxCommit](p, 1)
		}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
			return ch.WithTx(ctx, func() error { return nil })
		})},
		"saying goodbye": {func(p *peer) {
			p.greet()
			expect[*wire.ConnectionClose](p, 0)
		}, func(context.Context, *amqp.Conn) error { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			err := against(t, amqp.Config{}, func(p *peer) {
				c.script(p)
				closing(p)
			}, c.body)
			says(t, err, []error{amqp.ConnectionForced, amqp.ErrConnectionClosed}, "CONNECTION_FORCED - shutdown")
		})
	}
}

func TestChannelCloseThatCrossesOurs(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.channel()
		expect[*wire.BasicPublish](p, 1)
		p.next() // its header
		expect[*wire.ChannelClose](p, 1)
		p.say(1, &wire.ChannelClose{ReplyCode: 404, ReplyText: "NOT_FOUND - no exchange", ClassID: 60, MethodID: 40})
		expect[*wire.ChannelCloseOk](p, 1)
		expect[*wire.ChannelOpen](p, 2) // number 1 is not free before the answer to our close
		p.say(1, &wire.ChannelCloseOk{})
		p.say(2, &wire.ChannelOpenOk{})
		expect[*wire.ChannelOpen](p, 1)
		p.say(1, &wire.ChannelOpenOk{})
	}, func(ctx context.Context, c *amqp.Conn) error {
		err := c.WithChannel(ctx, func(ch *amqp.Channel) error { return ch.Publish(ctx, "none", "", amqp.Message{}) })
		says(t, err, []error{amqp.NotFound, amqp.ErrChannelClosed}, "no exchange")
		return c.WithChannel(ctx, func(*amqp.Channel) error {
			return c.WithChannel(ctx, func(ch *amqp.Channel) error {
				assert.Equal(t, uint16(1), ch.ID())
				return nil
			})
		})
	})
	require.NoError(t, err)
}

// Nothing may be sent on a channel that the broker has closed, and what was
// acknowledged before is among it: RabbitMQ would close the connection.
func TestNothingIsSentOnAClosedChannel(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.consumer()
		p.message(1, "c", 1, "one")
		p.message(1, "c", 2, "two")
		time.Sleep(2 * time.Second)
		p.say(1, &wire.ChannelClose{ReplyCode: 404, ReplyText: "gone"})
		for f := range p.frames {
			if _, ok := f.method.(*wire.ChannelCloseOk); !ok {
				continue
			}
			for f := range p.frames { // only the goodbye may follow
				if f.Channel != 0 && f.Type != wire.FrameHeartbeat {
					t.Errorf("%T after channel.close-ok", f.method)
				}
				if _, ok := f.method.(*wire.ConnectionClose); ok {
					p.say(0, &wire.ConnectionCloseOk{})
				}
			}
		}
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Tag: "c"}, func(c *amqp.Consumer) error {
			for _, env := range c.Messages() {
				if env.DeliveryTag == 2 {
					<-env.Context().Done()
					assert.ErrorIs(t, env.Ack(), amqp.NotFound)
					assert.ErrorIs(t, env.Nack(true), amqp.NotFound)
					assert.ErrorIs(t, ch.WithTx(ctx, func() error { return nil }), amqp.NotFound)
					assert.ErrorIs(t, ch.Publish(ctx, "", "", amqp.Message{}), amqp.NotFound)
					assert.ErrorIs(t, ch.Recover(ctx, true), amqp.NotFound)
					assert.ErrorIs(t, ch.RecoverAsync(true), amqp.NotFound)
					assert.ErrorIs(t, ch.Confirm(ctx), amqp.NotFound)
				}
			}
			return nil
		})
	}))
	says(t, err, []error{amqp.NotFound})
}

// The same for acknowledgements that the broker's close overtakes: they are
// taken and not sent yet, since the socket takes nothing.
func TestAcksThatTheChannelsEndOvertakesAreNotSent(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.consumer()
		p.deaf.Store(true)
		p.say(1, &wire.ChannelFlow{Active: true}) // whose answer is the last that is read
		synctest.Wait()
		p.say(1, &wire.ChannelFlow{Active: true}) // whose answer keeps the flusher busy
		synctest.Wait()
		p.message(1, "c", 1, "one")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		p.say(1, &wire.ChannelClose{ReplyCode: 404, ReplyText: "gone"})
		synctest.Wait()
		p.deaf.Store(false)
		p.hear <- struct{}{}
		for {
			if _, ok := p.next().method.(*wire.ChannelCloseOk); ok {
				break
			}
		}
		f := p.next()
		if _, ok := f.method.(*wire.ConnectionClose); !ok {
			t.Errorf("%T after channel.close-ok", f.method)
		}
		p.say(0, &wire.ConnectionCloseOk{})
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Tag: "c"}, func(c *amqp.Consumer) error {
			for _, env := range c.Messages() {
				assert.NoError(t, env.Ack())
			}
			return nil
		})
	}))
	says(t, err, []error{amqp.NotFound})
}

// After basic.recover the broker knows none of the tags any more.
func TestNothingIsAcknowledgedBehindARecover(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.consumer()
		p.message(1, "c", 1, "one")
		assert.True(t, expect[*wire.BasicRecover](p, 1).Requeue)
		p.message(1, "c", 2, "sent before the recover was seen")
		synctest.Wait()
		p.say(1, &wire.BasicRecoverOk{})
		p.message(1, "c", 3, "again")
		assert.Equal(t, &wire.BasicAck{DeliveryTag: 3}, expect[*wire.BasicAck](p, 1))
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Tag: "c"}, func(c *amqp.Consumer) error {
			for _, env := range c.Messages() {
				switch env.DeliveryTag {
				case 1:
					assert.NoError(t, ch.RecoverAsync(true))
					assert.ErrorIs(t, env.Ack(), amqp.ErrAlreadySettled)
				case 2:
					assert.ErrorIs(t, env.Ack(), amqp.ErrAlreadySettled)
				case 3:
					return env.Ack()
				}
			}
			return nil
		})
	}))
	require.NoError(t, err)
}

// What comes behind basic.cancel, between two transactions, is given back with the rest.
func TestLeftoversBetweenTransactions(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.channel()
		expect[*wire.TxSelect](p, 1)
		p.say(1, &wire.TxSelectOk{})
		expect[*wire.TxCommit](p, 1)
		p.say(1, &wire.TxCommitOk{})
		expect[*wire.BasicQos](p, 1)
		p.say(1, &wire.BasicQosOk{})
		expect[*wire.BasicConsume](p, 1)
		p.say(1, &wire.BasicConsumeOk{ConsumerTag: "c"})
		p.message(1, "c", 1, "before")
		expect[*wire.BasicCancel](p, 1)
		p.message(1, "c", 2, "behind")
		p.message(1, "c", 3, "behind, too")
		p.message(1, "c", 4, "beyond the prefetch, twice")
		p.say(1, &wire.BasicCancelOk{ConsumerTag: "c"})
		for tag := range uint64(3) {
			assert.Equal(t, &wire.BasicNack{DeliveryTag: tag + 1, Requeue: true}, expect[*wire.BasicNack](p, 1))
		}
		expect[*wire.TxCommit](p, 1)
		p.say(1, &wire.TxCommitOk{})
		expect[*wire.ChannelClose](p, 1)
		p.say(1, &wire.ChannelCloseOk{})
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		assert.NoError(t, ch.WithTx(ctx, func() error { return nil }))
		return ch.WithConsumer(ctx, amqp.Consume{Tag: "c", Prefetch: 2}, func(c *amqp.Consumer) error {
			synctest.Wait()
			return nil
		})
	}))
	require.NoError(t, err)
}

// A transaction inside of one waits for that, which waits for it.
func TestTransactionInsideOfOne(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.channel()
		expect[*wire.TxSelect](p, 1)
		p.say(1, &wire.TxSelectOk{})
		expect[*wire.TxRollback](p, 1)
		p.say(1, &wire.TxRollbackOk{})
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithTx(ctx, func() error {
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return ch.WithTx(short, func() error { return nil })
		})
	}))
	says(t, err, []error{context.DeadlineExceeded}, "another transaction was under way on the channel")
}

// --- What the broker says unasked ---

func TestPublishWaitsWhileTheConnectionIsBlocked(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.consumer()
		synctest.Wait()
		p.say(0, &wire.ConnectionBlocked{Reason: "low on memory"})
		p.say(0, &wire.ConnectionBlocked{Reason: "and on disk"})
		p.message(1, "c", 1, "settle me")
		assert.Equal(t, uint64(1), expect[*wire.BasicAck](p, 1).DeliveryTag)
		time.Sleep(2 * time.Second)
		assert.Empty(t, p.frames, "no message is sent")
		p.say(0, &wire.ConnectionUnblocked{})
		_, body := p.content(1)
		assert.Equal(t, "waited", body)
		p.say(0, &wire.ConnectionUnblocked{})
		p.say(0, &wire.ConnectionBlocked{Reason: "again"})
	}, func(ctx context.Context, c *amqp.Conn) error {
		return c.WithChannel(ctx, func(ch *amqp.Channel) error {
			return ch.WithConsumer(ctx, amqp.Consume{Tag: "c"}, func(cons *amqp.Consumer) error {
				changes := c.Blocked()
				for _, env := range cons.Messages() {
					assert.NoError(t, env.Ack())
					break
				}
				short, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				assert.ErrorIs(t, ch.Publish(short, "x", "k", amqp.Message{Body: []byte("never")}), context.DeadlineExceeded)
				assert.True(t, c.Stats().Blocked)
				assert.NoError(t, ch.Publish(ctx, "x", "k", amqp.Message{Body: []byte("waited")}))
				var seen []string
				for blocked, reason := range changes {
					seen = append(seen, reason)
					assert.Equal(t, reason != "", blocked)
					if reason == "again" {
						break
					}
				}
				assert.Equal(t, []string{"low on memory", "and on disk", "", "", "again"}, seen)
				return nil
			})
		})
	})
	require.NoError(t, err)
}

func TestPublishWaitsWhileTheChannelIsStopped(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.channel()
		p.say(1, &wire.ChannelFlow{Active: false}, &wire.ChannelFlow{Active: false})
		assert.False(t, expect[*wire.ChannelFlowOk](p, 1).Active)
		assert.False(t, expect[*wire.ChannelFlowOk](p, 1).Active)
		expect[*wire.QueueDeclare](p, 1)
		p.say(1, &wire.QueueDeclareOk{})
		synctest.Wait()
		assert.Empty(t, p.frames)
		p.say(1, &wire.ChannelFlow{Active: true})
		assert.True(t, expect[*wire.ChannelFlowOk](p, 1).Active)
		_, body := p.content(1)
		assert.Equal(t, "waited", body)
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		synctest.Wait()
		if _, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "calls go on"}); err != nil {
			return err
		}
		return ch.Publish(ctx, "x", "k", amqp.Message{Body: []byte("waited")})
	}))
	require.NoError(t, err)
}

func TestConsumersThatTheBrokerCancels(t *testing.T) {
	for name, c := range map[string]struct {
		wanted, noWait bool
		answer         wire.Method
	}{
		"capability":              {true, true, &wire.BasicCancelOk{ConsumerTag: "c"}},
		"no capability, no-wait":  {false, true, &wire.BasicCancel{ConsumerTag: "c", NoWait: true}},
		"no capability, but asks": {false, false, &wire.BasicCancelOk{ConsumerTag: "c"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := against(t, amqp.Config{}, func(p *peer) {
				p.start.ServerProperties["capabilities"] = amqp.Table{"accept_consumer_cancel_ok": c.wanted}
				p.consumer()
				p.raw(cat(message(1, "c", 1, "before"), method(1, &wire.BasicCancel{ConsumerTag: "c", NoWait: c.noWait})))
				assert.Equal(t, c.answer, expect[wire.Method](p, 1))
				assert.Equal(t, uint64(1), expect[*wire.BasicAck](p, 1).DeliveryTag)
				expect[*wire.ChannelFlow](p, 1) // not basic.cancel again: there is no consumer
				p.say(1, &wire.ChannelFlowOk{Active: true})
				p.say(1, &wire.BasicCancel{ConsumerTag: "c", NoWait: true}) // of nobody
			}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
				err := ch.WithConsumer(ctx, amqp.Consume{Tag: "c"}, func(c *amqp.Consumer) error {
					n := 0
					for _, env := range c.Messages() {
						n++
						synctest.Wait()
						assert.NoError(t, env.Ack())
					}
					assert.Equal(t, 1, n)
					return nil
				})
				assert.ErrorIs(t, err, amqp.ErrConsumerCancelled)
				return nil
			}))
			require.NoError(t, err)
		})
	}
}

// The broker's basic.cancel may come when the consumer has ended by itself, and its own is on the way.
func TestACancelThatCrossesOurOwnIsNoFailure(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.consumer()
		expect[*wire.BasicCancel](p, 1)
		p.say(1, &wire.BasicCancel{ConsumerTag: "c", NoWait: true}, &wire.BasicCancelOk{ConsumerTag: "c"})
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Tag: "c"}, func(*amqp.Consumer) error { return nil })
	}))
	require.NoError(t, err)
}

// Stop lets go on what is being handled, whatever the broker does with the consumer.
func TestACancelAfterStopInterruptsNothing(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.consumer()
		p.message(1, "c", 1, "one")
		time.Sleep(time.Second)
		p.say(1, &wire.BasicCancel{ConsumerTag: "c", NoWait: true})
		assert.True(t, expect[*wire.BasicCancel](p, 1).NoWait)
		assert.Equal(t, uint64(1), expect[*wire.BasicAck](p, 1).DeliveryTag)
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Tag: "c"}, func(c *amqp.Consumer) error {
			return c.Process(1, func(ctx context.Context, _ []byte, _ *amqp.Envelope) error {
				c.Stop()
				time.Sleep(2 * time.Second)
				return context.Cause(ctx)
			})
		})
	}))
	require.NoError(t, err)
}

// What is settled or published while the transaction is being ended belongs to
// none.
func TestNothingJoinsATransactionThatIsBeingEnded(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.consumer()
		p.message(1, "c", 1, "one")
		expect[*wire.TxSelect](p, 1)
		p.say(1, &wire.TxSelectOk{})
		expect[*wire.TxRollback](p, 1)
		time.Sleep(2 * time.Second)
		p.say(1, &wire.TxRollbackOk{})
		expect[*wire.BasicAck](p, 1)
		expect[*wire.TxCommit](p, 1)
		p.say(1, &wire.TxCommitOk{})
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Tag: "c"}, func(c *amqp.Consumer) error {
			for _, env := range c.Messages() {
				var beside sync.WaitGroup
				beside.Go(func() {
					time.Sleep(time.Second)
					assert.ErrorContains(t, env.Ack(), "inside WithTx only")
					assert.ErrorContains(t, ch.Publish(ctx, "x", "k", amqp.Message{}), "inside WithTx only")
				})
				failed := errors.New("failed")
				assert.ErrorIs(t, ch.WithTx(ctx, func() error { return failed }), failed)
				beside.Wait()
				return ch.WithTx(ctx, env.Ack)
			}
			return nil
		})
	}))
	require.NoError(t, err)
}
