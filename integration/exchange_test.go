package integration

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// route binds one queue for each binding to a new exchange, publishes, and
// returns the indexes of the bindings whose queues got the message.
func route(t *testing.T, ctx context.Context, ch *amqp.Channel, kind string, bindings []amqp.Binding, key string, headers amqp.Table) []int {
	t.Helper()
	exchange := fmt.Sprintf("%s-%s-%v", kind, key, headers)
	require.NoError(t, ch.ExchangeDeclare(ctx, amqp.Exchange{Name: exchange, Kind: kind}))
	queues := make([]string, len(bindings))
	for i, binding := range bindings {
		queues[i] = newQueue(t, ctx, ch, nil)
		binding.Queue, binding.Exchange = queues[i], exchange
		require.NoError(t, ch.QueueBind(ctx, binding))
	}
	require.NoError(t, ch.Publish(ctx, exchange, key, amqp.Message{Properties: amqp.Properties{Headers: headers}}))
	var got []int
	for i, queue := range queues {
		_, _, err := ch.Get(ctx, queue, true)
		if err == nil {
			got = append(got, i)
			continue
		}
		require.ErrorIs(t, err, amqp.ErrEmptyQueue)
	}
	return got
}

func TestExchangeKindsRoute(t *testing.T) {
	keys := func(keys ...string) (bindings []amqp.Binding) {
		for _, key := range keys {
			bindings = append(bindings, amqp.Binding{RoutingKey: key})
		}
		return bindings
	}
	matches := []amqp.Binding{
		{Arguments: amqp.Table{"x-match": "all", "a": 1, "b": "x"}},
		{Arguments: amqp.Table{"x-match": "any", "a": 1, "b": "x"}},
		{Arguments: amqp.Table{"a": 1}},
		{Arguments: nil},
	}
	topics := keys("a.b.c", "a.*.c", "a.#", "#", "*", "#.c", "a.b", "")
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			assert.Equal(t, []int{0, 2}, route(t, ctx, ch, amqp.Direct, keys("k", "other", "k", ""), "k", nil))
			assert.Equal(t, []int{0, 1}, route(t, ctx, ch, amqp.Fanout, keys("k", "other"), "any", nil))
			assert.Equal(t, []int{0, 1, 2, 3, 5}, route(t, ctx, ch, amqp.Topic, topics, "a.b.c", nil))
			assert.Equal(t, []int{2, 3, 4}, route(t, ctx, ch, amqp.Topic, topics, "a", nil))
			assert.Equal(t, []int{3, 7}, route(t, ctx, ch, amqp.Topic, topics, "", nil))
			assert.Equal(t, []int{0, 1, 2, 3}, route(t, ctx, ch, amqp.Headers, matches, "", amqp.Table{"a": 1, "b": "x", "c": true}))
			assert.Equal(t, []int{1, 2, 3}, route(t, ctx, ch, amqp.Headers, matches, "", amqp.Table{"a": 1}))
			assert.Equal(t, []int{3}, route(t, ctx, ch, amqp.Headers, matches, "", amqp.Table{"c": 1}))
		})
	})
}

func TestExchangePassiveDeclare(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				require.NoError(t, ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "x", Kind: amqp.Topic, Durable: true}))
				require.NoError(t, ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "x", Kind: amqp.Direct, Passive: true}), "passive looks at the name alone")
				err := ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "missing", Kind: amqp.Direct, Passive: true})
				requireException(t, err, amqp.NotFound, "no exchange 'missing'")
			}))
		})
	})
}

func TestExchangeExists(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			for name, want := range map[string]bool{"amq.topic": true, "missing": false} {
				got, err := conn.ExchangeExists(ctx, name)
				require.NoError(t, err)
				assert.Equal(t, want, got, name)
			}
		})
	})
}

func TestExchangeRedeclaredOtherwise(t *testing.T) {
	original := amqp.Exchange{Name: "x", Kind: amqp.Direct, Durable: true}
	for name, change := range map[string]func(*amqp.Exchange){
		"type":               func(e *amqp.Exchange) { e.Kind = amqp.Fanout },
		"durable":            func(e *amqp.Exchange) { e.Durable = false },
		"auto_delete":        func(e *amqp.Exchange) { e.AutoDelete = true },
		"internal":           func(e *amqp.Exchange) { e.Internal = true },
		"alternate-exchange": func(e *amqp.Exchange) { e.Arguments = amqp.Table{"alternate-exchange": "y"} },
	} {
		t.Run(name, func(t *testing.T) {
			eachBroker(t, func(t *testing.T, b broker) {
				b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
					require.NoError(t, ch.ExchangeDeclare(ctx, original))
					require.NoError(t, ch.ExchangeDeclare(ctx, original))
					other := original
					change(&other)
					requireException(t, ch.ExchangeDeclare(ctx, other), amqp.PreconditionFailed, "inequivalent arg '"+name+"'")
				})
			})
		})
	}
}

