package wire

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var recordings = []string{"tour-client", "tour-server", "refused-client", "refused-server"}

// recorded returns the frames of a recording, which testdata/README.md describes.
func recorded(t testing.TB, name string) []frame {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".bin")
	require.NoError(t, err)
	b, had := bytes.CutPrefix(b, ProtocolHeader[:])
	require.Equal(t, strings.HasSuffix(name, "client"), had)
	return splitFrames(t, b)
}

// describe is the line that the listing beside a recording has for the frame.
func describe(t *testing.T, f frame) string {
	t.Helper()
	switch f.Type {
	case FrameMethod:
		m, err := DecodeMethod(f.payload)
		require.NoError(t, err)
		return fmt.Sprintf("%d %s", f.Channel, m.ID())
	case FrameContentHeader:
		h, err := ParseContentHeader(f.payload)
		require.NoError(t, err)
		require.Equal(t, ClassBasic, h.Class)
		return fmt.Sprintf("%d content header, body of %d", f.Channel, h.BodySize)
	case FrameBody:
		return fmt.Sprintf("%d body of %d", f.Channel, f.Size)
	}
	return fmt.Sprintf("frame of type %d", f.Type)
}

func TestRecordedFramesAreTheListedOnes(t *testing.T) {
	for _, name := range recordings {
		t.Run(name, func(t *testing.T) {
			listing, err := os.ReadFile("testdata/" + name + ".txt")
			require.NoError(t, err)
			want := strings.Split(strings.TrimSpace(strings.TrimPrefix(string(listing), "protocol header\n")), "\n")
			var got []string
			for _, f := range recorded(t, name) {
				got = append(got, describe(t, f))
			}
			assert.Equal(t, want, got)
		})
	}
}

// equalFrames compares bytes. Where the frame holds a table of several keys, whose order is free, it compares what the
// frames say and how long they are.
func equalFrames(t *testing.T, want, got []byte, decode func(payload []byte) any) {
	t.Helper()
	if bytes.Equal(want, got) {
		return
	}
	w, g := splitFrames(t, want)[0], onlyFrame(t, got, want[0], ParseFrameHeader(want).Channel)
	require.Equal(t, w.Size, g.Size)
	value := decode(w.payload)
	require.Equal(t, value, decode(g.payload))
	require.True(t, hasManyKeys(value), "%x should be %x", got, want)
}

func hasManyKeys(v any) bool {
	switch v := v.(type) {
	case *ConnectionStart:
		return hasManyKeys(v.ServerProperties)
	case *ConnectionStartOk:
		return hasManyKeys(v.ClientProperties)
	case *QueueDeclare:
		return hasManyKeys(v.Arguments)
	case Properties:
		return hasManyKeys(v.Headers)
	case Table:
		if len(v) > 1 {
			return true
		}
		for _, v := range v {
			return hasManyKeys(v)
		}
	}
	return false
}

func decodedMethod(t *testing.T) func([]byte) any {
	return func(payload []byte) any {
		m, err := DecodeMethod(payload)
		require.NoError(t, err)
		return m
	}
}

func decodedProperties(t *testing.T) func([]byte) any {
	return func(payload []byte) any {
		h, err := ParseContentHeader(payload)
		require.NoError(t, err)
		var p Properties
		require.NoError(t, p.Decode(h.Properties, nil))
		return p
	}
}

func TestRecordedFramesEncodeToTheSameBytes(t *testing.T) {
	for _, name := range recordings {
		t.Run(name, func(t *testing.T) {
			for _, f := range recorded(t, name) {
				switch f.Type {
				case FrameMethod:
					out, err := AppendMethod(nil, f.Channel, decodedMethod(t)(f.payload).(Method))
					require.NoError(t, err)
					equalFrames(t, f.whole, out, decodedMethod(t))
				case FrameContentHeader:
					p := decodedProperties(t)(f.payload).(Properties)
					h, err := ParseContentHeader(f.payload)
					require.NoError(t, err)
					out, err := AppendContentHeader(nil, f.Channel, h.BodySize, &p)
					require.NoError(t, err)
					equalFrames(t, f.whole, out, decodedProperties(t))
				case FrameBody:
					require.Equal(t, f.whole, AppendBody(nil, f.Channel, f.payload, MinFrameMax))
				}
			}
		})
	}
}

