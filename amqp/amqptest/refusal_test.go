package amqptest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// TestChannelRefusals has what closes a channel, with the texts that RabbitMQ 3.10.8 was seen to send.
func TestChannelRefusals(t *testing.T) {
	b := memoryBroker(t)
	other := dial(t, b)
	other.call(&wire.QueueDeclare{Queue: "locked", Exclusive: true})
	c := dial(t, b)
	c.declare("q", nil)
	c.declare("busy", nil)
	c.publish("busy", "x")
	other.consume("busy", "other", func(m *wire.BasicConsume) { m.Exclusive = true })
	c.declare("ttl", wire.Table{"x-message-ttl": int32(1000)})
	c.declare("sac", wire.Table{"x-single-active-consumer": true})
	c.exchange("x", "direct", nil)
	c.exchange("ae", "direct", wire.Table{"alternate-exchange": "other"})
	c.call(&wire.ExchangeDeclare{Exchange: "inner", Type: "fanout", Internal: true})
	c.bind("q", "x", "k", nil)
	declare := func(arguments wire.Table) wire.Method { return &wire.QueueDeclare{Queue: "new", Arguments: arguments} }
	const lockedText = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'locked' in vhost '/'. It could be originally declared on " +
		"another connection or the exclusive property value does not match that of the original declaration."
	const invalid = "PRECONDITION_FAILED - invalid arg "
	for _, tt := range []struct {
		method wire.Method
		code   uint16
		text   string
	}{
		{&wire.QueueDeclare{Queue: "nope", Passive: true}, 404, "NOT_FOUND - no queue 'nope' in vhost '/'"},
		{&wire.QueueDeclare{Passive: true}, 404, "NOT_FOUND - no queue '' in vhost '/'"},
		{&wire.QueueDeclare{Queue: "amq.foo"}, 403, "ACCESS_REFUSED - queue name 'amq.foo' contains reserved prefix 'amq.*'"},
		{&wire.QueueDeclare{Queue: "q", Durable: true}, 406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'"},
		{&wire.QueueDeclare{Queue: "q", AutoDelete: true}, 406, "PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'"},
		{&wire.QueueDeclare{Queue: "ttl", Arguments: wire.Table{"x-message-ttl": int32(2)}}, 406, "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'ttl' in vhost '/': received '2' but current is '1000'"},
		{&wire.QueueDeclare{Queue: "ttl"}, 406, "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'ttl' in vhost '/': received none but current is the value '1000' of type 'signedint'"},
		{&wire.QueueDeclare{Queue: "q", Arguments: wire.Table{"x-expires": int32(2)}}, 406, "PRECONDITION_FAILED - inequivalent arg 'x-expires' for queue 'q' in vhost '/': received the value '2' of type 'signedint' but current is none"},
		{&wire.QueueDeclare{Queue: "locked", Exclusive: true}, 405, lockedText},
		{&wire.QueueDeclare{Queue: "locked", Passive: true}, 405, lockedText},
		{&wire.QueueDelete{Queue: "locked"}, 405, lockedText},
		{&wire.QueuePurge{Queue: "locked"}, 405, lockedText},
		{&wire.QueueBind{Queue: "locked", Exchange: "x"}, 405, lockedText},
		{&wire.QueueUnbind{Queue: "locked", Exchange: "x"}, 405, lockedText},
		{&wire.BasicConsume{Queue: "locked"}, 405, lockedText},
		{&wire.BasicGet{Queue: "locked"}, 405, lockedText},
		{declare(wire.Table{"x-message-ttl": "abc"}), 406, invalid + "'x-message-ttl' for queue 'new' in vhost '/': \"expected integer, got longstr\""},
		{declare(wire.Table{"x-message-ttl": int32(-1)}), 406, invalid + "'x-message-ttl' for queue 'new' in vhost '/': {value_negative,-1}"},
		{declare(wire.Table{"x-message-ttl": int64(1 << 40)}), 406, invalid + "'x-message-ttl' for queue 'new' in vhost '/': {value_too_large,1099511627776}"},
		{declare(wire.Table{"x-expires": int32(0)}), 406, invalid + "'x-expires' for queue 'new' in vhost '/': {value_zero,0}"},
		{declare(wire.Table{"x-max-length": int32(-1)}), 406, invalid + "'x-max-length' for queue 'new' in vhost '/': {value_negative,-1}"},
		{declare(wire.Table{"x-overflow": "foo"}), 406, invalid + "'x-overflow' for queue 'new' in vhost '/': invalid_overflow"},
		{declare(wire.Table{"x-overflow": int32(3)}), 406, invalid + "'x-overflow' for queue 'new' in vhost '/': {unacceptable_type,signedint}"},
		{declare(wire.Table{"x-dead-letter-exchange": int32(3)}), 406, "PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'new' in vhost '/'"},
		{declare(wire.Table{"x-dead-letter-routing-key": "k"}), 406, invalid + "'x-dead-letter-routing-key' for queue 'new' in vhost '/': routing_key_but_no_dlx_defined"},
		{declare(wire.Table{"x-max-priority": int32(256)}), 406, invalid + "'x-max-priority' for queue 'new' in vhost '/': {max_value_exceeded,256}"},
		{declare(wire.Table{"x-single-active-consumer": "a"}), 406, invalid + "'x-single-active-consumer' for queue 'new' in vhost '/': {unacceptable_type,longstr}"},
		{declare(wire.Table{"x-queue-type": "foo"}), 406, invalid + "'x-queue-type' for queue 'new' in vhost '/': \"unsupported queue type 'foo'\""},
		{declare(wire.Table{"x-delivery-limit": int32(3)}), 406, invalid + "'x-delivery-limit' for queue 'new' in vhost '/' of queue type rabbit_classic_queue"},
		{declare(wire.Table{"x-queue-mode": "foo"}), 406, invalid + "'x-queue-mode' for queue 'new' in vhost '/': \"unsupported queue mode 'foo'\""},
		{declare(wire.Table{"x-unknown": true}), 406, invalid + "'x-unknown' for queue 'new' in vhost '/': amqptest does not know it; WithArguments lets it pass"},
		{declare(wire.Table{"x-queue-type": "quorum"}), 406, "PRECONDITION_FAILED - invalid property 'non-durable' for queue 'new' in vhost '/'"},
		{&wire.QueueDeclare{Queue: "new", Durable: true, Exclusive: true, Arguments: wire.Table{"x-queue-type": "quorum"}}, 406, "PRECONDITION_FAILED - invalid property 'exclusive-owner' for queue 'new' in vhost '/'"},
		{&wire.QueueDeclare{Queue: "new", Durable: true, Arguments: wire.Table{"x-queue-type": "quorum", "x-max-priority": int32(1)}}, 406, invalid + "'x-max-priority' for queue 'new' in vhost '/' of queue type rabbit_quorum_queue"},
		{&wire.QueuePurge{Queue: "nope"}, 404, "NOT_FOUND - no queue 'nope' in vhost '/'"},
		{&wire.QueueDelete{Queue: "busy", IfUnused: true}, 406, "PRECONDITION_FAILED - queue 'busy' in vhost '/' in use"},
		{&wire.QueueBind{Queue: "nope", Exchange: "x"}, 404, "NOT_FOUND - no queue 'nope' in vhost '/'"},
		{&wire.QueueBind{Queue: "q", Exchange: "nope"}, 404, "NOT_FOUND - no exchange 'nope' in vhost '/'"},
		{&wire.QueueBind{Queue: "q"}, 403, "ACCESS_REFUSED - operation not permitted on the default exchange"},
		{&wire.QueueUnbind{Queue: "q"}, 403, "ACCESS_REFUSED - operation not permitted on the default exchange"},
		{&wire.ExchangeDeclare{Exchange: "nope", Type: "direct", Passive: true}, 404, "NOT_FOUND - no exchange 'nope' in vhost '/'"},
		{&wire.ExchangeDeclare{Exchange: "amq.foo", Type: "direct"}, 403, "ACCESS_REFUSED - exchange name 'amq.foo' contains reserved prefix 'amq.*'"},
		{&wire.ExchangeDeclare{Type: "direct"}, 403, "ACCESS_REFUSED - operation not permitted on the default exchange"},
		{&wire.ExchangeDeclare{Exchange: "x", Type: "fanout"}, 406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'x' in vhost '/': received 'fanout' but current is 'direct'"},
		{&wire.ExchangeDeclare{Exchange: "x", Type: "direct", Internal: true}, 406, "PRECONDITION_FAILED - inequivalent arg 'internal' for exchange 'x' in vhost '/': received 'true' but current is 'false'"},
		{&wire.ExchangeDeclare{Exchange: "ae", Type: "direct"}, 406, "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'ae' in vhost '/': received none but current is the value 'other' of type 'longstr'"},
		{&wire.ExchangeDeclare{Exchange: "y", Type: "direct", Arguments: wire.Table{"alternate-exchange": int32(3)}}, 406, "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange 'y' in vhost '/'"},
		{&wire.ExchangeDelete{}, 403, "ACCESS_REFUSED - operation not permitted on the default exchange"},
		{&wire.ExchangeDelete{Exchange: "amq.direct"}, 403, "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed"},
		{&wire.ExchangeDelete{Exchange: "x", IfUnused: true}, 406, "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use"},
		{&wire.ExchangeBind{Destination: "nope", Source: "x"}, 404, "NOT_FOUND - no exchange 'nope' in vhost '/'"},
		{&wire.BasicConsume{Queue: "nope"}, 404, "NOT_FOUND - no queue 'nope' in vhost '/'"},
		{&wire.BasicConsume{}, 404, "NOT_FOUND - no previously declared queue"},
		{&wire.BasicConsume{Queue: "busy"}, 403, "ACCESS_REFUSED - queue 'busy' in vhost '/' in exclusive use"},
		{&wire.BasicConsume{Queue: "q", Arguments: wire.Table{"x-priority": "a"}}, 406, invalid + "'x-priority' for queue 'q' in vhost '/': \"expected integer, got longstr\""},
		{&wire.BasicGet{Queue: "nope"}, 404, "NOT_FOUND - no queue 'nope' in vhost '/'"},
		{&wire.BasicGet{}, 404, "NOT_FOUND - no previously declared queue"},
	} {
		c.openChannel(2)
		c.send(2, tt.method)
		m := expect[*wire.ChannelClose](c)
		assert.Equal(t, tt.text, m.ReplyText)
		assert.Equal(t, tt.code, m.ReplyCode, tt.text)
		assert.Equal(t, tt.method.ID(), wire.MethodID(uint32(m.ClassID)<<16|uint32(m.MethodID)), tt.text)
		c.send(2, &wire.ChannelCloseOk{})
	}
	c.nothing() // channel 1 has seen none of this
}

// TestPublishRefusals has the messages that close their channel.
func TestPublishRefusals(t *testing.T) {
	c := dial(t, memoryBroker(t, WithMaxMessageSize(100)))
	c.call(&wire.ExchangeDeclare{Exchange: "inner", Type: "fanout", Internal: true})
	for _, tt := range []struct {
		exchange string
		props    wire.Properties
		body     string
		code     uint16
		text     string
	}{
		{"nope", wire.Properties{}, "", 404, "NOT_FOUND - no exchange 'nope' in vhost '/'"},
		{"inner", wire.Properties{}, "", 403, "ACCESS_REFUSED - cannot publish to internal exchange 'inner' in vhost '/'"},
		{"", wire.Properties{Expiration: "abc"}, "", 406, "PRECONDITION_FAILED - invalid expiration 'abc': no_integer"},
		{"", wire.Properties{Expiration: "-1"}, "", 406, "PRECONDITION_FAILED - invalid expiration '-1': {value_negative,-1}"},
		{"", wire.Properties{Expiration: "10x"}, "", 406, `PRECONDITION_FAILED - invalid expiration '10x': {leftover_string,"x"}`},
		{"", wire.Properties{Expiration: "1099511627776"}, "", 406, "PRECONDITION_FAILED - invalid expiration '1099511627776': {value_too_large,1099511627776}"},
		{"", wire.Properties{Expiration: "99999999999999999999999"}, "", 406, "PRECONDITION_FAILED - invalid expiration '99999999999999999999999': {value_too_large,99999999999999999999999}"},
		{"", wire.Properties{UserID: "bob"}, "", 406, "PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'guest'"},
		{"", wire.Properties{}, string(make([]byte, 101)), 406, "PRECONDITION_FAILED - message size 101 is larger than configured max size 100"},
	} {
		c.publishOn(1, wire.BasicPublish{Exchange: tt.exchange}, &tt.props, tt.body)
		c.refused(tt.code, tt.text)
	}
	c.publishWith("", "x", wire.Properties{UserID: "guest", Expiration: "0"})
	c.nothing()
}

// TestConnectionRefusals has what closes the whole connection.
func TestConnectionRefusals(t *testing.T) {
	b := memoryBroker(t)
	setup := dial(t, b)
	setup.declare("q", nil)
	frames := func(frames ...[]byte) (all []byte) {
		for _, f := range frames {
			all = append(all, f...)
		}
		return all
	}
	method := func(channel uint16, m wire.Method) []byte {
		f, err := wire.AppendMethod(nil, channel, m)
		require.NoError(t, err)
		return f
	}
	publish := method(1, &wire.BasicPublish{RoutingKey: "q"})
	header, err := wire.AppendContentHeader(nil, 1, 3, nil)
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		bytes []byte
		code  uint16
		text  string
	}{
		"channel not open":    {method(2, &wire.BasicQos{}), 504, "CHANNEL_ERROR - expected 'channel.open'"},
		"channel opened":      {method(1, &wire.ChannelOpen{}), 504, "CHANNEL_ERROR - second 'channel.open' seen"},
		"exchange type":       {method(1, &wire.ExchangeDeclare{Exchange: "e", Type: "foo"}), 503, "COMMAND_INVALID - invalid exchange type 'foo'"},
		"tag twice":           {frames(method(1, &wire.BasicConsume{Queue: "q", ConsumerTag: "t", NoWait: true}), method(1, &wire.BasicConsume{Queue: "q", ConsumerTag: "t"})), 530, "NOT_ALLOWED - attempt to reuse consumer tag 't'"},
		"recover":             {method(1, &wire.BasicRecover{}), 540, "NOT_IMPLEMENTED - requeue=false"},
		"flow":                {method(1, &wire.ChannelFlow{}), 540, "NOT_IMPLEMENTED - active=false"},
		"immediate":           {frames(method(1, &wire.BasicPublish{Immediate: true}), header, wire.AppendBody(nil, 1, []byte("abc"), 0)), 540, "NOT_IMPLEMENTED - immediate=true"},
		"cancel-ok":           {method(1, &wire.BasicCancelOk{}), 503, "COMMAND_INVALID - unimplemented method"},
		"not for channel 0":   {method(0, &wire.BasicQos{}), 504, "CHANNEL_ERROR - unexpected method in connection state running"},
		"unknown frame":       {Frame(7, 1, []byte("abc")), 501, `FRAME_ERROR - type 7, all octets = <<"abc">>: unknown_frame`},
		"frame end":           {append(Frame(1, 1, []byte{0, 20, 0, 10, 0})[:12], 0), 501, "FRAME_ERROR - type 1, all octets = <<0,20,0,10,0>>: {invalid_frame_end_marker,0}"},
		"frame too large":     {wire.AppendFrameHeader(nil, 1, 1, 131073), 501, "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,131073,131064}"},
		"heartbeat's channel": {Frame(8, 1, nil), 505, "UNEXPECTED_FRAME - type 8, all octets = <<>>"},
		"heartbeat's payload": {Frame(8, 0, []byte("x")), 501, `FRAME_ERROR - type 8, all octets = <<"x">>: unknown_frame`},
		"unknown method":      {MethodFrame(1, 60, 99, nil), 503, "COMMAND_INVALID - unknown method 60/99"},
		"method cut short":    {MethodFrame(1, 50, 10, []byte{0, 0}), 501, "FRAME_ERROR - cannot decode <<0,0>>"},
		"body first":          {Frame(3, 1, []byte("abc")), 505, "UNEXPECTED_FRAME - expected method frame, got non method frame instead"},
		"two methods":         {frames(publish, method(1, &wire.BasicQos{})), 505, "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"},
		"header twice":        {frames(publish, header, header), 505, "UNEXPECTED_FRAME - expected content body, got non content body frame instead"},
		"header's class":      {frames(publish, Frame(2, 1, []byte{0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})), 505, "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead"},
		"body too long":       {frames(publish, header, Frame(3, 1, []byte("abcd"))), 501, "FRAME_ERROR - content body of 4 bytes where 3 were to come"},
		"broken properties":   {frames(publish, Frame(2, 1, []byte{0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0})), 541, "INTERNAL_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, b)
			c.write(tt.bytes)
			c.refusedConnection(tt.code, tt.text)
		})
	}
	setup.nothing() // other connections have seen none of this
}

