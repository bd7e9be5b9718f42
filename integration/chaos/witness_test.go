package chaos

import (
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/leveret-mq/leveret/integration/proxy"
)

// witness reads along what consumers and broker say to each other, and knows
// without asking the client which messages were acknowledged.
type witness struct {
	mu       sync.Mutex
	handled  func(n int) bool
	lines    map[lineID]*line
	acked    int
	too      int // early: acknowledged before anybody had handled it
	unclear  int // acknowledgements of tags that were never delivered
	rejected int
}

type lineID struct {
	connection int
	channel    uint16
}

// line is what was delivered on one channel and not settled.
type line struct {
	tag   uint64 // of the message that is coming in
	begun bool   // its body is still to come
	tags  map[uint64]int
}

const basicClass = 60

func newWitness() *witness { return &witness{lines: map[lineID]*line{}} }

func (w *witness) mayAck(handled func(n int) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handled = handled
}

// see takes one frame. It passes all of them.
func (w *witness) see(f proxy.Frame) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := lineID{f.Connection, f.Channel}
	l := w.lines[id]
	if l == nil || f.Is(20, 10) { // channel.open
		l = &line{tags: map[uint64]int{}}
		w.lines[id] = l
	}
	switch {
	case len(f.Raw) < 8:
	case f.Direction == proxy.ToClient && f.Is(basicClass, 60): // basic.deliver
		tag := f.Raw[11:]
		tag = tag[1+int(tag[0]):]
		l.tag, l.begun = binary.BigEndian.Uint64(tag), true
	case f.Direction == proxy.ToClient && f.Type == proxy.ContentBody && l.begun:
		l.begun = false
		if n, err := number(f.Raw[7 : len(f.Raw)-1]); err == nil {
			l.tags[l.tag] = n
		}
	case f.Direction == proxy.ToServer && f.Is(basicClass, 80): // basic.ack
		w.settle(l, f.Raw[11:], f.Raw[19]&1 != 0, true)
	case f.Direction == proxy.ToServer && f.Is(basicClass, 120): // basic.nack
		w.settle(l, f.Raw[11:], f.Raw[19]&1 != 0, false)
	case f.Direction == proxy.ToServer && f.Is(basicClass, 90): // basic.reject
		w.settle(l, f.Raw[11:], false, false)
	}
}

func (w *witness) settle(l *line, raw []byte, multiple, ack bool) {
	last := binary.BigEndian.Uint64(raw)
	if _, ok := l.tags[last]; !ok {
		w.unclear++
	}
	for tag, n := range l.tags {
		if tag != last && (!multiple || tag > last) {
			continue
		}
		delete(l.tags, tag)
		switch {
		case !ack:
			w.rejected++
		case w.handled == nil || w.handled(n):
			w.acked++
		default:
			w.too++
		}
	}
}

func (w *witness) String() string {
	if w == nil {
		return ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprintf("\n  on the wire: %d messages acknowledged, %d of them not handled before, %d acknowledgements of nothing, %d messages given back",
		w.acked+w.too, w.too, w.unclear, w.rejected)
}

func (w *witness) check(t *testing.T) {
	t.Helper()
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	assert.Zero(t, w.too, "acknowledged before anybody had handled it")
	assert.Zero(t, w.unclear, "acknowledgements of what was never delivered")
	assert.Positive(t, w.acked)
}