func TestHotEncodersWriteTheRecordedBytes(t *testing.T) {
	seen := map[MethodID]int{}
	for _, name := range recordings {
		for _, f := range recorded(t, name) {
			if f.Type != FrameMethod {
				continue
			}
			var out []byte
			m := decodedMethod(t)(f.payload).(Method)
			switch m := m.(type) {
			case *BasicPublish:
				out = AppendPublish(nil, f.Channel, m.Exchange, m.RoutingKey, m.Mandatory, m.Immediate)
			case *BasicAck:
				out = AppendAck(nil, f.Channel, m.DeliveryTag, m.Multiple)
				tag, multiple, err := ParseAck(f.payload)
				require.NoError(t, err)
				require.Equal(t, &BasicAck{DeliveryTag: tag, Multiple: multiple}, m)
			case *BasicNack:
				out = AppendNack(nil, f.Channel, m.DeliveryTag, m.Multiple, m.Requeue)
			case *BasicReject:
				out = AppendReject(nil, f.Channel, m.DeliveryTag, m.Requeue)
			case *BasicDeliver:
				var d Deliver
				require.NoError(t, ParseDeliver(f.payload, &d))
				require.Equal(t, &BasicDeliver{string(d.ConsumerTag), d.DeliveryTag, d.Redelivered, string(d.Exchange), string(d.RoutingKey)}, m)
				out = AppendDeliver(nil, f.Channel, m.ConsumerTag, m.DeliveryTag, m.Redelivered, m.Exchange, m.RoutingKey)
			default:
				continue
			}
			seen[m.ID()]++
			require.Equal(t, f.whole, out)
		}
	}
	require.Equal(t, map[MethodID]int{BasicPublishID: 11, BasicAckID: 5, BasicNackID: 1, BasicRejectID: 2, BasicDeliverID: 5}, seen)
}

func TestRecordedBodyIsCutAlike(t *testing.T) {
	var want []byte
	for _, f := range recorded(t, "tour-client") {
		if f.Type == FrameBody && (f.Size == MinFrameMax-FrameOverhead || len(want) > 0 && len(want) < 9000) {
			want = append(want, f.whole...)
		}
	}
	assert.Equal(t, want, AppendBody(nil, 1, bytes.Repeat([]byte("0123456789"), 900), MinFrameMax))
}

// TestRecordedMethods pins what the broker and the client meant, apart from what this package makes of it.
func TestRecordedMethods(t *testing.T) {
	all := map[string][]Method{}
	for _, name := range recordings {
		for _, f := range recorded(t, name) {
			if f.Type == FrameMethod {
				m := decodedMethod(t)(f.payload).(Method)
				all[name] = append(all[name], m)
			}
		}
	}
	for _, want := range []Method{
		&ConnectionTuneOk{ChannelMax: 2047, FrameMax: 4096, Heartbeat: 60},
		&ConnectionOpen{VirtualHost: "/"},
		&ConnectionUpdateSecret{NewSecret: []byte("guest"), Reason: "rotation"},
		&ExchangeDeclare{Exchange: "golden.x", Type: "topic", Durable: true, Arguments: Table{}},
		&ExchangeDeclare{Exchange: "golden.y", Type: "fanout", Internal: true, Arguments: Table{"alternate-exchange": "amq.fanout"}},
		&ExchangeBind{Destination: "golden.y", Source: "golden.x", RoutingKey: "a.#", Arguments: Table{}},
		&ExchangeUnbind{Destination: "golden.y", Source: "golden.x", RoutingKey: "a.#", Arguments: Table{}},
		&QueueDeclare{Queue: "golden.q", Exclusive: true, Arguments: Table{"x-max-length": int32(1000), "x-dead-letter-exchange": "golden.y"}},
		&QueueUnbind{Queue: "golden.q", Exchange: "golden.x", RoutingKey: "a.*", Arguments: Table{"why": "test"}},
		&QueueDelete{Queue: "golden.dead", IfEmpty: true},
		&BasicPublish{Exchange: "golden.x", RoutingKey: "nowhere", Mandatory: true},
		&BasicQos{PrefetchCount: 20, Global: true},
		&BasicConsume{Queue: "golden.q", ConsumerTag: "golden-tag", Arguments: Table{"x-priority": int32(7)}},
		&BasicConsume{Queue: "golden.gone", ConsumerTag: "doomed", NoLocal: true, NoAck: true, Exclusive: true, Arguments: Table{}},
		&BasicGet{Queue: "golden.q", NoAck: true},
		&BasicNack{DeliveryTag: 1, Requeue: true},
		&BasicRecover{Requeue: true},
		&ConfirmSelect{},
	} {
		assert.Contains(t, all["tour-client"], want)
	}
	for _, want := range []Method{
		&ConnectionTune{ChannelMax: 2047, FrameMax: 131072, Heartbeat: 60},
		&ConnectionBlocked{Reason: "low on memory"},
		&ChannelFlowOk{Active: true},
		&ChannelClose{ReplyCode: 404, ReplyText: "NOT_FOUND - no queue 'golden.missing' in vhost '/'", ClassID: 50, MethodID: 10},
		&QueueDeclareOk{Queue: "golden.q"},
		&BasicReturn{ReplyCode: 312, ReplyText: "NO_ROUTE", Exchange: "golden.x", RoutingKey: "nowhere"},
		&BasicGetOk{DeliveryTag: 1, RoutingKey: "golden.q", MessageCount: 3},
		&BasicGetOk{DeliveryTag: 2, Redelivered: true, RoutingKey: "golden.q", MessageCount: 3},
		&BasicDeliver{ConsumerTag: "golden-tag", DeliveryTag: 4, Redelivered: true, RoutingKey: "golden.q"},
		&BasicCancel{ConsumerTag: "doomed", NoWait: true},
		&BasicAck{DeliveryTag: 3},
	} {
		assert.Contains(t, all["tour-server"], want)
	}
	assert.Contains(t, all["refused-server"], &ConnectionClose{ReplyCode: 540, ReplyText: "NOT_IMPLEMENTED - immediate=true", ClassID: 60, MethodID: 40})

	start := all["tour-server"][0].(*ConnectionStart)
	assert.Equal(t, []any{byte(0), byte(9), "PLAIN AMQPLAIN", "en_US"}, []any{start.VersionMajor, start.VersionMinor, start.Mechanisms, start.Locales})
	assert.Equal(t, "3.10.8", start.ServerProperties["version"])
	assert.Equal(t, true, start.ServerProperties["capabilities"].(Table)["connection.blocked"])
}

