package integration

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

func TestQueueDeclareTellsNameAndCounts(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				mine := amqp.Queue{Name: "mine", Durable: true}
				q, err := ch.QueueDeclare(ctx, mine)
				require.NoError(t, err)
				assert.Equal(t, amqp.QueueStatus{Name: "mine"}, q)

				send(t, ctx, ch, "mine", "a", "b", "c")
				requireCount(t, ctx, conn, "mine", 3)
				q, err = ch.QueueDeclare(ctx, mine)
				require.NoError(t, err)
				assert.Equal(t, amqp.QueueStatus{Name: "mine", Messages: 3}, q)

				require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: "mine"}, func(*amqp.Consumer) error {
					q, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "mine", Passive: true})
					assert.Equal(t, 1, q.Consumers)
					return err
				}))
			}))
		})
	})
}

func TestQueueNamedByTheBroker(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			one, two := newQueue(t, ctx, ch, nil), newQueue(t, ctx, ch, nil)
			assert.True(t, strings.HasPrefix(one, "amq.gen-"), one)
			assert.NotEqual(t, one, two)
			// An empty name afterwards is the last queue that the channel declared.
			require.NoError(t, ch.QueueBind(ctx, amqp.Binding{Exchange: "amq.direct", RoutingKey: "k"}))
			require.NoError(t, ch.Publish(ctx, "amq.direct", "k", amqp.Message{Body: []byte("hello")}))
			text, _ := await(t, ctx, ch, two)
			assert.Equal(t, "hello", text)
			requireEmpty(t, ctx, ch, one)
		})
	})
}

func TestQueuePassiveDeclare(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "missing", Passive: true})
				requireException(t, err, amqp.NotFound, "NOT_FOUND - no queue 'missing' in vhost")
				<-ch.Context().Done()
				assert.ErrorIs(t, context.Cause(ch.Context()), amqp.NotFound)
				_, err = ch.QueueDeclare(ctx, amqp.Queue{})
				assert.ErrorIs(t, err, amqp.NotFound, "the channel is gone, and says why")
			}), "the call was told, so the scope says nothing more")
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "there", AutoDelete: true})
				require.NoError(t, err)
				_, err = ch.QueueDeclare(ctx, amqp.Queue{Name: "there", Passive: true, Durable: true, Exclusive: false})
				require.NoError(t, err, "passive looks at the name alone")
			}))
		})
	})
}

func TestQueueStatusCostsNothing(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				for range 3 {
					_, err := conn.QueueStatus(ctx, "missing")
					requireException(t, err, amqp.NotFound, "missing")
				}
				q := newQueue(t, ctx, ch, nil)
				send(t, ctx, ch, q, "a", "b")
				requireCount(t, ctx, conn, q, 2)
				status, err := conn.QueueStatus(ctx, q)
				require.NoError(t, err)
				assert.Equal(t, amqp.QueueStatus{Name: q, Messages: 2}, status)
			}))
		})
	})
}

func TestQueueRedeclaredOtherwise(t *testing.T) {
	original := amqp.Queue{Name: "q", Durable: true, Arguments: amqp.Table{"x-max-length": 10}}
	for name, change := range map[string]func(*amqp.Queue){
		"durable":     func(q *amqp.Queue) { q.Durable = false },
		"auto_delete": func(q *amqp.Queue) { q.AutoDelete = true },
		"x-max-length": func(q *amqp.Queue) {
			q.Arguments = amqp.Table{"x-max-length": 11}
		},
		"x-expires": func(q *amqp.Queue) {
			q.Arguments = amqp.Table{"x-max-length": 10, "x-expires": 100_000}
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachBroker(t, func(t *testing.T, b broker) {
				b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
					_, err := ch.QueueDeclare(ctx, original)
					require.NoError(t, err)
					other := original
					change(&other)
					_, err = ch.QueueDeclare(ctx, other)
					requireException(t, err, amqp.PreconditionFailed, "inequivalent arg '"+name+"'")
				})
			})
		})
	}
}

