package amqptest

import (
	"encoding/binary"
	"maps"
	"reflect"
	"strings"
	"time"
	"unicode"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// Field returns an argument of the method by its name in the protocol, like "routing-key" or "delivery-tag", and nil
// when the method has none of that name. Tables are map[string]any.
func (e *Event) Field(name string) any {
	if e.method == nil {
		return nil
	}
	v := reflect.ValueOf(e.method).Elem()
	for i := range v.NumField() {
		if fieldName(v.Type().Field(i).Name) == name {
			return export(v.Field(i).Interface())
		}
	}
	return nil
}

// fieldName turns RoutingKey into routing-key, and ClassID into class-id.
func fieldName(name string) string {
	var b strings.Builder
	upper := true
	for _, r := range name {
		if unicode.IsUpper(r) && !upper {
			b.WriteByte('-')
		}
		upper = unicode.IsUpper(r)
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// A Message is a message as it travels.
type Message struct {
	Exchange, RoutingKey string
	Properties           Properties
	Body                 []byte
	Redelivered          bool // of a message in a queue
}

// Properties are a message's properties. Those that it has not are zero.
type Properties struct {
	ContentType, ContentEncoding string
	Headers                      map[string]any
	DeliveryMode                 uint8
	Priority                     uint8
	CorrelationID, ReplyTo       string
	Expiration                   string
	MessageID                    string
	Timestamp                    time.Time
	Type, UserID, AppID          string
	ClusterID                    string
}

// A Decimal is a field value of that type: Value divided by ten to the power of Scale.
type Decimal struct {
	Scale uint8
	Value int32
}

// export copies a message for somebody outside.
func (m *message) export() *Message {
	var p wire.Properties
	if len(m.raw) > 0 {
		_ = p.Decode(m.raw, nil) // what does not decode was refused when it was published
	}
	headers, _ := export(p.Headers).(map[string]any)
	return &Message{
		Exchange: m.exchange, RoutingKey: m.key, Body: append([]byte(nil), m.body...),
		Properties: Properties{
			ContentType: p.ContentType, ContentEncoding: p.ContentEncoding, Headers: headers, DeliveryMode: p.DeliveryMode,
			Priority: p.Priority, CorrelationID: p.CorrelationID, ReplyTo: p.ReplyTo, Expiration: p.Expiration,
			MessageID: p.MessageID, Timestamp: p.Timestamp, Type: p.Type, UserID: p.UserID, AppID: p.AppID, ClusterID: p.ClusterID,
		},
	}
}

// export copies a field value and replaces the types that nobody outside can name.
func export(v any) any {
	switch v := v.(type) {
	case wire.Table:
		if v == nil {
			return map[string]any(nil)
		}
		t := maps.Clone(map[string]any(v))
		for key, value := range t {
			t[key] = export(value)
		}
		return t
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = export(v[i])
		}
		return list
	case wire.Decimal:
		return Decimal{v.Scale, v.Value}
	case []byte:
		return append([]byte(nil), v...)
	}
	return v
}

// Frame makes a frame of any type around a payload, with its head and its end, for Reply.
func Frame(typ byte, channel uint16, payload []byte) []byte {
	frame := wire.AppendFrameHeader(nil, typ, channel, uint32(len(payload)))
	return append(append(frame, payload...), wire.FrameEnd)
}

// MethodFrame makes a frame of a method whose arguments are encoded already, for Reply.
func MethodFrame(channel, class, method uint16, arguments []byte) []byte {
	payload := binary.BigEndian.AppendUint16(nil, class)
	payload = binary.BigEndian.AppendUint16(payload, method)
	return Frame(wire.FrameMethod, channel, append(payload, arguments...))
}
