//go:build unix

package main

import (
	"context"
	"encoding/binary"
	"strconv"
	"sync"
	"time"

	official "github.com/rabbitmq/amqp091-go"
	"golang.org/x/sync/errgroup"
)

// officials are the same modes with RabbitMQ's own Go client, used as its
// documentation says.
var officials = map[string]func(*meter) error{
	"publish":     officialPublish,
	"confirm":     officialConfirm,
	"waiters":     officialWaiters,
	"consume":     officialConsume,
	"latency":     officialLatency,
	"connections": officialConnections,
	"channels":    officialChannels,
	"ranges":      officialRanges,
}

func dialOfficial(j *Job) (*official.Connection, error) {
	scheme, cfg := "amqp", official.Config{Vhost: j.Vhost, Locale: "en_US"}
	if j.TLS {
		scheme, cfg.TLSClientConfig = "amqps", trusting()
	}
	return official.DialConfig(scheme+"://guest:guest@"+j.Addr, cfg)
}

func openOfficial(j *Job) (conns []*official.Connection, all [][]*official.Channel, err error) {
	for range j.Connections {
		c, err := dialOfficial(j)
		if err != nil {
			return nil, nil, err
		}
		var chs []*official.Channel
		for range j.Channels {
			ch, err := c.Channel()
			if err != nil {
				return nil, nil, err
			}
			chs = append(chs, ch)
		}
		conns, all = append(conns, c), append(all, chs)
	}
	return conns, all, nil
}

func officialPublish(m *meter) error {
	_, all, err := openOfficial(m.Job)
	if err != nil {
		return err
	}
	if err := m.start(); err != nil {
		return err
	}
	var group errgroup.Group
	for _, chs := range all {
		for g := range m.Goroutines {
			group.Go(func() error { return officialStream(m, chs, g) })
		}
	}
	err = group.Wait()
	for _, chs := range all {
		if err == nil {
			_, err = chs[0].QueueDeclarePassive(m.Queue, false, false, false, false, nil)
		}
	}
	m.stop()
	return err
}

func officialStream(m *meter, chs []*official.Channel, goroutine int) error {
	ctx := context.Background()
	t := tally{m: m}
	defer t.end()
	msg := officialMessage(m.Job)
	at := goroutine
	for i := 0; ; i++ {
		if m.Props {
			msg.MessageId = ids[i%len(ids)]
		}
		if at >= len(chs) {
			at = goroutine % len(chs)
		}
		if err := chs[at].PublishWithContext(ctx, "", m.Queue, false, false, msg); err != nil {
			return err
		}
		at += m.Goroutines
		if !t.more() {
			return nil
		}
	}
}

func officialConfirm(m *meter) error {
	ctx := context.Background()
	_, all, err := openOfficial(m.Job)
	if err != nil {
		return err
	}
	ch := all[0][0]
	if err := ch.Confirm(false); err != nil {
		return err
	}
	confirms := ch.NotifyPublish(make(chan official.Confirmation, m.Window))
	if err := m.start(); err != nil {
		return err
	}
	t := tally{m: m}
	defer t.end()
	msg := officialMessage(m.Job)
	unconfirmed := 0
	for i, more := 0, true; more; i++ {
		if m.Props {
			msg.MessageId = ids[i%len(ids)]
		}
		for ; unconfirmed > 0 && (unconfirmed >= m.Window || len(confirms) > 0); unconfirmed-- {
			if _, ok := <-confirms; !ok {
				return official.ErrClosed
			}
		}
		if err := ch.PublishWithContext(ctx, "", m.Queue, false, false, msg); err != nil {
			return err
		}
		unconfirmed++
		more = t.more()
	}
	for ; unconfirmed > 0; unconfirmed-- {
		if _, ok := <-confirms; !ok {
			return official.ErrClosed
		}
	}
	m.stop()
	return nil
}

func officialWaiters(m *meter) error {
	ctx := context.Background()
	_, all, err := openOfficial(m.Job)
	if err != nil {
		return err
	}
	ch := all[0][0]
	if err := ch.Confirm(false); err != nil {
		return err
	}
	if err := m.start(); err != nil {
		return err
	}
	var group errgroup.Group
	for range m.Goroutines {
		group.Go(func() error {
			t := newTally(m)
			defer t.end()
			msg := officialMessage(m.Job)
			for more := true; more; more = t.more() {
				began := time.Now()
				confirm, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", m.Queue, false, false, msg)
				if err != nil {
					return err
				}
				if _, err := confirm.WaitContext(ctx); err != nil {
					return err
				}
				t.took(time.Since(began))
			}
			return nil
		})
	}
	err = group.Wait()
	m.stop()
	return err
}

