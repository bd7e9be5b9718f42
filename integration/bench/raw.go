//go:build unix

package main

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"golang.org/x/sync/errgroup"
)

// raws are the floor: pre-encoded frames, and a reader that looks at frame
// headers. A mode that only makes sense with a client has none.
var raws = map[string]func(*meter) error{
	"publish":     rawPublish,
	"confirm":     rawConfirm,
	"waiters":     rawWaiter,
	"consume":     rawConsume,
	"latency":     rawLatency,
	"connections": rawConnections,
	"channels":    rawChannels,
}

// rawBlock is how much the floor writes at once: more gains nothing.
const rawBlock = 256 << 10

// encode fills a block with publishes to the job's channels in turn, and tells
// how many those are.
func encode(j *Job, atMost int) (block []byte, n int) {
	body := make([]byte, j.Body)
	for n == 0 || len(block) < rawBlock && n < atMost || n%j.Channels != 0 {
		block = appendPublish(block, uint16(1+n%j.Channels), j.Queue, rawProperties(j.Props, n), body)
		n++
	}
	return block, n
}

// rawPublish writes whole blocks; goroutines make no difference to it.
func rawPublish(m *meter) error {
	conns, err := started(m)
	if err != nil {
		return err
	}
	var group errgroup.Group
	for _, c := range conns {
		group.Go(func() error {
			block, n := encode(m.Job, math.MaxInt)
			for !m.over.Load() {
				if _, err := c.nc.Write(block); err != nil {
					return err
				}
				m.total.Add(int64(n))
			}
			_, err := c.call(appendPassive(nil, 1, m.Queue), queueDeclareOk)
			return err
		})
	}
	err = group.Wait()
	m.stop()
	return err
}

// started opens the job's connections and channels, and starts the clock.
func started(m *meter) ([]*rawConn, error) {
	conns, err := openRaw(m.Job)
	if err != nil {
		return nil, err
	}
	return conns, m.start()
}

// confirming opens one channel in confirm mode.
func confirming(m *meter) (*rawConn, error) {
	conns, err := openRaw(m.Job)
	if err != nil {
		return nil, err
	}
	if _, err := conns[0].call(appendMethod(nil, 1, confirmSelect, uint8(0)), confirmSelectOk); err != nil {
		return nil, err
	}
	return conns[0], m.start()
}

// rawConfirm keeps half a window on its way while it waits for the other.
func rawConfirm(m *meter) error {
	c, err := confirming(m)
	if err != nil {
		return err
	}
	block, n := encode(m.Job, max(m.Window/2, 1))
	var sent, confirmed uint64
	for !m.over.Load() || confirmed < sent {
		for !m.over.Load() && sent+uint64(n) <= confirmed+uint64(m.Window) {
			if _, err := c.nc.Write(block); err != nil {
				return err
			}
			sent += uint64(n)
		}
		f, err := c.await(basicAck)
		if err != nil {
			return err
		}
		confirmed = max(confirmed, confirmTag(f.payload))
	}
	m.total.Add(int64(sent))
	m.stop()
	return nil
}

// rawWaiter is one goroutine that waits for each confirm.
func rawWaiter(m *meter) error {
	c, err := confirming(m)
	if err != nil {
		return err
	}
	t := newTally(m)
	one, _ := encode(m.Job, 1)
	for {
		began := time.Now()
		if _, err := c.call(one, basicAck); err != nil {
			return err
		}
		t.took(time.Since(began))
		if !t.more() {
			break
		}
	}
	m.stop()
	t.end()
	return nil
}

// rawConsume acknowledges what one read brought by one multiple ack a channel.
func rawConsume(m *meter) error {
	conns, err := started(m)
	if err != nil {
		return err
	}
	var group errgroup.Group
	for i, c := range conns {
		group.Go(func() error {
			if err := c.consume(m.Job, m.queue(i)); err != nil {
				return err
			}
			return c.count(m)
		})
	}
	go func() {
		<-m.done
		m.stop()
		for _, c := range conns {
			c.nc.Close()
		}
	}()
	if err := group.Wait(); !m.over.Load() {
		return err
	}
	m.stop()
	return nil
}