// sentHeaders is the header table that the recorded client published, and int is how it sends an int: cut to 32 bits.
func sentHeaders() Table {
	return Table{
		"nil": nil, "true": true, "false": false, "int8": int8(-8), "uint8": byte(200), "int16": int16(-1600), "uint16": uint16(60000),
		"int32": int32(-32000000), "uint32": uint32(4000000000), "int64": int64(math.MinInt64), "int": int32(-539222987),
		"float32": float32(1.5), "float64": -2.25, "string": "grüße", "bytes": []byte{0, 1, 255}, "decimal": Decimal{Scale: 2, Value: 314},
		"time": time.Unix(1700000001, 0).UTC(), "empty table": Table{}, "table": Table{"inner": Table{"deep": int32(1)}},
		"array":       []any{int32(1), "two", nil, true, Table{"k": "v"}, []any{int64(3)}},
		"empty array": []any{}, "empty": "",
	}
}

func TestRecordedProperties(t *testing.T) {
	with := func(recording string) (found []Properties) {
		for _, f := range recorded(t, recording) {
			if f.Type == FrameContentHeader {
				if p := decodedProperties(t)(f.payload).(Properties); p.MessageID == "msg-1" {
					found = append(found, p)
				}
			}
		}
		return found
	}
	want := Properties{
		ContentType: "application/json", ContentEncoding: "identity", Headers: sentHeaders(), DeliveryMode: 2, Priority: 5, CorrelationID: "corr-1",
		ReplyTo: "golden.reply", Expiration: "60000", MessageID: "msg-1", Timestamp: time.Unix(1700000000, 0).UTC(), Type: "order", UserID: "guest", AppID: "golden",
	}
	assert.Equal(t, []Properties{want}, with("tour-client"))

	got := with("tour-server")
	require.Len(t, got, 2, "delivered, and delivered again as a dead letter")
	assert.Equal(t, want, got[0])
	// The broker has decoded and encoded the whole table to add to it, and took the expiration away.
	dead := got[1]
	death := dead.Headers["x-death"].([]any)[0].(Table)
	assert.Equal(t, Table{
		"count": int64(1), "exchange": "", "queue": "golden.q", "reason": "rejected", "routing-keys": []any{"golden.q"},
		"original-expiration": "60000", "time": death["time"].(time.Time),
	}, death)
	want.Expiration = ""
	want.Headers["x-death"] = []any{death}
	want.Headers["x-first-death-exchange"] = ""
	want.Headers["x-first-death-queue"] = "golden.q"
	want.Headers["x-first-death-reason"] = "rejected"
	assert.Equal(t, want, dead)
}
