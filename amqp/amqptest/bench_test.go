package amqptest

import (
	"bytes"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// BenchmarkThroughput publishes from one connection and consumes on another, with no-ack, over TCP.
func BenchmarkThroughput(b *testing.B) {
	for name, size := range map[string]int{"16B": 16, "1KiB": 1 << 10, "64KiB": 64 << 10} {
		b.Run(name, func(b *testing.B) { throughput(b, size) })
	}
}

func throughput(b *testing.B, size int) {
	broker := NewBroker()
	defer broker.Close()
	connect := func() net.Conn {
		nc, err := net.Dial("tcp", broker.listener.Addr().String())
		require.NoError(b, err)
		out := append([]byte(nil), wire.ProtocolHeader[:]...)
		for _, m := range []struct {
			channel uint16
			method  wire.Method
		}{
			{0, &wire.ConnectionStartOk{Mechanism: "PLAIN", Response: []byte("\x00guest\x00guest"), Locale: "en_US"}},
			{0, &wire.ConnectionTuneOk{ChannelMax: 2047, FrameMax: 131072}}, {0, &wire.ConnectionOpen{VirtualHost: "/"}},
			{1, &wire.ChannelOpen{}}, {1, &wire.QueueDeclare{Queue: "q", NoWait: true}},
		} {
			out, err = wire.AppendMethod(out, m.channel, m.method)
			require.NoError(b, err)
		}
		_, err = nc.Write(out)
		require.NoError(b, err)
		return nc
	}
	publisher, consumer := connect(), connect()
	defer func() { _ = publisher.Close(); _ = consumer.Close() }()
	frame, err := wire.AppendMethod(nil, 1, &wire.BasicConsume{Queue: "q", ConsumerTag: "c", NoAck: true, NoWait: true})
	require.NoError(b, err)
	_, err = consumer.Write(frame)
	require.NoError(b, err)

	message := wire.AppendPublish(nil, 1, "", "q", false, false)
	message, _ = wire.AppendContentHeader(message, 1, uint64(size), nil)
	message = wire.AppendBody(message, 1, make([]byte, size), 131072)
	batch := bytes.Repeat(message, max(1, 32<<10/len(message)))
	each := len(batch) / len(message)
	b.SetBytes(int64(size))
	b.ResetTimer()
	go func() {
		for n := 0; n < b.N; n += each {
			if _, err := publisher.Write(batch[:min(each, b.N-n)*len(message)]); err != nil {
				return
			}
		}
	}()
	in := frameReader{source: consumer}
	for got := 0; got < b.N; {
		f, ok, e := in.next(131072)
		require.Nil(b, e)
		switch {
		case !ok:
			require.NoError(b, in.fill())
		case f.typ == wire.FrameBody:
			got++
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}
