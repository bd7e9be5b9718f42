package amqptest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

func (c *testClient) exchange(name, kind string, arguments wire.Table) {
	c.t.Helper()
	c.send(1, &wire.ExchangeDeclare{Exchange: name, Type: kind, Arguments: arguments})
	expect[*wire.ExchangeDeclareOk](c)
}

func (c *testClient) bind(queue, exchange, key string, arguments wire.Table) {
	c.t.Helper()
	c.send(1, &wire.QueueBind{Queue: queue, Exchange: exchange, RoutingKey: key, Arguments: arguments})
	expect[*wire.QueueBindOk](c)
}

func (c *testClient) publishTo(exchange, key string, headers wire.Table) {
	c.t.Helper()
	c.publishOn(1, wire.BasicPublish{Exchange: exchange, RoutingKey: key}, &wire.Properties{Headers: headers}, "m")
}

func TestTopic(t *testing.T) {
	c := dial(t, memoryBroker(t))
	for _, tt := range []struct {
		pattern, key string
		matches      bool
	}{
		{"#", "", true}, {"#", "a.b", true}, {"*", "a", true}, {"*", "", false}, {"*", "a.b", false}, {"a.#", "a", true},
		{"a.#", "a.b.c", true}, {"a.#", "b.a", false}, {"a.#.b", "a.b", true}, {"a.#.b", "a.c.d.b", true}, {"a.#.b", "a.b.c", false},
		{"a.*.b", "a..b", true}, {"#.b", "b", true}, {"a.b", "a.b.", false}, {"*.*", ".", true}, {"#.#", "x", true},
		{"a.#.#.b", "a.c.b", true}, {"#.a.#", "b.a.c", true}, {"#.a.#", "b.c", false}, {"*.#.*", "a", false}, {"*.#.*", "a.b", true},
	} {
		c.declare("q", nil)
		c.bind("q", "amq.topic", tt.pattern, nil)
		c.publishTo("amq.topic", tt.key, nil)
		assert.Equal(t, tt.matches, c.get("q") != nil, "%q and %q", tt.pattern, tt.key)
		c.call(&wire.QueueDelete{Queue: "q"})
	}
}

// TestTopicPatternsThatTry has a pattern that a matcher with backtracking would not get to the end of.
func TestTopicPatternsThatTry(t *testing.T) {
	c := dial(t, memoryBroker(t))
	c.declare("q", nil)
	pattern, key := "#", "a"
	for range 40 {
		pattern, key = pattern+".a.#", key+".a.a"
	}
	c.bind("q", "amq.topic", pattern+".b", nil)
	c.publishTo("amq.topic", key, nil)
	assert.Nil(t, c.get("q"))
}

func TestHeaders(t *testing.T) {
	c := dial(t, memoryBroker(t))
	for _, tt := range []struct {
		arguments, headers wire.Table
		matches            bool
	}{
		{wire.Table{"x-match": "all", "a": int32(1), "b": "x"}, wire.Table{"a": int64(1), "b": "x", "c": true}, true},
		{wire.Table{"x-match": "all", "a": int32(1), "b": "x"}, wire.Table{"a": int32(1)}, false},
		{wire.Table{"x-match": "all", "a": int32(1)}, wire.Table{"a": "1"}, false},
		{wire.Table{"x-match": "any", "a": int32(1), "b": int32(2)}, wire.Table{"b": int32(2)}, true},
		{wire.Table{"x-match": "any", "a": int32(1)}, wire.Table{"a": int32(2)}, false},
		{wire.Table{"x-match": "all", "a": []byte("x")}, wire.Table{"a": "x"}, true},
		{wire.Table{"x-match": "all", "a": true}, wire.Table{"a": int32(1)}, false},
		{wire.Table{"x-match": "all", "a": wire.Table{"x": int32(1)}}, wire.Table{"a": wire.Table{"x": int32(1)}}, true},
		{wire.Table{"x-match": "all"}, nil, true},
		{wire.Table{"x-match": "any"}, wire.Table{"a": int32(1)}, false},
		{wire.Table{"a": nil}, wire.Table{"a": int32(5)}, true},
		{wire.Table{"a": nil}, nil, false},
		{wire.Table{"x-match": "all", "x-a": int32(1)}, nil, true},
		{wire.Table{"x-match": "all-with-x", "x-a": int32(1)}, nil, false},
		{wire.Table{"x-match": "any", "x-a": int32(1)}, wire.Table{"x-a": int32(1)}, false},
		{wire.Table{"x-match": "any-with-x", "x-a": int32(1)}, wire.Table{"x-a": int32(1)}, true},
	} {
		c.declare("q", nil)
		c.bind("q", "amq.headers", "", tt.arguments)
		c.publishTo("amq.headers", "", tt.headers)
		assert.Equal(t, tt.matches, c.get("q") != nil, "%v and %v", tt.arguments, tt.headers)
		c.call(&wire.QueueDelete{Queue: "q"})
	}
	c.declare("q", nil)
	c.send(1, &wire.QueueBind{Queue: "q", Exchange: "amq.headers", Arguments: wire.Table{"x-match": "foo"}})
	c.refused(406, `PRECONDITION_FAILED - Invalid x-match field value <<"foo">>; expected all, any, all-with-x, or any-with-x`)
}