func TestQueueArgumentsThatMakeNoSense(t *testing.T) {
	for name, arguments := range map[string]amqp.Table{
		"a TTL below zero":          {"x-message-ttl": -1},
		"a TTL that is a text":      {"x-message-ttl": "soon"},
		"an expiry of zero":         {"x-expires": 0},
		"a length below zero":       {"x-max-length": -1},
		"a key without an exchange": {"x-dead-letter-routing-key": "k"},
		"an exchange that is none":  {"x-dead-letter-exchange": 5},
		"an overflow that is none":  {"x-overflow": "sideways"},
		"too high a priority":       {"x-max-priority": 256},
	} {
		t.Run(name, func(t *testing.T) {
			eachBroker(t, func(t *testing.T, b broker) {
				b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
					_, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true, Arguments: arguments})
					requireException(t, err, amqp.PreconditionFailed, "PRECONDITION_FAILED")
				})
			})
		})
	}
}

func TestQueueArgumentsOfAnyIntegerKind(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			for _, ttl := range []any{int8(100), int16(100), int32(100), int64(100), 100, uint8(100), uint16(100), uint32(100)} {
				newQueue(t, ctx, ch, amqp.Table{"x-message-ttl": ttl})
			}
		})
	})
}

// What can't be sent is refused before a byte is, and the channel lives.
func TestQueueArgumentsThatCannotBeSent(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Arguments: amqp.Table{"a": amqp.Table{"b": []any{1, struct{}{}}}}})
			require.ErrorContains(t, err, "a.b")
			_, err = ch.QueueDeclare(ctx, amqp.Queue{Name: strings.Repeat("q", 256)})
			require.ErrorContains(t, err, "255")
			require.Error(t, ch.QueueBind(ctx, amqp.Binding{Queue: "q", Exchange: strings.Repeat("e", 256)}))
			newQueue(t, ctx, ch, nil)
			_, err = ch.QueueDeclare(ctx, amqp.Queue{Name: strings.Repeat("q", 255), Exclusive: true})
			require.NoError(t, err)
		})
	})
}

func TestQueueReservedNames(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "amq.mine"})
			requireException(t, err, amqp.AccessRefused, "amq.mine")
		})
	})
}

func TestQueueExclusive(t *testing.T) {
	uses := map[string]func(ctx context.Context, ch *amqp.Channel) error{
		"declare": func(ctx context.Context, ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "mine", Exclusive: true})
			return err
		},
		"declare passively": func(ctx context.Context, ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "mine", Passive: true})
			return err
		},
		"bind": func(ctx context.Context, ch *amqp.Channel) error {
			return ch.QueueBind(ctx, amqp.Binding{Queue: "mine", Exchange: "amq.fanout"})
		},
		"unbind": func(ctx context.Context, ch *amqp.Channel) error {
			return ch.QueueUnbind(ctx, amqp.Binding{Queue: "mine", Exchange: "amq.fanout"})
		},
		"purge": func(ctx context.Context, ch *amqp.Channel) error {
			_, err := ch.QueuePurge(ctx, amqp.QueuePurge{Name: "mine"})
			return err
		},
		"delete": func(ctx context.Context, ch *amqp.Channel) error {
			_, err := ch.QueueDelete(ctx, amqp.QueueDelete{Name: "mine"})
			return err
		},
		"get": func(ctx context.Context, ch *amqp.Channel) error {
			_, _, err := ch.Get(ctx, "mine", true)
			return err
		},
		"consume": func(ctx context.Context, ch *amqp.Channel) error {
			return ch.WithConsumer(ctx, amqp.Consume{Queue: "mine"}, func(*amqp.Consumer) error { return nil })
		},
	}
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, owner *amqp.Conn) {
			require.NoError(t, channelOn(ctx, owner, func(ctx context.Context, ch *amqp.Channel) {
				_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "mine", Exclusive: true})
				require.NoError(t, err)
				require.NoError(t, ch.QueueBind(ctx, amqp.Binding{Queue: "mine", Exchange: "amq.fanout"}))
				b.connection(t, func(ctx context.Context, stranger *amqp.Conn) {
					for name, use := range uses {
						require.NoError(t, channelOn(ctx, stranger, func(ctx context.Context, ch *amqp.Channel) {
							assert.ErrorIs(t, use(ctx, ch), amqp.ResourceLocked, name)
						}), name)
					}
				})
			}))
		})
		// It goes with its connection.
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			_, err := conn.QueueStatus(ctx, "mine")
			require.ErrorIs(t, err, amqp.NotFound)
		})
	})
}