func TestWhatIsNoError(t *testing.T) {
	c := dial(t, memoryBroker(t, WithArguments("x-mine")))
	for _, tt := range []struct{ method, answer wire.Method }{
		{&wire.QueueDelete{Queue: "nope"}, &wire.QueueDeleteOk{}},
		{&wire.ExchangeDelete{Exchange: "nope"}, &wire.ExchangeDeleteOk{}},
		{&wire.QueueUnbind{Queue: "nope", Exchange: "x"}, &wire.QueueUnbindOk{}},
		{&wire.QueueUnbind{Queue: "nope", Exchange: "amq.direct"}, &wire.QueueUnbindOk{}},
		{&wire.BasicCancel{ConsumerTag: "nope"}, &wire.BasicCancelOk{ConsumerTag: "nope"}},
		{&wire.ExchangeDeclare{Exchange: "amq.direct", Type: "direct", Durable: true}, &wire.ExchangeDeclareOk{}},
		{&wire.ExchangeDeclare{Exchange: "amq.direct", Passive: true}, &wire.ExchangeDeclareOk{}},
		{&wire.QueueDeclare{Queue: "a\r\nb", Arguments: wire.Table{"x-mine": true}}, &wire.QueueDeclareOk{Queue: "ab"}},
		{&wire.QueueDeclare{Queue: "ab", Passive: true, Durable: true}, &wire.QueueDeclareOk{Queue: "ab"}},
		{&wire.QueueDeclare{Queue: "ab", Arguments: wire.Table{"x-mine": true, "x-queue-type": "classic"}}, &wire.QueueDeclareOk{Queue: "ab"}},
		{&wire.QueueDeclare{Queue: "own", Exclusive: true}, &wire.QueueDeclareOk{Queue: "own"}},
		{&wire.QueueDeclare{Queue: "own", Exclusive: true, Durable: true}, &wire.QueueDeclareOk{Queue: "own"}}, // it can't last
		{&wire.ChannelFlow{Active: true}, &wire.ChannelFlowOk{Active: true}},
	} {
		assert.Equal(t, tt.answer, c.call(tt.method))
	}
}