func TestExchangeOfUnknownKind(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		code, closed := amqp.CommandInvalid, amqp.ErrConnectionClosed
		if b.since(t, 4, 0) {
			code, closed = amqp.PreconditionFailed, amqp.ErrChannelClosed
		}
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			err := ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "x", Kind: "magic"})
			requireException(t, err, code, "exchange type 'magic'")
			require.ErrorIs(t, err, closed)
		})
	})
}

func TestExchangesThatAreTheBrokers(t *testing.T) {
	refused := map[string]func(ctx context.Context, ch *amqp.Channel) error{
		"declare amq.mine": func(ctx context.Context, ch *amqp.Channel) error {
			return ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "amq.mine", Kind: amqp.Direct})
		},
		"delete amq.direct": func(ctx context.Context, ch *amqp.Channel) error {
			return ch.ExchangeDelete(ctx, amqp.ExchangeDelete{Name: "amq.direct"})
		},
		"declare the default": func(ctx context.Context, ch *amqp.Channel) error {
			return ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "", Kind: amqp.Direct})
		},
		"delete the default": func(ctx context.Context, ch *amqp.Channel) error {
			return ch.ExchangeDelete(ctx, amqp.ExchangeDelete{Name: ""})
		},
		"bind to the default": func(ctx context.Context, ch *amqp.Channel) error {
			return ch.QueueBind(ctx, amqp.Binding{Queue: "any", RoutingKey: "k"})
		},
	}
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			for name, try := range refused {
				require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
					requireException(t, try(ctx, ch), amqp.AccessRefused, "ACCESS_REFUSED")
				}), name)
			}
		})
	})
}

func TestExchangeDelete(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				require.NoError(t, ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "x", Kind: amqp.Direct}))
				require.NoError(t, ch.QueueBind(ctx, amqp.Binding{Queue: q, Exchange: "x"}))
				require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
					err := ch.ExchangeDelete(ctx, amqp.ExchangeDelete{Name: "x", IfUnused: true})
					requireException(t, err, amqp.PreconditionFailed, "in use")
				}))
				require.NoError(t, ch.QueueUnbind(ctx, amqp.Binding{Queue: q, Exchange: "x"}))
				require.NoError(t, ch.ExchangeDelete(ctx, amqp.ExchangeDelete{Name: "x", IfUnused: true}))
				require.NoError(t, ch.ExchangeDelete(ctx, amqp.ExchangeDelete{Name: "x"}), "deleting what is gone is no failure")
			}))
		})
	})
}

func TestExchangeInternal(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		err := b.channelEnds(t, func(ctx context.Context, ch *amqp.Channel) {
			require.NoError(t, ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "inside", Kind: amqp.Fanout, Internal: true}))
			require.NoError(t, ch.Publish(ctx, "inside", "", amqp.Message{}))
			<-ch.Context().Done()
		})
		requireException(t, err, amqp.AccessRefused, "internal exchange 'inside'")
	})
}

func TestExchangeToExchange(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			for _, name := range []string{"source", "destination"} {
				require.NoError(t, ch.ExchangeDeclare(ctx, amqp.Exchange{Name: name, Kind: amqp.Direct, AutoDelete: name == "source"}))
			}
			require.NoError(t, ch.QueueBind(ctx, amqp.Binding{Queue: q, Exchange: "destination", RoutingKey: "k"}))
			binding := amqp.ExchangeBinding{Destination: "destination", Source: "source", RoutingKey: "k"}
			require.NoError(t, ch.ExchangeBind(ctx, binding))
			require.NoError(t, ch.Publish(ctx, "source", "k", amqp.Message{Body: []byte("through both")}))
			text, env := await(t, ctx, ch, q)
			assert.Equal(t, "through both", text)
			assert.Equal(t, "source", env.Exchange)

			require.NoError(t, ch.ExchangeUnbind(ctx, binding))
			err := ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "source", Passive: true})
			requireException(t, err, amqp.NotFound, "source") // auto-deleted with its last binding
		})
	})
}

func TestExchangeAutoDelete(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				require.NoError(t, ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "brief", Kind: amqp.Fanout, AutoDelete: true}))
				require.NoError(t, ch.QueueBind(ctx, amqp.Binding{Queue: q, Exchange: "brief"}))
				there, err := conn.ExchangeExists(ctx, "brief")
				require.NoError(t, err)
				assert.True(t, there)
				_, err = ch.QueueDelete(ctx, amqp.QueueDelete{Name: q})
				require.NoError(t, err)
				there, err = conn.ExchangeExists(ctx, "brief")
				require.NoError(t, err)
				assert.False(t, there)
			}))
		})
	})
}