// RabbitMQ overlooks the durable bit of an exclusive queue.
func TestQueueExclusiveIsNeverDurable(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			for _, durable := range []bool{true, false, true} {
				_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q", Exclusive: true, Durable: durable})
				require.NoError(t, err)
			}
		})
	})
}

func TestQueueAutoDelete(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "brief", AutoDelete: true})
				require.NoError(t, err)
				_, err = conn.QueueStatus(ctx, "brief")
				require.NoError(t, err, "it stays until it had a consumer")
				require.NoError(t, ch.WithConsumer(ctx, amqp.Consume{Queue: "brief"}, func(*amqp.Consumer) error { return nil }))
				_, err = conn.QueueStatus(ctx, "brief")
				require.ErrorIs(t, err, amqp.NotFound)
			}))
		})
	})
}

func TestQueueDurableAtTheBroker(t *testing.T) {
	onRabbitMQ(t, func(t *testing.T, b broker) {
		if b.node.ManagementURL() == "" {
			t.Skip("SKIPPED: the broker's view needs AMQP_MANAGEMENT_URL")
		}
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			for _, durable := range []bool{true, false} {
				_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q", Durable: durable, Arguments: amqp.Table{"x-max-length": 7}})
				require.NoError(t, err)
				q, err := b.node.Queue(ctx, b.vhost, "q")
				require.NoError(t, err)
				assert.Equal(t, durable, q.Durable)
				assert.EqualValues(t, 7, q.Arguments["x-max-length"])
				_, err = ch.QueueDelete(ctx, amqp.QueueDelete{Name: "q"})
				require.NoError(t, err)
			}
		})
	})
}

func TestQueueDelete(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			send(t, ctx, ch, q, "a", "b")
			n, err := ch.QueueDelete(ctx, amqp.QueueDelete{Name: q})
			require.NoError(t, err)
			assert.Equal(t, 2, n)
			n, err = ch.QueueDelete(ctx, amqp.QueueDelete{Name: q})
			require.NoError(t, err, "deleting what is gone is no failure")
			assert.Zero(t, n)

			q = newQueue(t, ctx, ch, nil)
			_, err = ch.QueueDelete(ctx, amqp.QueueDelete{Name: q, IfEmpty: true, IfUnused: true})
			require.NoError(t, err)
		})
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			send(t, ctx, ch, q, "a")
			_, err := ch.QueueDelete(ctx, amqp.QueueDelete{Name: q, IfEmpty: true})
			requireException(t, err, amqp.PreconditionFailed, "not empty")
		})
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			err := ch.WithConsumer(ctx, amqp.Consume{Queue: q}, func(*amqp.Consumer) error {
				_, err := ch.QueueDelete(ctx, amqp.QueueDelete{Name: q, IfUnused: true})
				requireException(t, err, amqp.PreconditionFailed, "in use")
				return nil
			})
			assert.True(t, err == nil || assert.ErrorIs(t, err, amqp.PreconditionFailed))
		})
	})
}

func TestQueuePurge(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			send(t, ctx, ch, q, "a", "b", "c")
			_, env := get(t, ctx, ch, q)
			n, err := ch.QueuePurge(ctx, amqp.QueuePurge{Name: q})
			require.NoError(t, err)
			assert.Equal(t, 2, n, "what is delivered stays")
			require.NoError(t, env.Nack(true))
			text, env := await(t, ctx, ch, q)
			assert.Equal(t, "a", text)
			assert.True(t, env.Redelivered)
			n, err = ch.QueuePurge(ctx, amqp.QueuePurge{Name: q})
			require.NoError(t, err)
			assert.Zero(t, n)
			_, err = ch.QueuePurge(ctx, amqp.QueuePurge{Name: "missing"})
			requireException(t, err, amqp.NotFound, "missing")
		})
	})
}

