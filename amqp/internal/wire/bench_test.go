package wire

import (
	"testing"
	"time"
)

func BenchmarkPublish16(b *testing.B) {
	dst := make([]byte, 0, 1024)
	body := make([]byte, 16)
	var p Properties
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendPublish(dst[:0], 1, "", "orders", false, false)
		dst, _ = AppendContentHeader(dst, 1, 16, &p)
		dst = AppendBody(dst, 1, body, 131072)
	}
}

func BenchmarkAppendPublish(b *testing.B) {
	dst := make([]byte, 0, 1024)
	for b.Loop() {
		dst = AppendPublish(dst[:0], 1, "", "orders", false, false)
	}
}

func BenchmarkAppendContentHeader(b *testing.B) {
	at := time.Unix(1700000000, 0)
	for _, c := range []struct {
		name string
		p    *Properties
	}{
		{"nil", nil},
		{"zero", &Properties{}},
		{"usual", &Properties{ContentType: "application/json", DeliveryMode: 2, MessageID: "0123456789abcdef"}},
		{"full", &Properties{ContentType: "a", ContentEncoding: "b", DeliveryMode: 2, Priority: 3, CorrelationID: "c", ReplyTo: "d", Expiration: "1000",
			MessageID: "m", Timestamp: at, Type: "t", UserID: "guest", AppID: "app", ClusterID: "x"}},
		{"headers", &Properties{DeliveryMode: 2, Headers: Table{"trace-id": "0123456789abcdef", "attempt": 3, "at": at}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			dst := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				dst, _ = AppendContentHeader(dst[:0], 1, 16, c.p)
			}
		})
	}
	b.Run("with", func(b *testing.B) {
		p := &Properties{DeliveryMode: 2}
		dst := make([]byte, 0, 1024)
		b.ReportAllocs()
		for b.Loop() {
			dst, _ = AppendContentHeaderWith(dst[:0], 1, 16, p, "n", 1)
		}
	})
}

func BenchmarkAppendBody16(b *testing.B) {
	dst := make([]byte, 0, 1024)
	body := make([]byte, 16)
	for b.Loop() {
		dst = AppendBody(dst[:0], 1, body, 131072)
	}
}

func BenchmarkAppendAck(b *testing.B) {
	dst := make([]byte, 0, 1024)
	for b.Loop() {
		dst = AppendAck(dst[:0], 1, 7, true)
	}
}

func BenchmarkParseDeliver(b *testing.B) {
	frame := AppendDeliver(nil, 1, "ctag-1", 7, false, "amq.topic", "orders.new")
	payload := frame[7 : len(frame)-1]
	var d Deliver
	for b.Loop() {
		if ParseDeliver(payload, &d) != nil {
			b.Fatal()
		}
	}
}

func BenchmarkParseContentHeader(b *testing.B) {
	frame, _ := AppendContentHeader(nil, 1, 16, &Properties{DeliveryMode: 2})
	payload := frame[7 : len(frame)-1]
	for b.Loop() {
		if h, err := ParseContentHeader(payload); err != nil || h.BodySize != 16 {
			b.Fatal()
		}
	}
}

func BenchmarkDecodeProperties(b *testing.B) {
	p := &Properties{ContentType: "application/json", DeliveryMode: 2, MessageID: "0123456789abcdef"}
	frame, _ := AppendContentHeader(nil, 1, 16, p)
	h, _ := ParseContentHeader(frame[7 : len(frame)-1])
	shared := func([]byte) string { return "x" }
	var out Properties
	b.ReportAllocs()
	for b.Loop() {
		_ = out.Decode(h.Properties, shared)
	}
}

func BenchmarkTable(b *testing.B) {
	t := Table{"trace-id": "0123456789abcdef", "attempt": 3, "at": time.Unix(1700000000, 0), "tags": []any{"a", "b"}}
	raw, err := AppendTable(nil, t)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			raw, _ = AppendTable(raw[:0], t)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _, _ = DecodeTable(raw)
		}
	})
	b.Run("size", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = t.Size()
		}
	})
}