func TestExchangeNoWait(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.connection(t, func(ctx context.Context, conn *amqp.Conn) {
			require.NoError(t, channelOn(ctx, conn, func(ctx context.Context, ch *amqp.Channel) {
				q := newQueue(t, ctx, ch, nil)
				require.NoError(t, ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "x", Kind: amqp.Fanout, NoWait: true}))
				binding := amqp.ExchangeBinding{Destination: "amq.fanout", Source: "x", NoWait: true}
				require.NoError(t, ch.ExchangeBind(ctx, binding))
				require.NoError(t, ch.QueueBind(ctx, amqp.Binding{Queue: q, Exchange: "amq.fanout"}))
				require.NoError(t, ch.Publish(ctx, "x", "", amqp.Message{Body: []byte("a")}))
				text, _ := await(t, ctx, ch, q)
				assert.Equal(t, "a", text)
				require.NoError(t, ch.ExchangeUnbind(ctx, binding))
				require.NoError(t, ch.Publish(ctx, "x", "", amqp.Message{Body: []byte("b")}))
				requireEmpty(t, ctx, ch, q)
				binding.NoWait = false
				require.NoError(t, ch.ExchangeUnbind(ctx, binding), "there is none any more")
				require.NoError(t, ch.ExchangeDelete(ctx, amqp.ExchangeDelete{Name: "x", NoWait: true}))
				require.NoError(t, ch.QueueBind(ctx, amqp.Binding{Queue: q, Exchange: "amq.fanout"}), "a round trip")
				there, err := conn.ExchangeExists(ctx, "x")
				require.NoError(t, err)
				assert.False(t, there)
			}))
		})
	})
}

func TestAlternateExchange(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			q := newQueue(t, ctx, ch, nil)
			require.NoError(t, ch.ExchangeDeclare(ctx, amqp.Exchange{Name: "rest", Kind: amqp.Fanout}))
			require.NoError(t, ch.QueueBind(ctx, amqp.Binding{Queue: q, Exchange: "rest"}))
			require.NoError(t, ch.ExchangeDeclare(ctx, amqp.Exchange{
				Name: "x", Kind: amqp.Direct, Arguments: amqp.Table{"alternate-exchange": "rest"},
			}))
			require.NoError(t, ch.Publish(ctx, "x", "nobody's", amqp.Message{Body: []byte("stray"), Mandatory: true}))
			text, env := await(t, ctx, ch, q)
			assert.Equal(t, "stray", text)
			assert.Equal(t, "x", env.Exchange)
		})
	})
}

func TestDeclareTopology(t *testing.T) {
	topology := amqp.Topology{
		Exchanges: []amqp.Exchange{{Name: "in", Kind: amqp.Topic}, {Name: "out", Kind: amqp.Fanout}},
		Queues: []amqp.Queue{
			{Name: "one", Exclusive: true},
			{Name: "two", Exclusive: true, Arguments: amqp.Table{"x-max-length": 3}},
		},
		Bindings: []amqp.Binding{
			{Queue: "one", Exchange: "in", RoutingKey: "a.#"},
			{Queue: "two", Exchange: "out"},
		},
		ExchangeBindings: []amqp.ExchangeBinding{{Destination: "out", Source: "in", RoutingKey: "b.#"}},
	}
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			require.NoError(t, ch.Declare(ctx, amqp.Topology{}))
			for range 2 {
				require.NoError(t, ch.Declare(ctx, topology))
			}
			for key, queue := range map[string]string{"a.x": "one", "b.x": "two"} {
				require.NoError(t, ch.Publish(ctx, "in", key, amqp.Message{Body: []byte(key)}))
				text, _ := await(t, ctx, ch, queue)
				assert.Equal(t, key, text)
			}
			broken := topology
			broken.Queues = append([]amqp.Queue{{Name: "one", Exclusive: true, AutoDelete: true}}, broken.Queues...)
			requireException(t, ch.Declare(ctx, broken), amqp.PreconditionFailed, "'one'")
		})
	})
}

func TestDeclareManyQueuesInOneGo(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			var topology amqp.Topology
			for i := range 200 {
				name := fmt.Sprintf("q%d", i)
				topology.Queues = append(topology.Queues, amqp.Queue{Name: name, Exclusive: true})
				topology.Bindings = append(topology.Bindings, amqp.Binding{Queue: name, Exchange: "amq.fanout"})
			}
			require.NoError(t, ch.Declare(ctx, topology))
			require.NoError(t, ch.Publish(ctx, "amq.fanout", "", amqp.Message{Body: []byte("all")}))
			for _, q := range topology.Queues {
				text, _ := await(t, ctx, ch, q.Name)
				require.Equal(t, "all", text)
			}
		})
	})
}
