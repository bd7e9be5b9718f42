package amqptest

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// A frame is one frame of a client's. Its payload is valid until the next one is read.
type frame struct {
	typ        byte
	channel    uint16
	payload    []byte
	maxMessage uint64
}

// A frameReader finds frames in what it reads, in place.
type frameReader struct {
	source     io.Reader
	buf        []byte
	start, end int
}

// next returns the next frame when all of it has been read; otherwise it returns false.
func (r *frameReader) next(frameMax uint32) (f frame, ok bool, e *exception) {
	b := r.buf[r.start:r.end]
	if len(b) < wire.FrameHeaderSize {
		return f, false, nil
	}
	h := wire.ParseFrameHeader(b)
	if frameMax > 0 && h.Size > frameMax-wire.FrameOverhead {
		return f, false, badFrame(h, nil, fmt.Sprintf("{frame_too_large,%d,%d}", h.Size, frameMax-wire.FrameOverhead))
	}
	size := int(h.Size) + wire.FrameOverhead
	if len(b) < size {
		r.room(size)
		return f, false, nil
	}
	if b[size-1] != wire.FrameEnd {
		return f, false, badFrame(h, b[wire.FrameHeaderSize:size-1], fmt.Sprintf("{invalid_frame_end_marker,%d}", b[size-1]))
	}
	r.start += size
	return frame{typ: h.Type, channel: h.Channel, payload: b[wire.FrameHeaderSize : size-1]}, true, nil
}

func badFrame(h wire.FrameHeader, payload []byte, why string) *exception {
	return fail(frameError, "type %d, %s: %s", h.Type, octets(payload), why)
}

// octets prints the begin of a payload as RabbitMQ does.
func octets(b []byte) string {
	if len(b) > 16 {
		return "first 16 octets = " + binaryText(b[:16])
	}
	return "all octets = " + binaryText(b)
}

// binaryText prints bytes as Erlang does: as a string when all of them can be printed, else as numbers.
func binaryText(b []byte) string {
	var numbers []string
	printable := len(b) > 0
	for _, c := range b {
		numbers = append(numbers, strconv.Itoa(int(c)))
		printable = printable && c >= ' ' && c <= '~'
	}
	if printable {
		return fmt.Sprintf("<<%q>>", b)
	}
	return "<<" + strings.Join(numbers, ",") + ">>"
}

// room makes sure that a frame of this size fits behind start.
func (r *frameReader) room(size int) {
	if r.start+size <= len(r.buf) {
		return
	}
	r.end = copy(r.buf, r.buf[r.start:r.end])
	r.start = 0
	if size > len(r.buf) {
		// A peer that claims a large frame gets the room as its bytes come.
		r.buf = slices.Grow(r.buf[:r.end], min(size-r.end, len(r.buf)))
		r.buf = r.buf[:cap(r.buf)]
	}
}

// fill reads more.
func (r *frameReader) fill() error {
	if r.buf == nil {
		r.buf = make([]byte, 32<<10)
	}
	if r.start == r.end {
		r.start, r.end = 0, 0
	}
	if r.end == len(r.buf) {
		r.room(len(r.buf) - r.start + 1)
	}
	n, err := r.source.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	return err
}
