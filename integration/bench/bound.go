//go:build unix

package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sync/errgroup"

	"github.com/leveret-mq/leveret/amqp"
)

// bounds are the floor with nothing but what any client has to do that may be
// used by many goroutines, and whose messages are the program's to keep: a lock
// and a copy for each message published; memory for each that is received, and a
// reader that hands them over to the program's goroutine, one for each channel.
// Nothing is encoded, looked up or settled one by one. Memory for bodies is new,
// and not filled again as ours is.
var bounds = map[string]func(*meter) error{
	"publish": boundPublish,
	"confirm": boundConfirm,
	"waiters": boundWaiter,
	"consume": boundConsume,
}

// boundBody is the size from which a body is often not in the read buffer as a whole,
// and collect would not copy it.
const boundBody = 16 << 10

// boundDoes tells whether the bound can do a mode.
func boundDoes(j *Job) bool {
	return bounds[j.Kind] != nil && (j.Channels == 1 || j.Kind == "consume" && j.Prefetch <= 0) &&
		(j.Kind != "consume" || j.Body < boundBody) && j.Connections == 1 && j.Goroutines == 1 && j.Hold == 0 && !j.Props
}

// boundWriter is where messages are copied to.
type boundWriter struct {
	mu  sync.Mutex
	buf []byte
	c   *rawConn
	err error
}

const boundBuffer = 32 << 10

func (w *boundWriter) append(message []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.buf = append(w.buf, message...); len(w.buf) >= boundBuffer {
		w.write()
	}
	return w.err
}

func (w *boundWriter) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write()
	return w.err
}

func (w *boundWriter) write() {
	if len(w.buf) == 0 {
		return
	}
	if _, err := w.c.nc.Write(w.buf); err != nil {
		w.err = err
	}
	w.buf = w.buf[:0]
}

func boundPublish(m *meter) error {
	conns, err := started(m)
	if err != nil {
		return err
	}
	defer conns[0].nc.Close()
	w := &boundWriter{c: conns[0]}
	message, _ := encode(m.Job, 1)
	t := tally{m: m}
	for more := true; more && err == nil; more = t.more() {
		err = w.append(message)
	}
	if err == nil {
		err = w.flush()
	}
	if err == nil {
		_, err = w.c.call(appendPassive(nil, 1, m.Queue), queueDeclareOk)
	}
	m.stop()
	t.end()
	return err
}

// confirms has a goroutine read confirms, and call each with the tag. It closes
// answers at the end.
func (c *rawConn) confirms(group *errgroup.Group, answers chan struct{}, each func(tag uint64) (more bool)) {
	group.Go(func() error {
		defer close(answers)
		for {
			f, err := c.await(basicAck)
			if err != nil || !each(confirmTag(f.payload)) {
				return err
			}
		}
	})
}

func boundConfirm(m *meter) error {
	c, err := confirming(m)
	if err != nil {
		return err
	}
	w := &boundWriter{c: c}
	message, _ := encode(m.Job, 1)
	var confirmed, last atomic.Uint64 // last: 0 while more is sent
	room := make(chan struct{}, 1)
	var group errgroup.Group
	c.confirms(&group, room, func(tag uint64) bool {
		confirmed.Store(tag)
		select {
		case room <- struct{}{}:
		default:
		}
		return last.Load() != tag
	})
	t := tally{m: m}
	sent := uint64(0)
	for more := true; more; more = t.more() {
		for sent-confirmed.Load() >= uint64(m.Window) {
			if err := w.flush(); err != nil {
				return err
			}
			if _, ok := <-room; !ok {
				return group.Wait()
			}
		}
		if err := w.append(message); err != nil {
			return err
		}
		sent++
	}
	last.Store(sent)
	if err := w.flush(); err != nil {
		return err
	}
	for confirmed.Load() < sent {
		if _, ok := <-room; !ok && confirmed.Load() < sent {
			return group.Wait()
		}
	}
	m.stop()
	t.end()
	c.nc.Close()
	_ = group.Wait() // the last confirm may have come before last was known
	return nil
}

// boundWaiter is the floor's, with a reader that wakes who waits.
func boundWaiter(m *meter) error {
	c, err := confirming(m)
	if err != nil {
		return err
	}
	answer := make(chan struct{}, 1)
	var group errgroup.Group
	c.confirms(&group, answer, func(uint64) bool {
		answer <- struct{}{}
		return true
	})
	t := newTally(m)
	one, _ := encode(m.Job, 1)
	for more := true; more; more = t.more() {
		began := time.Now()
		if _, err := c.nc.Write(one); err != nil {
			return err
		}
		if _, ok := <-answer; !ok {
			return group.Wait()
		}
		t.took(time.Since(began))
	}
	m.stop()
	t.end()
	c.nc.Close()
	_ = group.Wait() // that it was closed
	return nil
}