// subscribe starts a consumer.
func subscribe(j *Job, ch *official.Channel, queue string) (<-chan official.Delivery, error) {
	if !j.NoAck {
		if err := ch.Qos(max(j.Prefetch, 0), 0, false); err != nil {
			return nil, err
		}
	}
	return ch.Consume(queue, "", j.NoAck, false, false, false, nil)
}

func officialConsume(m *meter) error {
	_, all, err := openOfficial(m.Job)
	if err != nil {
		return err
	}
	if err := m.start(); err != nil {
		return err
	}
	failed := make(chan error, m.Connections*m.Channels)
	for i, chs := range all {
		for _, ch := range chs {
			go func() {
				deliveries, err := subscribe(m.Job, ch, m.queue(i))
				if err == nil {
					err = officialLoop(m, deliveries)
				}
				failed <- err
			}()
		}
	}
	// The connections are left to the end of the process: closing one waits
	// for everything that the broker still sends.
	for {
		select {
		case <-m.done:
			m.stop()
			return nil
		case err := <-failed:
			if err != nil {
				return err
			}
		}
	}
}

func officialLoop(m *meter, deliveries <-chan official.Delivery) error {
	t := tally{m: m}
	defer t.end()
	held := make([]official.Delivery, m.Hold)
	at, n := 0, 0
	for d := range deliveries {
		n++
		spend(m.Work)
		if m.Hold > 0 {
			d, held[at] = held[at], d
			at = (at + 1) % m.Hold
		}
		if !m.NoAck && n > m.Hold {
			if err := d.Ack(false); err != nil {
				return err
			}
		}
		if !t.more() {
			return nil
		}
	}
	return official.ErrClosed
}

func officialLatency(m *meter) error {
	ctx := context.Background()
	m.Connections = 2
	_, all, err := openOfficial(m.Job)
	if err != nil {
		return err
	}
	out, in := all[0][0], all[1][0]
	deliveries, err := subscribe(m.Job, in, m.Queue)
	if err != nil {
		return err
	}
	if err := m.start(); err != nil {
		return err
	}
	var group errgroup.Group
	group.Go(func() error {
		msg := officialMessage(m.Job)
		return m.pace(func(now uint64) error {
			binary.BigEndian.PutUint64(msg.Body, now)
			return out.PublishWithContext(ctx, "", m.Queue, false, false, msg)
		})
	})
	group.Go(func() error {
		t := newTally(m)
		defer t.end()
		defer m.stop()
		for d := range deliveries {
			t.took(m.since(d.Body))
			if err := d.Ack(false); err != nil {
				return err
			}
			if !t.more() {
				return nil
			}
		}
		return official.ErrClosed
	})
	return group.Wait()
}

func officialConnections(m *meter) error {
	if err := m.start(); err != nil {
		return err
	}
	conns := make([]*official.Connection, m.Connections)
	for i := range conns {
		c, err := dialOfficial(m.Job)
		if err != nil {
			return err
		}
		conns[i] = c
	}
	m.total.Add(int64(m.Connections))
	m.stop()
	m.weigh()
	for _, c := range conns {
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}

// openAll opens the job's channels, in a row or from a goroutine each, and calls
// full when all are open.
func openAll(m *meter, then func(ch *official.Channel, i int) error, full func()) error {
	c, err := dialOfficial(m.Job)
	if err != nil {
		return err
	}
	if err := m.start(); err != nil {
		return err
	}
	var group errgroup.Group
	if !m.AtOnce {
		group.SetLimit(1)
	}
	for i := range m.Channels {
		group.Go(func() error {
			ch, err := c.Channel()
			if err != nil {
				return err
			}
			return then(ch, i)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	m.total.Add(int64(m.Channels))
	full()
	return c.Close()
}

func officialChannels(m *meter) error {
	return openAll(m, func(*official.Channel, int) error { return nil }, m.stop)
}

func officialRanges(m *meter) error {
	var ranging sync.WaitGroup
	ranging.Add(m.Channels)
	return openAll(m, func(ch *official.Channel, i int) error {
		deliveries, err := ch.Consume(m.Queue, "range-"+strconv.Itoa(i), false, false, false, false, nil)
		if err != nil {
			return err
		}
		go func() {
			ranging.Done()
			for range deliveries {
			}
		}()
		return nil
	}, func() {
		ranging.Wait()
		m.weigh()
		m.stop()
	})
}
