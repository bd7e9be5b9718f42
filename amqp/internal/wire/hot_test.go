package wire

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// asMethod is what the general encoder makes of a method.
func asMethod(t *testing.T, channel uint16, m Method) []byte {
	t.Helper()
	out, err := AppendMethod([]byte("before"), channel, m)
	require.NoError(t, err)
	return out
}

// names holds short strings of the lengths that matter.
var names = []string{"", "x", "orders.new", strings.Repeat("n", 255)}

func TestHotPublish(t *testing.T) {
	for _, exchange := range names {
		for _, key := range names {
			for bits := range 4 {
				mandatory, immediate := bits&1 != 0, bits&2 != 0
				want := asMethod(t, 0xABCD, &BasicPublish{Exchange: exchange, RoutingKey: key, Mandatory: mandatory, Immediate: immediate})
				// A dirty buffer shows a byte that is not written.
				for _, dst := range [][]byte{[]byte("before"), append([]byte("before"), strings.Repeat("\xAA", 600)...)[:6]} {
					assert.Equal(t, want, AppendPublish(dst, 0xABCD, exchange, key, mandatory, immediate))
				}
			}
		}
	}
}

func TestHotDeliver(t *testing.T) {
	for _, ctag := range names {
		for _, exchange := range names {
			for _, key := range names {
				for _, redelivered := range []bool{false, true} {
					tag := uint64(0xFEDCBA9876543210)
					want := asMethod(t, 0xABCD, &BasicDeliver{ConsumerTag: ctag, DeliveryTag: tag, Redelivered: redelivered, Exchange: exchange, RoutingKey: key})
					dst := append([]byte("before"), strings.Repeat("\xAA", 900)...)[:6]
					out := AppendDeliver(dst, 0xABCD, ctag, tag, redelivered, exchange, key)
					require.Equal(t, want, out)
					var d Deliver
					require.NoError(t, ParseDeliver(onlyFrame(t, out[6:], FrameMethod, 0xABCD).payload, &d))
					require.Equal(t, Deliver{[]byte(ctag), tag, redelivered, []byte(exchange), []byte(key)}, d)
				}
			}
		}
	}
}

func TestHotSettlements(t *testing.T) {
	for _, tag := range []uint64{0, 1, math.MaxUint64, 0x0123456789ABCDEF} {
		for bits := range 4 {
			multiple, requeue := bits&1 != 0, bits&2 != 0
			dst := func() []byte { return append([]byte("before"), strings.Repeat("\xAA", 40)...)[:6] }
			ack := AppendAck(dst(), 0xABCD, tag, multiple)
			nack := AppendNack(dst(), 0xABCD, tag, multiple, requeue)
			assert.Equal(t, asMethod(t, 0xABCD, &BasicAck{DeliveryTag: tag, Multiple: multiple}), ack)
			assert.Equal(t, asMethod(t, 0xABCD, &BasicNack{DeliveryTag: tag, Multiple: multiple, Requeue: requeue}), nack)
			assert.Equal(t, asMethod(t, 0xABCD, &BasicReject{DeliveryTag: tag, Requeue: requeue}), AppendReject(dst(), 0xABCD, tag, requeue))

			gotTag, gotMultiple, err := ParseAck(ack[6+FrameHeaderSize : len(ack)-1])
			require.NoError(t, err)
			assert.Equal(t, []any{tag, multiple}, []any{gotTag, gotMultiple})
			gotTag, gotMultiple, gotRequeue, err := ParseNack(nack[6+FrameHeaderSize : len(nack)-1])
			require.NoError(t, err)
			assert.Equal(t, []any{tag, multiple, requeue}, []any{gotTag, gotMultiple, gotRequeue})
		}
	}
}

func TestHotParsersRefuse(t *testing.T) {
	parsers := map[MethodID]func([]byte) error{
		BasicDeliverID: func(b []byte) error { return ParseDeliver(b, new(Deliver)) },
		BasicAckID:     func(b []byte) error { _, _, err := ParseAck(b); return err },
		BasicNackID:    func(b []byte) error { _, _, _, err := ParseNack(b); return err },
	}
	for id, parse := range parsers {
		t.Run(id.String(), func(t *testing.T) {
			out, err := AppendMethod(nil, 1, fill(newMethod(id)))
			require.NoError(t, err)
			payload := onlyFrame(t, out, FrameMethod, 1).payload
			require.NoError(t, parse(payload))
			for n := range payload {
				require.ErrorIs(t, parse(payload[:n:n]), ErrMalformed)
			}
			require.ErrorIs(t, parse(append(payload[:len(payload):len(payload)], 0)), ErrMalformed)
			other := asMethod(t, 1, &BasicReturn{})
			require.EqualError(t, parse(other[6+FrameHeaderSize:len(other)-1]), "malformed: basic.return where "+id.String()+" was to come")
		})
	}
}
