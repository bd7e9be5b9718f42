package amqp

import (
	"io"
	"sync/atomic"

	"github.com/leveret-mq/leveret/amqp/internal/slab"
	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

const (
	quietBuffer = 2 << 10   // what an idle connection keeps
	busyBuffer  = 128 << 10 // where more gains nothing, if messages are small
	// floodBuffer is what those of largeFrame and more are read into when they
	// come faster than they are taken: they cost a third less with it than with
	// a busy buffer. With small ones, ten such buffers are only out of the cache.
	floodBuffer = 512 << 10
	largeFrame  = 512
	// directSize is the size of a frame from which copying it out of the read
	// buffer costs more than reading it separately.
	directSize = 16 << 10
	// quietReads is how many reads in a row have to fit into a quiet buffer
	// before the larger one is given back.
	quietReads = 8
	// handshakeFrameMax bounds frames before connection.tune has.
	handshakeFrameMax = 128 << 10
)

// frameReader cuts what a socket brings into frames, in place. The buffer is
// small while the connection is quiet.
type frameReader struct {
	src  io.Reader
	buf  []byte
	r, w int    // what of buf is unread
	from int    // where the last frame began
	max  uint32 // bytes of payload at most
	calm int    // quiet reads in a row
	more eager
	// brimful says that the last read filled the buffer: there is more,
	// probably.
	brimful bool
	// reads counts, for the heartbeat: whatever comes shows that the peer
	// lives.
	reads   atomic.Uint32
	reserve slab.Reserve
}

// take returns the next frame if all of it has been read. The payload is valid
// until fill.
func (f *frameReader) take() (h wire.FrameHeader, payload []byte, ok bool, err error) {
	b := f.buf[f.r:f.w]
	if len(b) < wire.FrameHeaderSize {
		return h, nil, false, nil
	}
	h = wire.ParseFrameHeader(b)
	if h.Size > f.max {
		return h, nil, false, f.oversize(h, b)
	}
	end := wire.FrameHeaderSize + int(h.Size)
	if len(b) <= end {
		return h, nil, false, nil
	}
	if b[end] != wire.FrameEnd {
		return h, nil, false, protocolError("a frame of type %d on channel %d ends with octet %#x instead of %#x", h.Type, h.Channel, b[end], wire.FrameEnd)
	}
	f.from = f.r
	f.r += end + 1
	return h, b[wire.FrameHeaderSize:end:end], true, nil
}

func (f *frameReader) oversize(h wire.FrameHeader, b []byte) error {
	switch {
	case h.Type == 'A' && b[1] == 'M' && b[2] == 'Q' && b[3] == 'P':
		return protocolError("the peer speaks another version of AMQP, its header is %q", b[:min(len(b), 8)])
	case h.Type == tlsAlert && b[1] == 3:
		return protocolError("the peer answers with TLS: this is an amqps port, set Config.TLS")
	case h.Type == 'H' && b[1] == 'T' && b[2] == 'T' && b[3] == 'P':
		return protocolError("the peer speaks HTTP")
	}
	return protocolError("a frame of type %d on channel %d with %d bytes exceeds frame_max, which allows %d", h.Type, h.Channel, h.Size, f.max)
}

const tlsAlert = 21

// partial is how much of the payload of the frame that is being read is in the
// buffer; it takes that out. The frame is a body's that is not complete.
func (f *frameReader) partial() []byte {
	b := f.buf[f.r+wire.FrameHeaderSize : f.w]
	f.r, f.w = 0, 0
	return b
}

// peek is the header of the frame that is being read, if it has come.
func (f *frameReader) peek() (h wire.FrameHeader, ok bool) {
	if f.w-f.r < wire.FrameHeaderSize {
		return h, false
	}
	return wire.ParseFrameHeader(f.buf[f.r:]), true
}

// large tells whether the frame that is being read is one for readBody.
func (f *frameReader) large() bool {
	h, ok := f.peek()
	return ok && h.Size >= directSize
}

// fill reads more, once.
func (f *frameReader) fill() error {
	f.makeRoom()
	n, err := f.src.Read(f.buf[f.w:])
	f.w += n
	f.brimful = f.w == len(f.buf) && n > 0
	if n == 0 {
		return err
	}
	f.count(n)
	return nil
}

// fillMore is fill if the last one filled the buffer and there is more. It never
// waits, and returns how much it has read.
func (f *frameReader) fillMore() int {
	if !f.brimful {
		return 0
	}
	f.makeRoom()
	n := f.more.read(f.buf[f.w:])
	f.w += n
	f.brimful = f.w == len(f.buf) && n > 0
	if n > 0 {
		f.count(n)
	}
	return n
}

// count notes that a read brought n bytes.
func (f *frameReader) count(n int) {
	f.reads.Add(1)
	f.reserve.Received(n)
	if n < quietBuffer/2 {
		f.calm++
	} else {
		f.calm = 0
	}
}

// makeRoom moves the unread rest to the front of a buffer of the right size:
// twice as large when the last read filled it, or as large as the frame is. For
// a frame beyond busyBuffer it grows with what really comes.
func (f *frameReader) makeRoom() {
	size := max(len(f.buf), quietBuffer)
	h, ok := f.peek()
	switch {
	case f.w == len(f.buf) && len(f.buf) > 0:
		most := max(len(f.buf), busyBuffer)
		if ok && h.Size >= largeFrame {
			most = max(len(f.buf), floodBuffer)
		}
		size = min(2*size, most)
	case f.calm >= quietReads:
		size = quietBuffer
	}
	if ok {
		want := min(wire.FrameOverhead+int(h.Size), max(busyBuffer, 2*(f.w-f.r)))
		for size < want {
			size *= 2
		}
	}
	size = max(size, f.w-f.r)
	to := f.buf
	if size != len(f.buf) {
		to = make([]byte, size)
	} else if f.r == 0 {
		return
	}
	f.w = copy(to, f.buf[f.r:f.w])
	f.r, f.buf = 0, to
}

// next reads one frame, for straight-line code.
func (f *frameReader) next() (wire.FrameHeader, []byte, error) {
	for {
		h, payload, ok, err := f.take()
		if ok || err != nil {
			return h, payload, err
		}
		if err := f.fill(); err != nil {
			return h, nil, err
		}
	}
}

// octet reads one byte from behind what readBody took.
func (f *frameReader) octet() (byte, error) {
	for f.r == f.w {
		if err := f.fill(); err != nil {
			return 0, err
		}
	}
	f.r++
	return f.buf[f.r-1], nil
}