func TestDuplicateBindingsDeliverOnce(t *testing.T) {
	b := memoryBroker(t)
	c := dial(t, b)
	c.declare("q", nil)
	c.bind("q", "amq.topic", "a.*", nil)
	c.bind("q", "amq.topic", "*.b", nil)
	c.bind("q", "amq.topic", "*.b", nil)
	c.publishTo("amq.topic", "a.b", nil)
	assert.Equal(t, []string{"m"}, c.bodies("q"))
	assert.Len(t, b.Bindings(), 2)
	c.call(&wire.QueueUnbind{Queue: "q", Exchange: "amq.topic", RoutingKey: "*.b"})
	assert.Len(t, b.Bindings(), 1)
}

func TestExchangeToExchange(t *testing.T) {
	c := dial(t, memoryBroker(t))
	c.exchange("one", "fanout", nil)
	c.exchange("two", "topic", nil)
	c.declare("q", nil)
	for _, m := range []wire.Method{
		&wire.ExchangeBind{Destination: "two", Source: "one"},
		&wire.ExchangeBind{Destination: "one", Source: "two", RoutingKey: "#"}, // a loop
		&wire.QueueBind{Queue: "q", Exchange: "two", RoutingKey: "a.*"},
	} {
		c.call(m)
	}
	c.publishTo("one", "a.b", nil)
	c.publishTo("one", "b.a", nil)
	assert.Equal(t, []string{"m"}, c.bodies("q"))
	c.call(&wire.ExchangeUnbind{Destination: "two", Source: "one"})
	c.publishTo("one", "a.b", nil)
	assert.Empty(t, c.bodies("q"))
}

func TestAlternateExchange(t *testing.T) {
	c := dial(t, memoryBroker(t))
	c.exchange("rest", "fanout", nil)
	c.exchange("main", "direct", wire.Table{"alternate-exchange": "rest"})
	c.declare("q", nil)
	c.declare("r", nil)
	c.bind("q", "main", "k", nil)
	c.bind("r", "rest", "", nil)
	c.publishTo("main", "k", nil)
	c.publishOn(1, wire.BasicPublish{Exchange: "main", RoutingKey: "other", Mandatory: true}, nil, "lost")
	c.nothing() // it is routed, so nothing is returned
	assert.Equal(t, []string{"m"}, c.bodies("q"))
	assert.Equal(t, []string{"lost"}, c.bodies("r"))
}

func TestSenderSelected(t *testing.T) {
	c := dial(t, memoryBroker(t))
	for _, q := range []string{"a", "b", "c"} {
		c.declare(q, nil)
	}
	c.publishTo("", "a", wire.Table{"CC": []any{"b", "a"}, "BCC": []any{"c"}, "z": true})
	for _, q := range []string{"a", "b", "c"} {
		r := c.get(q)
		require.NotNil(t, r, q)
		assert.Equal(t, wire.Table{"CC": []any{"b", "a"}, "z": true}, r.props.Headers)
		assert.Nil(t, c.get(q))
	}
	c.publishTo("", "a", wire.Table{"CC": "b"})
	c.refused(406, `PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,"CC",longstr}`)
}

