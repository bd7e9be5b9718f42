//go:build unix

package main

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	frameMethod    = 1
	frameHeader    = 2
	frameBody      = 3
	frameHeartbeat = 8
	frameEnd       = 0xCE

	frameHead = 7         // type, channel, size
	frameMax  = 128 << 10 // what RabbitMQ proposes, and the null broker too
)

// methodID is the class in the upper half, the method in the lower.
type methodID uint32

const (
	connectionStart   methodID = 10<<16 | 10
	connectionStartOk methodID = 10<<16 | 11
	connectionTune    methodID = 10<<16 | 30
	connectionTuneOk  methodID = 10<<16 | 31
	connectionOpen    methodID = 10<<16 | 40
	connectionOpenOk  methodID = 10<<16 | 41
	connectionClose   methodID = 10<<16 | 50
	connectionCloseOk methodID = 10<<16 | 51
	channelOpen       methodID = 20<<16 | 10
	channelOpenOk     methodID = 20<<16 | 11
	channelFlow       methodID = 20<<16 | 20
	channelFlowOk     methodID = 20<<16 | 21
	channelClose      methodID = 20<<16 | 40
	channelCloseOk    methodID = 20<<16 | 41
	queueDeclare      methodID = 50<<16 | 10
	queueDeclareOk    methodID = 50<<16 | 11
	queueDelete       methodID = 50<<16 | 40
	queueDeleteOk     methodID = 50<<16 | 41
	basicQos          methodID = 60<<16 | 10
	basicQosOk        methodID = 60<<16 | 11
	basicConsume      methodID = 60<<16 | 20
	basicConsumeOk    methodID = 60<<16 | 21
	basicCancel       methodID = 60<<16 | 30
	basicCancelOk     methodID = 60<<16 | 31
	basicPublish      methodID = 60<<16 | 40
	basicDeliver      methodID = 60<<16 | 60
	basicAck          methodID = 60<<16 | 80
	basicReject       methodID = 60<<16 | 90
	basicNack         methodID = 60<<16 | 120
	confirmSelect     methodID = 85<<16 | 10
	confirmSelectOk   methodID = 85<<16 | 11
)

var protocolHeader = []byte("AMQP\x00\x00\x09\x01")

// A short string is a string argument; a long one and a table are these.
type (
	longString []byte
	table      []byte // its fields, encoded
)

// appendMethod appends a method frame. It is for what happens once, or once a
// read: messages are encoded before the clock starts.
func appendMethod(dst []byte, channel uint16, id methodID, args ...any) []byte {
	dst, at := beginFrame(dst, frameMethod, channel)
	dst = binary.BigEndian.AppendUint32(dst, uint32(id))
	for _, arg := range args {
		switch v := arg.(type) {
		case uint8:
			dst = append(dst, v)
		case uint16:
			dst = binary.BigEndian.AppendUint16(dst, v)
		case uint32:
			dst = binary.BigEndian.AppendUint32(dst, v)
		case uint64:
			dst = binary.BigEndian.AppendUint64(dst, v)
		case string:
			dst = append(append(dst, uint8(len(v))), v...)
		case longString:
			dst = append(binary.BigEndian.AppendUint32(dst, uint32(len(v))), v...)
		case table:
			dst = append(binary.BigEndian.AppendUint32(dst, uint32(len(v))), v...)
		default:
			panic(fmt.Sprintf("appendMethod: %T", arg))
		}
	}
	return endFrame(dst, at)
}

func beginFrame(dst []byte, kind uint8, channel uint16) ([]byte, int) {
	at := len(dst)
	dst = append(dst, kind)
	dst = binary.BigEndian.AppendUint16(dst, channel)
	return append(dst, 0, 0, 0, 0), at
}

func endFrame(dst []byte, at int) []byte {
	binary.BigEndian.PutUint32(dst[at+3:], uint32(len(dst)-at-frameHead))
	return append(dst, frameEnd)
}