func TestQueueUnbindStopsTheFlow(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			binding := amqp.Binding{Queue: q, Exchange: "amq.direct", RoutingKey: "k", Arguments: amqp.Table{"note": "mine"}}
			require.NoError(t, ch.QueueBind(ctx, binding))
			require.NoError(t, ch.QueueBind(ctx, binding), "twice is as once")
			require.NoError(t, ch.Publish(ctx, "amq.direct", "k", amqp.Message{Body: []byte("bound")}))
			text, _ := await(t, ctx, ch, q)
			assert.Equal(t, "bound", text)
			requireEmpty(t, ctx, ch, q)

			other := binding
			other.Arguments = nil
			require.NoError(t, ch.QueueUnbind(ctx, other), "other arguments, another binding")
			require.NoError(t, ch.Publish(ctx, "amq.direct", "k", amqp.Message{Body: []byte("still bound")}))
			text, _ = await(t, ctx, ch, q)
			assert.Equal(t, "still bound", text)

			require.NoError(t, ch.QueueUnbind(ctx, binding))
			require.NoError(t, ch.Publish(ctx, "amq.direct", "k", amqp.Message{Body: []byte("unbound")}))
			requireEmpty(t, ctx, ch, q)
		})
	})
}

func TestQueueBindToWhatIsMissing(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			err := ch.QueueBind(ctx, amqp.Binding{Queue: newQueue(t, ctx, ch, nil), Exchange: "missing"})
			requireException(t, err, amqp.NotFound, "no exchange 'missing'")
		})
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			err := ch.QueueBind(ctx, amqp.Binding{Queue: "missing", Exchange: "amq.direct"})
			requireException(t, err, amqp.NotFound, "no queue 'missing'")
		})
	})
}

func TestQueueNoWait(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q", Exclusive: true, NoWait: true})
			require.NoError(t, err)
			binding := amqp.Binding{Queue: "q", Exchange: "amq.direct", RoutingKey: "k", NoWait: true}
			require.NoError(t, ch.QueueBind(ctx, binding))
			require.NoError(t, ch.Publish(ctx, "amq.direct", "k", amqp.Message{Body: []byte("a")}))
			text, _ := await(t, ctx, ch, "q")
			assert.Equal(t, "a", text)

			binding.NoWait = false // queue.unbind has no such bit
			require.NoError(t, ch.QueueUnbind(ctx, binding))
			require.NoError(t, ch.Publish(ctx, "amq.direct", "k", amqp.Message{Body: []byte("b")}))
			send(t, ctx, ch, "q", "c")
			_, err = ch.QueuePurge(ctx, amqp.QueuePurge{Name: "q", NoWait: true})
			require.NoError(t, err)
			q, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "q", Passive: true})
			require.NoError(t, err)
			assert.Zero(t, q.Messages)
			_, err = ch.QueueDelete(ctx, amqp.QueueDelete{Name: "q", NoWait: true})
			require.NoError(t, err)
			_, err = ch.QueueDeclare(ctx, amqp.Queue{Name: "q", Passive: true})
			require.ErrorIs(t, err, amqp.NotFound)
		})
	})
}

// An exception that no call waits for comes out of the scope.
func TestQueueNoWaitThatFails(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		err := b.channelEnds(t, func(ctx context.Context, ch *amqp.Channel) {
			require.NoError(t, ch.QueueBind(ctx, amqp.Binding{Queue: "missing", Exchange: "amq.direct", NoWait: true}))
			<-ch.Context().Done()
		})
		requireException(t, err, amqp.NotFound, "no queue 'missing'")
	})
}

// A queue without use is gone after x-expires. Looking at it would be a use, so
// the test waits for its binding to be gone.
func TestQueueExpires(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "brief", Arguments: amqp.Table{"x-expires": 50}})
			require.NoError(t, err)
			require.NoError(t, ch.Confirm(ctx))
			for ctx.Err() == nil {
				err = ch.Publish(ctx, "", "brief", amqp.Message{Mandatory: true})
				if err != nil && !errors.Is(err, amqp.ErrNacked) { // it was routed as the queue went
					break
				}
			}
			require.ErrorIs(t, err, amqp.ErrReturned)
		})
	})
}