func TestNoWait(t *testing.T) {
	b := memoryBroker(t)
	c := dial(t, b)
	for _, m := range []wire.Method{
		&wire.ExchangeDeclare{Exchange: "x", Type: "fanout", NoWait: true}, &wire.QueueDeclare{Queue: "q", NoWait: true},
		&wire.QueueBind{Queue: "q", Exchange: "x", NoWait: true}, &wire.BasicConsume{Queue: "q", ConsumerTag: "t", NoWait: true},
		&wire.ConfirmSelect{NoWait: true}, &wire.BasicCancel{ConsumerTag: "t", NoWait: true}, &wire.QueuePurge{Queue: "q", NoWait: true},
	} {
		c.send(1, m)
	}
	c.nothing()
	assert.Len(t, b.Bindings(), 1)
	c.send(1, &wire.QueueDelete{Queue: "q", NoWait: true})
	c.send(1, &wire.ExchangeDelete{Exchange: "x", NoWait: true})
	c.nothing()
	assert.Empty(t, b.Queues())
	assert.Empty(t, b.Bindings())
}

func TestServerNamedAndExclusive(t *testing.T) {
	b := memoryBroker(t)
	c := dial(t, b)
	ok := c.call(&wire.QueueDeclare{Exclusive: true}).(*wire.QueueDeclareOk)
	assert.Regexp(t, `^amq\.gen-.{22}$`, ok.Queue)
	tag := c.call(&wire.BasicConsume{}).(*wire.BasicConsumeOk).ConsumerTag // the queue that was declared last
	assert.Regexp(t, `^amq\.ctag-.{22}$`, tag)
	assert.Equal(t, ok.Queue, b.Consumers()[0].Queue)
	require.NoError(t, c.nc.Close())
	until(t, b, func() bool { return len(b.Queues()) == 0 })
}

