package amqptest

import (
	"context"
	"io"
	"net"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// FuzzBroker has the broker meet a client that says anything: bare bytes, or, byMethod, frames that mostly make sense,
// behind a login. The broker goes on with the next client, and ends when it is told to.
func FuzzBroker(f *testing.F) {
	recorded, err := os.ReadFile("../internal/wire/testdata/tour-client.bin")
	require.NoError(f, err)
	f.Add(recorded, false)
	f.Add(recorded[:300], false)
	f.Add([]byte("AMQP\x00\x00\x08\x00"), false)
	for i := range byte(60) {
		f.Add([]byte{i, 1, 0, i, 2, 0, 20, 1, 0, i + 1, 1, 1, 40, 1, 'q', 3}, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, byMethod bool) {
		broker := NewBroker(InMemory(), WithMaxMessageSize(1<<20))
		defer broker.Close()
		stream := b
		if byMethod {
			stream = append(loggedIn(), (&clientScript{b: b}).run()...)
		}
		for range 2 { // the second client finds what the first one left
			nc, err := broker.Dial(context.Background(), "", "")
			require.NoError(t, err)
			talk(t, nc, stream)
		}
	})
}

// talk says everything and hangs up when the broker has nothing more to answer.
func talk(t *testing.T, nc net.Conn, stream []byte) {
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		_, _ = io.Copy(io.Discard, nc)
	}()
	_ = nc.SetWriteDeadline(time.Now().Add(patience))
	_, _ = nc.Write(stream)
	nc.(*memConn).out.closeWriter(io.EOF) // the broker reads everything that was said before
	select {
	case <-heard:
	case <-time.After(patience):
		t.Errorf("the broker does not hang up: %x", stream)
	}
	_ = nc.Close()
}

// loggedIn is what a client says until it has a channel with a queue and a consumer.
func loggedIn() []byte {
	b := append([]byte(nil), wire.ProtocolHeader[:]...)
	say := func(channel uint16, m wire.Method) { b, _ = wire.AppendMethod(b, channel, m) }
	say(0, &wire.ConnectionStartOk{Mechanism: "PLAIN", Response: []byte("\x00guest\x00guest"), Locale: "en_US",
		ClientProperties: wire.Table{"capabilities": allCapabilities}})
	say(0, &wire.ConnectionTuneOk{ChannelMax: 10, FrameMax: 131072})
	say(0, &wire.ConnectionOpen{VirtualHost: "/"})
	say(1, &wire.ChannelOpen{})
	say(1, &wire.QueueDeclare{Queue: "q"})
	say(2, &wire.ChannelOpen{})
	say(2, &wire.BasicConsume{Queue: "q", ConsumerTag: "q"})
	return b
}

// clientScript makes a client's speech of a fuzzer's bytes.
type clientScript struct{ b []byte }

// clientMethods are those that a client may say, and some that it may not.
func clientMethods() []wire.Method {
	return []wire.Method{
		&wire.ChannelOpen{}, &wire.ChannelClose{}, &wire.ChannelCloseOk{}, &wire.ChannelFlow{}, &wire.ChannelFlowOk{},
		&wire.QueueDeclare{}, &wire.QueueBind{}, &wire.QueueUnbind{}, &wire.QueuePurge{}, &wire.QueueDelete{},
		&wire.ExchangeDeclare{}, &wire.ExchangeDelete{}, &wire.ExchangeBind{}, &wire.ExchangeUnbind{},
		&wire.BasicPublish{}, &wire.BasicPublish{}, &wire.BasicPublish{}, &wire.BasicConsume{}, &wire.BasicCancel{}, &wire.BasicCancelOk{},
		&wire.BasicGet{}, &wire.BasicAck{}, &wire.BasicNack{}, &wire.BasicReject{}, &wire.BasicRecover{}, &wire.BasicRecoverAsync{},
		&wire.BasicQos{}, &wire.ConfirmSelect{}, &wire.TxSelect{}, &wire.TxCommit{}, &wire.TxRollback{},
		&wire.ConnectionClose{}, &wire.ConnectionCloseOk{}, &wire.ConnectionUpdateSecret{}, &wire.ConnectionOpen{},
		&wire.BasicDeliver{}, &wire.QueueDeclareOk{},
	}
}

// argument names those arguments that brokers know.
var argument = []string{
	"x-max-length", "x-max-priority", "x-message-ttl", "x-expires", "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-overflow",
	"x-max-length-bytes", "x-queue-type", "x-priority", "alternate-exchange", "x-match", "CC",
}

func (s *clientScript) run() (out []byte) {
	methods := clientMethods()
	for len(s.b) > 0 && len(out) < 1<<20 {
		m := methods[int(s.octet())%len(methods)]
		channel := uint16(s.octet() % 4)
		s.fill(m)
		b, err := wire.AppendMethod(out, channel, m)
		if err != nil {
			continue
		}
		out = b
		if _, ok := m.(*wire.BasicPublish); ok && s.octet() < 240 {
			body := s.take(int(s.octet()))
			p := wire.Properties{Priority: s.octet(), Expiration: s.text(), ReplyTo: s.text(), Headers: s.table()}
			if b, err := wire.AppendContentHeader(out, channel, uint64(len(body))+uint64(s.octet()/250), &p); err == nil {
				out = wire.AppendBody(b, channel, body, 131072)
			}
		}
	}
	return out
}

func (s *clientScript) fill(m wire.Method) {
	for _, f := range reflect.ValueOf(m).Elem().Fields() {
		switch f.Kind() {
		case reflect.Bool:
			f.SetBool(s.octet()%4 == 1)
		case reflect.String:
			f.SetString(s.text())
		case reflect.Slice:
			f.SetBytes(s.take(int(s.octet())))
		case reflect.Map:
			f.Set(reflect.ValueOf(s.table()))
		default:
			f.SetUint(uint64(s.octet()))
		}
	}
}

// text is a name that may exist.
func (s *clientScript) text() string {
	names := []string{"q", "", "q", "r", "x", "amq.direct", "amq.topic", "amq.fanout", "amq.headers", "direct", "topic", "fanout", "headers",
		"amq.rabbitmq.reply-to", "a.b", "#", "*.b", "0", "1", "quorum", "all", "drop-head"}
	n := int(s.octet())
	if n < 200 {
		return names[n%len(names)]
	}
	return string(s.take(n - 200))
}

func (s *clientScript) table() wire.Table {
	t := wire.Table{}
	for n := s.octet(); n%4 == 3; n = s.octet() {
		key := argument[int(s.octet())%len(argument)]
		if s.octet()%2 == 0 {
			t[key] = int64(int8(s.octet()))
		} else {
			t[key] = s.text()
		}
	}
	return t
}

func (s *clientScript) octet() byte {
	if len(s.b) == 0 {
		return 0
	}
	n := s.b[0]
	s.b = s.b[1:]
	return n
}

func (s *clientScript) take(n int) []byte {
	n = min(n, len(s.b))
	b := s.b[:n:n]
	s.b = s.b[n:]
	return b
}