// consume starts a consumer on each channel. The answers are read with the
// deliveries.
func (c *rawConn) consume(j *Job, queue string) error {
	var out []byte
	for id := uint16(1); id <= uint16(j.Channels); id++ {
		if !j.NoAck {
			out = appendMethod(out, id, basicQos, uint32(0), uint16(max(j.Prefetch, 0)), uint8(0))
		}
		out = appendConsume(out, id, queue, j.NoAck)
	}
	_, err := c.nc.Write(out)
	return err
}

// count counts deliveries until the connection ends.
func (c *rawConn) count(m *meter) error {
	tags := make([]uint64, m.Channels+1)
	var fresh []uint16 // channels with something to acknowledge
	var acks []byte
	for {
		f, ok, err := c.in.take()
		if err != nil {
			return err
		}
		if ok {
			if f.method() == basicDeliver {
				if tags[f.channel] == 0 {
					fresh = append(fresh, f.channel)
				}
				tags[f.channel] = deliveryTag(f.payload)
				tags[0]++
			}
			continue
		}
		if total := m.total.Add(int64(tags[0])); m.Messages > 0 && total >= int64(m.Messages) {
			m.enough()
		}
		tags[0] = 0
		acks = acks[:0]
		for _, id := range fresh {
			if !m.NoAck {
				acks = appendAck(acks, id, tags[id], true)
			}
			tags[id] = 0
		}
		fresh = fresh[:0]
		if len(acks) > 0 {
			if _, err := c.nc.Write(acks); err != nil {
				return err
			}
		}
		if err := c.in.fill(); err != nil {
			return err
		}
	}
}

// rawLatency publishes at a rate, and reads the time out of what is delivered.
func rawLatency(m *meter) error {
	m.Connections = 2
	conns, err := openRaw(m.Job)
	if err != nil {
		return err
	}
	out, in := conns[0], conns[1]
	if err := in.consume(m.Job, m.Queue); err != nil {
		return err
	}
	if _, err := in.await(basicConsumeOk); err != nil {
		return err
	}
	if err := m.start(); err != nil {
		return err
	}
	var group errgroup.Group
	group.Go(func() error {
		message := appendPublish(nil, 1, m.Queue, rawProperties(m.Props, 0), make([]byte, m.Body))
		return m.pace(func(now uint64) error {
			binary.BigEndian.PutUint64(message[len(message)-1-m.Body:], now)
			_, err := out.nc.Write(message)
			return err
		})
	})
	group.Go(func() error { return in.receive(m) })
	return group.Wait()
}

func (c *rawConn) receive(m *meter) error {
	t := newTally(m)
	defer t.end()
	defer m.stop()
	var tag uint64
	for {
		f, err := c.in.next()
		if err != nil {
			return err
		}
		if f.method() == basicDeliver {
			tag = deliveryTag(f.payload)
		}
		if f.kind != frameBody {
			continue
		}
		t.took(m.since(f.payload))
		if _, err := c.nc.Write(appendAck(nil, 1, tag, false)); err != nil {
			return err
		}
		if !t.more() {
			return nil
		}
	}
}

// rawConnections opens connections in a row.
func rawConnections(m *meter) error {
	if err := m.start(); err != nil {
		return err
	}
	conns := make([]*rawConn, m.Connections)
	for i := range conns {
		c, err := dialRaw(m.Job, usualHeartbeat)
		if err != nil {
			return err
		}
		conns[i] = c
	}
	m.total.Add(int64(m.Connections))
	m.stop()
	for _, c := range conns {
		if err := c.bye(); err != nil {
			return err
		}
	}
	return nil
}

// rawChannels opens channels in a row, or writes all requests at once.
func rawChannels(m *meter) error {
	c, err := dialRaw(m.Job, usualHeartbeat)
	if err != nil {
		return err
	}
	if err := m.start(); err != nil {
		return err
	}
	if !m.AtOnce {
		err = c.open(m.Channels)
	} else {
		var out []byte
		for id := range m.Channels {
			out = appendMethod(out, uint16(id+1), channelOpen, "")
		}
		_, err = c.nc.Write(out)
		for i := 0; i < m.Channels && err == nil; i++ {
			_, err = c.await(channelOpenOk)
		}
	}
	m.total.Add(int64(m.Channels))
	m.stop()
	return errors.Join(err, c.bye())
}