// appendContent appends content header and body frames.
func appendContent(dst []byte, channel uint16, properties, body []byte) []byte {
	dst, at := beginFrame(dst, frameHeader, channel)
	dst = binary.BigEndian.AppendUint32(dst, 60<<16)
	dst = binary.BigEndian.AppendUint64(dst, uint64(len(body)))
	dst = endFrame(append(dst, properties...), at)
	for len(body) > 0 {
		n := min(len(body), frameMax-frameHead-1)
		dst, at = beginFrame(dst, frameBody, channel)
		dst = endFrame(append(dst, body[:n]...), at)
		body = body[n:]
	}
	return dst
}

func appendPublish(dst []byte, channel uint16, key string, properties, body []byte) []byte {
	dst = appendMethod(dst, channel, basicPublish, uint16(0), "", key, uint8(0))
	return appendContent(dst, channel, properties, body)
}

// appendDelivery also returns where in dst the delivery tag is.
func appendDelivery(dst []byte, channel uint16, consumer, key string, properties, body []byte) (_ []byte, tagAt int) {
	tagAt = len(dst) + frameHead + 4 + 1 + len(consumer)
	dst = appendMethod(dst, channel, basicDeliver, consumer, uint64(0), uint8(0), "", key)
	return appendContent(dst, channel, properties, body), tagAt
}

// frame is one that was read. A method's payload is whole; a body's is nil when
// it was jumped over.
type frame struct {
	kind    uint8
	channel uint16
	payload []byte // valid until fill
}

func (f *frame) method() methodID {
	if f.kind != frameMethod || len(f.payload) < 4 {
		return 0
	}
	return methodID(binary.BigEndian.Uint32(f.payload))
}

// frames cuts what is read into frames. It copies nothing and jumps over bodies
// that are not complete.
type frames struct {
	src  io.Reader
	buf  []byte
	r, w int
	skip int // bytes of a body still to come
}

func newFrames(src io.Reader) *frames { return &frames{src: src, buf: make([]byte, 2*frameMax)} }

// take returns the next frame in the buffer.
func (s *frames) take() (f frame, ok bool, err error) {
	b := s.buf[s.r:s.w]
	if len(b) < frameHead {
		return f, false, nil
	}
	size := int(binary.BigEndian.Uint32(b[3:]))
	f.kind, f.channel = b[0], binary.BigEndian.Uint16(b[1:])
	end := frameHead + size
	if end >= frameMax {
		return f, false, fmt.Errorf("a frame of type %d with %d bytes", f.kind, size)
	}
	if len(b) > end {
		if b[end] != frameEnd {
			return f, false, fmt.Errorf("a frame of type %d ends with octet %#x", f.kind, b[end])
		}
		f.payload = b[frameHead:end]
		s.r += end + 1
		return f, true, nil
	}
	if f.kind != frameBody {
		return f, false, nil
	}
	s.skip = end + 1 - len(b)
	s.r = s.w
	return f, true, nil
}

// fill reads once.
func (s *frames) fill() error {
	s.w = copy(s.buf, s.buf[s.r:s.w])
	s.r = 0
	n, err := s.src.Read(s.buf[s.w:])
	s.w += n
	if n == 0 {
		return err
	}
	if s.skip > 0 {
		s.r = min(s.skip, n)
		s.skip -= s.r
		if s.skip == 0 && s.buf[s.r-1] != frameEnd {
			return fmt.Errorf("a body frame ends with octet %#x", s.buf[s.r-1])
		}
	}
	return nil
}

// next reads a frame, for straight-line code.
func (s *frames) next() (frame, error) {
	for {
		f, ok, err := s.take()
		if ok || err != nil {
			return f, err
		}
		if err := s.fill(); err != nil {
			return f, err
		}
	}
}

// args reads a method's arguments; what is not there is zero.
type args []byte

func (a *args) bytes(n int) []byte {
	b := make([]byte, n)
	*a = (*a)[copy(b, *a):]
	return b
}

func (a *args) octet() uint8     { return a.bytes(1)[0] }
func (a *args) short() uint16    { return binary.BigEndian.Uint16(a.bytes(2)) }
func (a *args) long() uint32     { return binary.BigEndian.Uint32(a.bytes(4)) }
func (a *args) shortStr() string { return string(a.bytes(int(a.octet()))) }
