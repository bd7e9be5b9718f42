//go:build unix

package main

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
)

// rawConn is a connection without a client: what the socket and the broker
// allow.
type rawConn struct {
	nc        net.Conn
	in        *frames
	confirmed uint64 // the last tag seen, for who counts
}

// trusting is the TLS configuration of all clients: verifying is part of no
// mode, and the null broker's certificate is its own.
func trusting() *tls.Config { return &tls.Config{InsecureSkipVerify: true} } // #nosec G402 -- of its own broker

// usualHeartbeat is RabbitMQ's proposal, in seconds. It has two processes more for
// a connection with heartbeats, which takes it a tenth longer to open: so the floor
// wants them as the clients do, although nothing here would send any.
const usualHeartbeat = 60

// dialRaw opens a connection, with heartbeats if that is not 0.
func dialRaw(j *Job, heartbeat uint16) (*rawConn, error) {
	nc, err := net.Dial("tcp", j.Addr)
	if err != nil {
		return nil, err
	}
	if j.TLS {
		nc = tls.Client(nc, trusting())
	}
	c := &rawConn{nc: nc, in: newFrames(nc)}
	if err := c.handshake(j.Vhost, heartbeat); err != nil {
		nc.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	return c, nil
}

func (c *rawConn) handshake(vhost string, heartbeat uint16) error {
	if _, err := c.nc.Write(protocolHeader); err != nil {
		return err
	}
	if _, err := c.await(connectionStart); err != nil {
		return err
	}
	login := appendMethod(nil, 0, connectionStartOk, table(nil), "PLAIN", longString("\x00guest\x00guest"), "en_US")
	if _, err := c.call(login, connectionTune); err != nil {
		return err
	}
	tune := appendMethod(nil, 0, connectionTuneOk, uint16(2047), uint32(frameMax), heartbeat)
	_, err := c.call(appendMethod(tune, 0, connectionOpen, vhost, "", uint8(0)), connectionOpenOk)
	return err
}

// call writes and waits for an answer.
func (c *rawConn) call(out []byte, answer methodID) (frame, error) {
	if _, err := c.nc.Write(out); err != nil {
		return frame{}, err
	}
	return c.await(answer)
}

// await reads up to a method, past confirms and deliveries.
func (c *rawConn) await(id methodID) (frame, error) {
	for {
		f, err := c.in.next()
		if err != nil {
			return f, err
		}
		switch m := f.method(); m {
		case id:
			return f, nil
		case channelClose, connectionClose:
			return f, fmt.Errorf("the broker closes: %q", f.payload[4:])
		}
	}
}

// bye ends the connection in order, so that the broker is not at that while it
// serves the next client.
func (c *rawConn) bye() error {
	_, err := c.call(appendMethod(nil, 0, connectionClose, uint16(200), "", uint32(0)), connectionCloseOk)
	return errors.Join(err, c.nc.Close())
}

func (c *rawConn) open(channels int) error {
	for id := 1; id <= channels; id++ {
		if _, err := c.call(appendMethod(nil, uint16(id), channelOpen, ""), channelOpenOk); err != nil {
			return err
		}
	}
	return nil
}

func appendConsume(dst []byte, channel uint16, queue string, noAck bool) []byte {
	flags := uint8(0)
	if noAck {
		flags = 2
	}
	return appendMethod(dst, channel, basicConsume, uint16(0), queue, "raw", flags, table(nil))
}

func appendPassive(dst []byte, channel uint16, queue string) []byte {
	return appendMethod(dst, channel, queueDeclare, uint16(0), queue, uint8(1), table(nil))
}

func appendAck(dst []byte, channel uint16, tag uint64, multiple bool) []byte {
	flag := uint8(0)
	if multiple {
		flag = 1
	}
	return appendMethod(dst, channel, basicAck, tag, flag)
}

// deliveryTag finds the tag in a basic.deliver, confirmTag that in a basic.ack.
func deliveryTag(payload []byte) uint64 {
	return binary.BigEndian.Uint64(payload[5+int(payload[4]):])
}

func confirmTag(payload []byte) uint64 { return binary.BigEndian.Uint64(payload[4:]) }

// openRaw dials a job's connections and opens their channels.
func openRaw(j *Job) ([]*rawConn, error) {
	conns := make([]*rawConn, j.Connections)
	for i := range conns {
		c, err := dialRaw(j, usualHeartbeat)
		if err != nil {
			return nil, err
		}
		if err := c.open(j.Channels); err != nil {
			return nil, err
		}
		conns[i] = c
	}
	return conns, nil
}