// boundDelivery is as large as a message has to be.
type boundDelivery struct {
	amqp.Envelope
	body *byte
}

// boundMailbox is where the reader puts what a read brought.
type boundMailbox struct {
	mu     sync.Mutex
	in     []*boundDelivery
	filled chan struct{} // capacity 1
}

func (b *boundMailbox) put(batch []*boundDelivery) {
	b.mu.Lock()
	b.in = append(b.in, batch...)
	b.mu.Unlock()
	select {
	case b.filled <- struct{}{}:
	default:
	}
}

func (b *boundMailbox) take(done []*boundDelivery) []*boundDelivery {
	clear(done)
	b.mu.Lock()
	defer b.mu.Unlock()
	done, b.in = b.in, done[:0]
	return done
}

// loop handles what is put into the box, and acknowledges each filling.
func (b *boundMailbox) loop(m *meter, ack func(tag uint64) error) error {
	t := tally{m: m}
	defer t.end()
	var batch []*boundDelivery
	for more := true; more; {
		for batch = b.take(batch); len(batch) == 0 && more; batch = b.take(batch) {
			select {
			case <-b.filled:
			case <-m.done:
				more = false
			}
		}
		var tag uint64
		for _, d := range batch {
			tag = d.DeliveryTag
			more = t.more()
		}
		if !m.NoAck && more {
			if err := ack(tag); err != nil {
				return nil // it was closed
			}
		}
	}
	return nil
}

func boundConsume(m *meter) error {
	conns, err := started(m)
	if err != nil {
		return err
	}
	// As ours has it in slab.Reserve: the heap is collected less often.
	reserve := make([]byte, 8<<20)
	defer runtime.KeepAlive(reserve)
	c := conns[0]
	if err := c.consume(m.Job, m.Queue); err != nil {
		return err
	}
	// Of many channels the acknowledgements are written together, before the next read.
	acks := &boundWriter{c: c}
	boxes := make([]*boundMailbox, m.Channels+1) // by channel
	var group errgroup.Group
	for i := range m.Channels {
		id := uint16(i + 1)
		box := &boundMailbox{filled: make(chan struct{}, 1)}
		boxes[id] = box
		group.Go(func() error {
			return box.loop(m, func(tag uint64) error {
				err := acks.append(appendAck(nil, id, tag, true))
				if err == nil && m.Channels == 1 {
					err = acks.flush()
				}
				return err
			})
		})
	}
	group.Go(func() error { return c.collect(m, boxes, acks) })
	group.Go(func() error {
		<-m.done
		m.stop()
		return c.nc.Close()
	})
	_ = group.Wait() // that it was closed
	return nil
}

// As ours does it, reads of many channels are handed over together, since one brings
// each channel a message: so many, or until they have brought it a handful.
const (
	boundReads   = 2 << 20 / (2 * frameMax)
	boundHandful = 32
)

// collect reads deliveries until the connection ends.
func (c *rawConn) collect(m *meter, boxes []*boundMailbox, acks *boundWriter) error {
	const piece = 32 << 10
	var deliveries []boundDelivery
	var bytes []byte
	batches := make([][]*boundDelivery, len(boxes))
	var touched []uint16
	for reads := 1; ; {
		f, ok, err := c.in.take()
		if err != nil {
			return err
		}
		batch := &batches[f.channel]
		switch {
		case !ok:
			if len(touched) < 2 || len(batches[touched[0]]) >= boundHandful || reads >= boundReads || c.in.w < len(c.in.buf) {
				reads = 0
				for _, id := range touched {
					boxes[id].put(batches[id])
					clear(batches[id])
					batches[id] = batches[id][:0]
				}
				touched = touched[:0]
			}
			if len(boxes) > 2 { // the loop of one channel has written its own
				if err := acks.flush(); err != nil {
					return err
				}
			}
			if err := c.in.fill(); err != nil {
				return err
			}
			reads++
		case f.method() == basicDeliver:
			if len(deliveries) == 0 {
				deliveries = make([]boundDelivery, piece/unsafe.Sizeof(boundDelivery{}))
			}
			d := &deliveries[0]
			deliveries = deliveries[1:]
			d.DeliveryTag = deliveryTag(f.payload)
			d.ConsumerTag, d.RoutingKey = "raw", "bench"
			if len(*batch) == 0 {
				touched = append(touched, f.channel)
			}
			*batch = append(*batch, d)
		case f.kind == frameBody && len(*batch) > 0:
			if len(bytes) < m.Body {
				bytes = make([]byte, max(2*piece, m.Body))
			}
			copy(bytes, f.payload)
			(*batch)[len(*batch)-1].body = &bytes[0]
			bytes = bytes[m.Body:]
		}
	}
}
