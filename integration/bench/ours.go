//go:build unix

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/scope"
)

// ours is this library, used as its documentation says.
var ours = map[string]func(*meter) error{
	"publish":     ourPublish,
	"confirm":     ourConfirm,
	"waiters":     ourWaiters,
	"consume":     ourConsume,
	"latency":     ourLatency,
	"connections": ourConnections,
	"channels":    ourChannels,
	"ranges":      ourRanges,
}

func ourConfig(j *Job) (cfg amqp.Config, err error) {
	host, port, err := net.SplitHostPort(j.Addr)
	if err != nil {
		return cfg, err
	}
	cfg = amqp.Config{Host: host, VirtualHost: j.Vhost}
	if j.TLS {
		cfg.TLS = trusting()
	}
	cfg.Port, err = strconv.Atoi(port)
	return cfg, err
}

// withOurs opens the job's connections, and as many channels on each as it says.
func withOurs(ctx context.Context, j *Job, body func([]*amqp.Conn, [][]*amqp.Channel) error) error {
	cfg, err := ourConfig(j)
	if err != nil {
		return err
	}
	return withConns(ctx, cfg, j.Connections, nil, func(conns []*amqp.Conn) error {
		return withChannels(ctx, j, conns, nil, nil, func(all [][]*amqp.Channel) error { return body(conns, all) })
	})
}

func withConns(ctx context.Context, cfg amqp.Config, n int, open []*amqp.Conn, body func([]*amqp.Conn) error) error {
	if n == 0 {
		return body(open)
	}
	return amqp.WithConnection(ctx, cfg, func(c *amqp.Conn) error {
		return withConns(ctx, cfg, n-1, append(open, c), body)
	})
}

// withChannels goes one level down for each channel.
func withChannels(ctx context.Context, j *Job, conns []*amqp.Conn, all [][]*amqp.Channel, these []*amqp.Channel, body func([][]*amqp.Channel) error) error {
	if len(these) == j.Channels {
		all, these = append(all, these), nil
	}
	if len(all) == len(conns) {
		return body(all)
	}
	return conns[len(all)].WithChannel(ctx, func(ch *amqp.Channel) error {
		return withChannels(ctx, j, conns, all, append(these, ch), body)
	})
}

func ourPublish(m *meter) error {
	ctx := context.Background()
	return withOurs(ctx, m.Job, func(_ []*amqp.Conn, all [][]*amqp.Channel) error {
		if err := m.start(); err != nil {
			return err
		}
		err := scope.Run(ctx, func(s *scope.Scope) error {
			for _, chs := range all {
				for g := range m.Goroutines {
					s.Go(func(ctx context.Context) error { return ourStream(ctx, m, chs, g) })
				}
			}
			return nil
		})
		for _, chs := range all {
			if err == nil {
				_, err = chs[0].QueueDeclare(ctx, amqp.Queue{Name: m.Queue, Passive: true})
			}
		}
		m.stop()
		return err
	})
}

// ourStream publishes on every channel in turn that is this goroutine's.
func ourStream(ctx context.Context, m *meter, chs []*amqp.Channel, goroutine int) error {
	t := tally{m: m}
	defer t.end()
	msg := ourMessage(m.Job)
	at := goroutine
	for i := 0; ; i++ {
		if m.Props {
			msg.Properties.MessageID = ids[i%len(ids)]
		}
		if at >= len(chs) {
			at = goroutine % len(chs)
		}
		if err := chs[at].Publish(ctx, "", m.Queue, msg); err != nil {
			return err
		}
		at += m.Goroutines
		if !t.more() {
			return nil
		}
	}
}

func ourConfirm(m *meter) error {
	ctx := context.Background()
	return withOurs(ctx, m.Job, func(_ []*amqp.Conn, all [][]*amqp.Channel) error {
		opts := amqp.PublisherOptions{MaxInFlight: m.Window}
		return all[0][0].WithPublisher(ctx, opts, func(p *amqp.Publisher) error {
			if err := m.start(); err != nil {
				return err
			}
			t := tally{m: m}
			defer t.end()
			msg := ourMessage(m.Job)
			for i, more := 0, true; more; i++ {
				if m.Props {
					msg.Properties.MessageID = ids[i%len(ids)]
				}
				if _, err := p.Publish(ctx, "", m.Queue, msg); err != nil {
					return err
				}
				more = t.more()
			}
			err := p.Wait(ctx)
			m.stop()
			return err
		})
	})
}

func ourWaiters(m *meter) error {
	ctx := context.Background()
	return withOurs(ctx, m.Job, func(_ []*amqp.Conn, all [][]*amqp.Channel) error {
		ch := all[0][0]
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		if err := m.start(); err != nil {
			return err
		}
		err := scope.Run(ctx, func(s *scope.Scope) error {
			for range m.Goroutines {
				s.Go(func(ctx context.Context) error {
					t := newTally(m)
					defer t.end()
					msg := ourMessage(m.Job)
					for more := true; more; more = t.more() {
						began := time.Now()
						if err := ch.Publish(ctx, "", m.Queue, msg); err != nil {
							return err
						}
						t.took(time.Since(began))
					}
					return nil
				})
			}
			return nil
		})
		m.stop()
		return err
	})
}

