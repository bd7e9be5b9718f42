package proxy

import (
	"bufio"
	"encoding/binary"
	"io"
)

// Direction is the way a frame goes.
type Direction int

// The two ways.
const (
	ToServer Direction = iota
	ToClient
)

// The frame types of AMQP 0-9-1, and the protocol header that a conversation
// starts with.
const (
	Method         = 1
	ContentHeader  = 2
	ContentBody    = 3
	Heartbeat      = 8
	ProtocolHeader = 'A'
)

const (
	frameHeader  = 7       // type, channel, size of the payload
	largestFrame = 1 << 28 // more than any peer agrees to: then it is no frame
	chunkSize    = 64 << 10
)

// Frame is one frame on its way.
type Frame struct {
	Connection int // counts the proxy's connections from 1
	Direction  Direction
	Type       byte
	Channel    uint16
	Raw        []byte // the whole frame with its end octet; not to be written to
}

// Is tells whether the frame is a method frame of this class and method.
func (f Frame) Is(class, method uint16) bool {
	return f.Type == Method && len(f.Raw) >= frameHeader+4 &&
		binary.BigEndian.Uint16(f.Raw[frameHeader:]) == class &&
		binary.BigEndian.Uint16(f.Raw[frameHeader+2:]) == method
}

// Verdict says what becomes of a frame.
type Verdict int

// The verdicts. A reset is a real one (RST), on both sides, after everything
// that went before in this direction has been written.
const (
	Pass      Verdict = iota // goes on
	Drop                     // vanishes, alone
	Reset                    // vanishes, and the connection with it
	PassReset                // goes on, then the connection is reset
	Half                     // half of its bytes go on, then the connection is reset
)

// next reads the next frame. What can't be a frame comes back as it was read,
// with ok false: from there on, the stream is opaque.
func next(r *bufio.Reader) (f Frame, ok bool, err error) {
	start, err := r.Peek(1)
	if err != nil {
		return f, false, err
	}
	size := 0
	switch f.Type = start[0]; f.Type {
	case ProtocolHeader:
		size = 8
	case Method, ContentHeader, ContentBody, Heartbeat:
		header, err := r.Peek(frameHeader)
		if err != nil {
			break // the stream ends within the frame: what there is of it goes on
		}
		f.Channel = binary.BigEndian.Uint16(header[1:])
		if payload := binary.BigEndian.Uint32(header[3:]); payload < largestFrame {
			size = frameHeader + int(payload) + 1
		}
	}
	if size == 0 {
		return f, false, nil
	}
	f.Raw = make([]byte, size)
	n, err := io.ReadFull(r, f.Raw)
	f.Raw = f.Raw[:n]
	return f, true, err
}
