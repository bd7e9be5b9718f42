package amqp

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// However alike messages are, each is sent as what it is.
func TestMessagesThatAreAlikeAreSentAsTheyAre(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			conn, consumers := readerOf(nil)
			conn.tuning.FrameMax = []uint32{0, wire.MinFrameMax, readerFrameMax}[seed%3]
			consumers[1].ch.confirming = true
			var s sending
			var msg Message
			for range 400 {
				if rnd.IntN(4) == 0 {
					vary(rnd, &s, &msg)
				}
				ch := consumers[rnd.IntN(2)].ch
				want := encoded(t, ch, &s, &msg)
				on := s
				_, err := ch.publish(t.Context(), &on, &msg)
				require.NoError(t, err)
				got, err := conn.out.Begin()
				require.NoError(t, err)
				require.Equal(t, want, got)
				conn.out.Commit(got[:0])
			}
		})
	}
}

func vary(rnd *rand.Rand, s *sending, msg *Message) {
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	switch rnd.IntN(9) {
	case 0:
		s.exchange = pick("", "x", "y")
	case 1:
		s.routingKey = pick("", "k", "l", "key")
	case 2, 3:
		const frame = wire.MinFrameMax - wire.FrameOverhead
		msg.Body = pattern([]int{0, 1, 16, 1000, frame - 1, frame, frame + 1, largeBody - 1, largeBody}[rnd.IntN(9)])
	case 4:
		msg.Mandatory = !msg.Mandatory
	case 5:
		msg.Immediate = !msg.Immediate
	case 6:
		msg.Properties = Properties{}
	case 7:
		msg.Properties = []Properties{
			{ContentType: "a"}, {ContentEncoding: "a"}, {DeliveryMode: Persistent}, {Priority: 1}, {CorrelationID: "a"},
			{ReplyTo: "a"}, {Expiration: "1"}, {MessageID: "a"}, {Type: "a"}, {UserID: "a"}, {AppID: "a"}, {ClusterID: "a"},
		}[rnd.IntN(12)]
	case 8:
		msg.Properties = []Properties{{Headers: Table{}}, {Headers: Table{"a": "b"}}, {Timestamp: time.Unix(1, 0)}}[rnd.IntN(3)]
	}
}

// encoded is the message in the protocol's words.
func encoded(t *testing.T, ch *Channel, s *sending, msg *Message) (b []byte) {
	var err error
	b = wire.AppendPublish(nil, ch.id, s.exchange, s.routingKey, msg.Mandatory, msg.Immediate)
	if size := uint64(len(msg.Body)); ch.confirming && msg.Mandatory {
		b, err = wire.AppendContentHeaderWith(b, ch.id, size, msg.Properties.wire(), sequenceHeader, int64(ch.confirms.upcoming()))
	} else {
		b, err = wire.AppendContentHeader(b, ch.id, size, msg.Properties.wire())
	}
	require.NoError(t, err)
	return wire.AppendBody(b, ch.id, msg.Body, ch.conn.tuning.FrameMax)
}
