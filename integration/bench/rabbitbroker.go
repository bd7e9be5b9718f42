//go:build unix

package main

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/leveret-mq/leveret/integration/rabbit"
)

// rabbitBroker is a private RabbitMQ, and a connection that keeps its queues.
type rabbitBroker struct {
	node  *rabbit.Node
	keep  *rawConn
	queue []string // declared now
}

// startRabbit returns nil and why when there is no RabbitMQ.
func startRabbit(ctx context.Context) (*rabbitBroker, string, error) {
	if reason, ok := rabbit.Available(); !ok {
		return nil, reason, nil
	}
	node, err := rabbit.Start(ctx, rabbit.Options{})
	if err != nil {
		return nil, "", err
	}
	b := &rabbitBroker{node: node}
	j := Job{Vhost: "/"}
	j.Addr = b.addr()
	if b.keep, err = dialRaw(&j, 0); err == nil {
		_, err = b.keep.call(append(appendMethod(nil, 1, channelOpen, ""), appendMethod(nil, 1, confirmSelect, uint8(0))...), confirmSelectOk)
	}
	if err != nil {
		b.stop()
		return nil, "", err
	}
	return b, "", nil
}

func (b *rabbitBroker) addr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(b.node.AMQPPort()))
}

func (b *rabbitBroker) stop() {
	if b.keep != nil {
		b.keep.nc.Close()
	}
	if err := b.node.Stop(context.Background()); err != nil {
		progress("stopping RabbitMQ: %v\n", err)
	}
}

// prepare declares the job's queues and puts messages into them. In all there
// are prefill, which is as many as the job takes then.
func (b *rabbitBroker) prepare(j *Job, prefill int) error {
	j.Addr, j.Vhost = b.addr(), "/"
	m := meter{Job: j}
	for i := range j.Connections {
		if prefill == 0 && i > 0 {
			break
		}
		queue := m.queue(i)
		declare := appendMethod(nil, 1, queueDeclare, uint16(0), queue, uint8(0), table(nil))
		if _, err := b.keep.call(declare, queueDeclareOk); err != nil {
			return err
		}
		b.queue = append(b.queue, queue)
		if err := b.fill(queue, j.Body, prefill/j.Connections); err != nil {
			return err
		}
	}
	if prefill > 0 {
		j.Messages = prefill
	}
	return nil
}

// fill publishes n messages in windows, and waits for the confirms of each.
func (b *rabbitBroker) fill(queue string, body, n int) error {
	const window = 1000
	for n > 0 {
		one := appendPublish(nil, 1, queue, rawProperties(false, 0), make([]byte, body))
		var block []byte
		for range min(n, window) {
			block = append(block, one...)
		}
		n -= min(n, window)
		if _, err := b.keep.nc.Write(block); err != nil {
			return err
		}
		for done := 0; done < min(len(block)/len(one), window); {
			f, err := b.keep.await(basicAck)
			if err != nil {
				return err
			}
			tag := confirmTag(f.payload)
			done += int(tag - b.keep.confirmed)
			b.keep.confirmed = tag
		}
	}
	return nil
}

// tidy deletes the queues.
func (b *rabbitBroker) tidy() error {
	for _, queue := range b.queue {
		if _, err := b.keep.call(appendMethod(nil, 1, queueDelete, uint16(0), queue, uint8(0)), queueDeleteOk); err != nil {
			return fmt.Errorf("deleting queue %q: %w", queue, err)
		}
	}
	b.queue = nil
	return nil
}
