package amqp

import (
	"encoding/binary"
	"math"
	"reflect"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// fuzzScript makes a hostile broker's speech of a fuzzer's bytes: frames that are
// mostly well formed, of methods that mostly mean something where they come.
type fuzzScript struct {
	b    []byte // what decides
	out  []byte
	tags [states + 1]uint64 // the last delivery tag on each channel
	last []byte             // the last whole delivery, and where its tag is
	tag  int
}

// spokenMethods are the methods of both sides: a hostile broker also says what
// only clients may.
func spokenMethods() []wire.Method {
	return []wire.Method{
		&wire.BasicAck{}, &wire.BasicNack{}, &wire.BasicCancel{}, &wire.BasicCancelOk{}, &wire.BasicConsumeOk{}, &wire.BasicGetOk{},
		&wire.BasicGetEmpty{}, &wire.BasicReturn{}, &wire.BasicRecoverOk{}, &wire.BasicQosOk{}, &wire.BasicDeliver{},
		&wire.ChannelFlow{}, &wire.ChannelFlowOk{}, &wire.ChannelClose{}, &wire.ChannelCloseOk{}, &wire.ChannelOpenOk{},
		&wire.QueueDeclareOk{}, &wire.QueueBindOk{}, &wire.QueueUnbindOk{}, &wire.QueuePurgeOk{}, &wire.QueueDeleteOk{},
		&wire.ExchangeDeclareOk{}, &wire.ExchangeDeleteOk{}, &wire.ExchangeBindOk{}, &wire.ExchangeUnbindOk{},
		&wire.ConfirmSelectOk{}, &wire.TxSelectOk{}, &wire.TxCommitOk{}, &wire.TxRollbackOk{},
		&wire.ConnectionBlocked{}, &wire.ConnectionUnblocked{}, &wire.ConnectionClose{}, &wire.ConnectionCloseOk{},
		&wire.ConnectionUpdateSecretOk{}, &wire.ConnectionStart{}, &wire.ConnectionSecure{}, &wire.ConnectionTune{}, &wire.ConnectionOpenOk{},
		&wire.QueueDeclare{}, &wire.BasicPublish{}, &wire.BasicConsume{},
	}
}

// run goes on until the bytes that decide are used up.
func (s *fuzzScript) run() []byte {
	methods := spokenMethods()
	for len(s.b) > 0 && len(s.out) < 1<<20 {
		op := s.octet()
		ch := s.channel()
		switch {
		case op < 96:
			s.deliver(ch, op)
		case op < 112:
			s.header(ch)
		case op < 128:
			s.body(ch)
		case op < 136:
			s.out = append(s.out, s.take(int(s.octet()))...)
		case op < 140:
			s.out = wire.AppendHeartbeat(s.out)
		case op < 144:
			s.out = appendFrame(s.out, s.octet(), ch, s.take(int(s.octet())))
		case op >= 240:
			s.again(op)
		default:
			m := methods[int(op)%len(methods)]
			s.fill(m)
			if b, err := wire.AppendMethod(s.out, ch, m); err == nil {
				s.out = b
			}
		}
	}
	return s.out
}

// deliver says a delivery, whole unless op is odd.
func (s *fuzzScript) deliver(ch uint16, op byte) {
	tag := s.number()
	if int(ch) < len(s.tags) && tag < 250 {
		s.tags[ch] += 1 + tag/200 // mostly the next
		tag = s.tags[ch]
	}
	began, consumer := len(s.out), s.text()
	s.out = wire.AppendDeliver(s.out, ch, consumer, tag, op%4 == 0, s.text(), s.text())
	if op%8 == 1 {
		return
	}
	body := s.take(int(s.octet()))
	p := s.properties()
	if b, err := wire.AppendContentHeader(s.out, ch, uint64(len(body)), p); err == nil {
		s.out = wire.AppendBody(b, ch, body, 4096)
		s.last = append(s.last[:0], s.out[began:]...)
		s.tag = wire.FrameHeaderSize + 4 + 1 + len(consumer)
	}
}

// again says the last whole delivery once more, and again, as another message: one
// like it, or with an octet that differs.
func (s *fuzzScript) again(op byte) {
	if len(s.last) == 0 {
		return
	}
	ch := binary.BigEndian.Uint16(s.last[1:])
	for range 1 + op%4 {
		if int(ch) < len(s.tags) {
			s.tags[ch]++
			binary.BigEndian.PutUint64(s.last[s.tag:], s.tags[ch])
		}
		s.out = append(s.out, s.last...)
	}
	if op%8 == 0 {
		s.out[len(s.out)-1-int(s.octet())%len(s.last)] ^= 1 << (s.octet() % 8)
	}
}

func (s *fuzzScript) header(ch uint16) {
	sizes := []uint64{0, 1, 100, 1 << 13, 1 << 20, 1<<20 + 1, 1 << 40, 1 << 63, math.MaxUint64}
	if b, err := wire.AppendContentHeader(s.out, ch, sizes[int(s.octet())%len(sizes)], s.properties()); err == nil {
		s.out = b
	}
}

// body says a body frame, which may be larger than what comes of it.
func (s *fuzzScript) body(ch uint16) {
	sizes := []int{0, 1, 100, 1 << 13, directSize, directSize + 1, readerFrameMax - wire.FrameOverhead, readerFrameMax}
	size := sizes[int(s.octet())%len(sizes)]
	if s.octet() < 240 {
		s.out = appendFrame(s.out, wire.FrameBody, ch, make([]byte, size))
	} else {
		s.out = wire.AppendFrameHeader(s.out, wire.FrameBody, ch, uint32(size))
	}
}

func (s *fuzzScript) properties() *wire.Properties {
	switch s.octet() % 4 {
	case 0:
		return nil
	case 1:
		return &wire.Properties{ContentType: "text/plain"}
	case 2:
		return &wire.Properties{MessageID: s.text(), Headers: Table{sequenceHeader: int64(s.number())}}
	}
	return &wire.Properties{Headers: Table{s.text(): []any{int64(s.octet()), s.text(), Table{}}}, Priority: s.octet()}
}

// fill gives the fields of a method values that occur.
func (s *fuzzScript) fill(m wire.Method) {
	for _, f := range reflect.ValueOf(m).Elem().Fields() {
		switch f.Kind() {
		case reflect.Bool:
			f.SetBool(s.octet()%2 == 1)
		case reflect.String:
			f.SetString(s.text())
		case reflect.Slice:
			f.SetBytes(s.take(int(s.octet())))
		case reflect.Map:
			f.Set(reflect.ValueOf(Table{s.text(): s.text()}))
		default:
			f.SetUint(s.number() & (1<<(8*f.Type().Size()) - 1))
		}
	}
}

// channel is mostly one that is open.
func (s *fuzzScript) channel() uint16 {
	n := s.octet()
	if n > 250 {
		return 65535
	}
	return uint16(n) % (states + 2)
}

// number is mostly small.
func (s *fuzzScript) number() uint64 {
	n := s.octet()
	switch n {
	case 254:
		return math.MaxUint64
	case 255:
		var b [8]byte
		copy(b[:], s.take(8))
		return binary.BigEndian.Uint64(b[:])
	}
	return uint64(n)
}

// text is mostly the name of the consumer.
func (s *fuzzScript) text() string {
	n := int(s.octet())
	if n < 200 {
		return "c"
	}
	return string(s.take(n - 200))
}

func (s *fuzzScript) octet() byte {
	if len(s.b) == 0 {
		return 0
	}
	n := s.b[0]
	s.b = s.b[1:]
	return n
}

func (s *fuzzScript) take(n int) []byte {
	n = min(n, len(s.b))
	b := s.b[:n:n]
	s.b = s.b[n:]
	return b
}