func ourConsume(m *meter) error {
	ctx := context.Background()
	return withOurs(ctx, m.Job, func(conns []*amqp.Conn, all [][]*amqp.Channel) error {
		if err := m.start(); err != nil {
			return err
		}
		return scope.Run(ctx, func(s *scope.Scope) error {
			for i, chs := range all {
				for _, ch := range chs {
					s.Go(func(ctx context.Context) error {
						opts := amqp.Consume{Queue: m.queue(i), NoAck: m.NoAck, Prefetch: m.Prefetch}
						return ch.WithConsumer(ctx, opts, func(c *amqp.Consumer) error { return ourLoop(m, c) })
					})
				}
			}
			// A consumer whose queue is empty learns from this that it is over.
			select {
			case <-m.done:
				m.stop()
				s.Cancel(nil)
			case <-s.Context().Done():
			}
			return nil
		})
	})
}

// ourLoop handles what a consumer gets.
func ourLoop(m *meter, c *amqp.Consumer) error {
	t := tally{m: m}
	defer t.end()
	held := make([]*amqp.Envelope, m.Hold)
	at := 0
	for _, env := range c.Messages() {
		spend(m.Work)
		if m.Hold > 0 {
			env, held[at] = held[at], env
			at = (at + 1) % m.Hold
		}
		if !m.NoAck && env != nil {
			if err := env.Ack(); err != nil {
				return err
			}
		}
		if !t.more() {
			break
		}
	}
	if err := c.Err(); err != nil && !m.over.Load() {
		return err
	}
	return nil
}

func ourLatency(m *meter) error {
	ctx := context.Background()
	m.Connections = 2
	return withOurs(ctx, m.Job, func(_ []*amqp.Conn, all [][]*amqp.Channel) error {
		out, in := all[0][0], all[1][0]
		opts := amqp.Consume{Queue: m.Queue, NoAck: m.NoAck, Prefetch: m.Prefetch}
		return in.WithConsumer(ctx, opts, func(c *amqp.Consumer) error {
			if err := m.start(); err != nil {
				return err
			}
			c.Go(func(ctx context.Context) error {
				msg := ourMessage(m.Job)
				return m.pace(func(now uint64) error {
					binary.BigEndian.PutUint64(msg.Body, now)
					return out.Publish(ctx, "", m.Queue, msg)
				})
			})
			t := newTally(m)
			defer t.end()
			defer m.stop()
			for body, env := range c.Messages() {
				t.took(m.since(body))
				if err := env.Ack(); err != nil {
					return err
				}
				if !t.more() {
					break
				}
			}
			return nil
		})
	})
}

func ourConnections(m *meter) error {
	cfg, err := ourConfig(m.Job)
	if err != nil {
		return err
	}
	if err := m.start(); err != nil {
		return err
	}
	return withConns(context.Background(), cfg, m.Connections, nil, func([]*amqp.Conn) error {
		m.total.Add(int64(m.Connections))
		m.stop()
		m.weigh()
		return nil
	})
}

// ourChannels opens channels in a row, one inside the other, or at once, each in
// a task of its own.
func ourChannels(m *meter) error {
	if m.AtOnce {
		return ourTasks(m, func(_ context.Context, _ *amqp.Channel, opened func()) error {
			opened()
			<-m.done
			return nil
		}, m.stop)
	}
	ctx := context.Background()
	cfg, err := ourConfig(m.Job)
	if err != nil {
		return err
	}
	return amqp.WithConnection(ctx, cfg, func(c *amqp.Conn) error {
		if err := m.start(); err != nil {
			return err
		}
		return withChannels(ctx, m.Job, []*amqp.Conn{c}, nil, nil, func([][]*amqp.Channel) error {
			m.total.Add(int64(m.Channels))
			m.stop()
			return nil
		})
	})
}

// ourRanges weighs channels with a consumer and a range each.
func ourRanges(m *meter) error {
	return ourTasks(m, func(ctx context.Context, ch *amqp.Channel, opened func()) error {
		return ch.WithConsumer(ctx, amqp.Consume{Queue: m.Queue}, func(c *amqp.Consumer) error {
			opened()
			for range c.Messages() {
				return errors.New("a delivery came, and none was wanted")
			}
			return nil
		})
	}, func() { m.weigh(); m.stop() })
}

// ourTasks has a task with a channel for each of the job's, and calls full when
// all have opened theirs.
func ourTasks(m *meter, task func(context.Context, *amqp.Channel, func()) error, full func()) error {
	ctx := context.Background()
	cfg, err := ourConfig(m.Job)
	if err != nil {
		return err
	}
	return amqp.WithConnection(ctx, cfg, func(c *amqp.Conn) error {
		if err := m.start(); err != nil {
			return err
		}
		var all sync.WaitGroup
		all.Add(m.Channels)
		for range m.Channels {
			c.Go(func(ctx context.Context) error {
				return c.WithChannel(ctx, func(ch *amqp.Channel) error { return task(ctx, ch, all.Done) })
			})
		}
		all.Wait()
		m.total.Add(int64(m.Channels))
		full()
		c.Cancel(nil)
		return nil
	})
}