func TestQueueDeletionCancelsConsumers(t *testing.T) {
	b := memoryBroker(t)
	c, deleter := dial(t, b), dial(t, b)
	c.declare("q", nil)
	c.consume("q", "me")
	c.publish("q", "x")
	c.deliveries(1)
	assert.Equal(t, &wire.QueueDeleteOk{}, deleter.call(&wire.QueueDelete{Queue: "q"}))
	assert.Equal(t, &wire.BasicCancel{ConsumerTag: "me", NoWait: true}, expect[*wire.BasicCancel](c))
	c.send(1, &wire.BasicAck{DeliveryTag: 1}) // the message is gone with its queue, and that is no error
	c.nothing()
}

func TestNewerVersion(t *testing.T) {
	b := memoryBroker(t, WithVersion(V43))
	for feature, m := range map[string]wire.Method{
		"transient_nonexcl_queues": &wire.QueueDeclare{Queue: "q"},
		"queue_master_locator":     &wire.QueueDeclare{Queue: "q", Durable: true, Arguments: wire.Table{"x-queue-master-locator": "random"}},
	} {
		c := dial(t, b)
		c.send(1, m)
		c.refusedConnection(541, "INTERNAL_ERROR - Feature `"+feature+"` is deprecated.\nBy default, this feature is not permitted anymore.")
	}
}