func TestAutoDeleteCascade(t *testing.T) {
	b := memoryBroker(t)
	c := dial(t, b)
	for _, x := range []string{"one", "two"} {
		c.call(&wire.ExchangeDeclare{Exchange: x, Type: "fanout", AutoDelete: true})
	}
	c.call(&wire.QueueDeclare{Queue: "q", AutoDelete: true})
	c.call(&wire.ExchangeBind{Destination: "two", Source: "one"})
	c.bind("q", "two", "", nil)
	c.consume("q", "tag")
	assert.Len(t, b.Exchanges(), 9)
	c.call(&wire.BasicCancel{ConsumerTag: "tag"}) // the queue goes, and takes its exchange, and that one the other
	assert.Empty(t, b.Queues())
	assert.Len(t, b.Exchanges(), 7)
}

func TestDirectReplyTo(t *testing.T) {
	b := memoryBroker(t)
	asker, answerer := dial(t, b), dial(t, b)
	answerer.declare("rpc", nil)
	asker.publishWith("rpc", "early", wire.Properties{ReplyTo: replyToName})
	asker.refused(406, "PRECONDITION_FAILED - fast reply consumer does not exist")
	asker.send(1, &wire.BasicConsume{Queue: replyToName})
	asker.refused(406, "PRECONDITION_FAILED - reply consumer cannot acknowledge")
	asker.consume(replyToName, "replies", noAck)
	asker.publishWith("rpc", "question", wire.Properties{ReplyTo: replyToName, CorrelationID: "7"})
	asker.nothing()
	question := answerer.get("rpc")
	require.NotNil(t, question)
	address := question.props.ReplyTo
	assert.Regexp(t, `^amq\.rabbitmq\.reply-to\..+`, address)
	assert.Equal(t, &wire.QueueDeclareOk{Queue: address, ConsumerCount: 1}, answerer.call(&wire.QueueDeclare{Queue: address, Passive: true}))
	answerer.publishWith(address, "answer", wire.Properties{CorrelationID: question.props.CorrelationID})
	d, answer := expectMessage[*wire.BasicDeliver](asker)
	assert.Equal(t, &wire.BasicDeliver{ConsumerTag: "replies", DeliveryTag: 1, RoutingKey: address}, d)
	assert.Equal(t, "answer", answer.body)
	assert.Equal(t, "7", answer.props.CorrelationID)
	asker.call(&wire.BasicCancel{ConsumerTag: "replies"})
	answerer.send(1, &wire.QueueDeclare{Queue: address, Passive: true})
	answerer.refused(404, "NOT_FOUND - no queue '"+address+"' in vhost '/'")
	answerer.publishOn(1, wire.BasicPublish{RoutingKey: address, Mandatory: true}, nil, "too late")
	expect[*wire.BasicReturn](answerer)
}

// TestHiddenKeys sees to it that the keys of a BCC header route a dead letter, too, and don't show in its history.
func TestHiddenKeys(t *testing.T) {
	c := dial(t, memoryBroker(t))
	c.exchange("dlx", "direct", nil)
	c.declare("hidden", nil)
	c.bind("hidden", "dlx", "bcc", nil)
	c.declare("q", wire.Table{"x-dead-letter-exchange": "dlx"})
	c.publishTo("", "q", wire.Table{"CC": []any{"cc"}, "BCC": []any{"bcc"}})
	c.hold(1)
	c.send(1, &wire.BasicReject{DeliveryTag: 1})
	r := c.get("hidden")
	require.NotNil(t, r)
	assert.Equal(t, []any{"q", "cc"}, r.props.Headers["x-death"].([]any)[0].(wire.Table)["routing-keys"])
	assert.NotContains(t, r.props.Headers, "BCC")
}
