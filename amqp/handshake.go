package amqp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"runtime"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// Tuning is what the peers agreed on.
type Tuning struct {
	ChannelMax uint16        // open channels at most
	FrameMax   uint32        // bytes in a frame at most
	Heartbeat  time.Duration // 0: none
}

// Version is the library's, as it is told to the broker.
const Version = "0.1.0"

const locale = "en_US"

// handshake goes from the protocol header to connection.open-ok, with the
// deadline that ctx has put on the connection.
func (c *Conn) handshake(ctx context.Context) error {
	c.in.max = handshakeFrameMax
	if _, err := c.nc.Write(wire.ProtocolHeader[:]); err != nil {
		return fmt.Errorf("sending the protocol header: %w", err)
	}
	start, err := expect[*wire.ConnectionStart](c, "waiting for connection.start")
	if err != nil {
		return err
	}
	if start.VersionMajor != 0 || start.VersionMinor != 9 {
		return protocolError("the broker speaks AMQP %d.%d, not 0.9.1", start.VersionMajor, start.VersionMinor)
	}
	c.serverProperties = start.ServerProperties
	c.acceptsCancelOk = capability(start.ServerProperties, "accept_consumer_cancel_ok")
	tune, err := c.login(ctx, start.Mechanisms)
	if err != nil {
		return err
	}
	tuned, err := c.tune(tune)
	if err != nil {
		return err
	}
	if err := c.reply(tuned, &wire.ConnectionOpen{VirtualHost: c.cfg.VirtualHost, Insist: c.cfg.Insist}); err != nil {
		return err
	}
	if _, err = expect[*wire.ConnectionOpenOk](c, fmt.Sprintf("opening the virtual host %q", c.cfg.VirtualHost)); errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the broker closed the connection without a word, perhaps because %q may not use the virtual host %q", err, c.cfg.Login, c.cfg.VirtualHost)
	}
	return err
}

// login proves who the client is, and returns what the broker proposes next.
func (c *Conn) login(ctx context.Context, offered string) (*wire.ConnectionTune, error) {
	mechanism, err := chooseMechanism(c.cfg.Auth, offered)
	if err != nil {
		return nil, err
	}
	name, password := c.cfg.Login, c.cfg.Password
	if c.cfg.Credentials != nil {
		if name, password, err = c.cfg.Credentials(ctx); err != nil {
			return nil, fmt.Errorf("Config.Credentials: %w", err)
		}
	}
	response, err := mechanism.Respond(name, password, nil)
	if err != nil {
		return nil, fmt.Errorf("login mechanism %s: %w", mechanism.Name(), err)
	}
	var answer wire.Method = &wire.ConnectionStartOk{
		ClientProperties: c.clientProperties(), Mechanism: mechanism.Name(), Response: response, Locale: locale,
	}
	what := fmt.Sprintf("logging in as %q by %s", name, mechanism.Name())
	// A login that goes back and forth for longer than this is not one.
	for range 16 {
		if err := c.reply(answer); err != nil {
			return nil, err
		}
		m, err := c.method(what)
		switch {
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("%w: the broker closed the connection without a word, so the login was probably refused", err)
		case err != nil:
			return nil, err
		}
		switch m := m.(type) {
		case *wire.ConnectionTune:
			return m, nil
		case *wire.ConnectionSecure:
			if response, err = mechanism.Respond(name, password, append([]byte{}, m.Challenge...)); err != nil {
				return nil, fmt.Errorf("login mechanism %s: %w", mechanism.Name(), err)
			}
			answer = &wire.ConnectionSecureOk{Response: response}
		default:
			return nil, protocolError("%s: the broker sent %v", what, m.ID())
		}
	}
	return nil, protocolError("%s: the broker asks on and on", what)
}

func (c *Conn) clientProperties() Table {
	t := Table{
		"product": "Leveret", "version": Version, "platform": "Go " + runtime.Version(),
		"information": "https://github.com/leveret-mq/leveret",
		"capabilities": Table{
			"publisher_confirms": true, "exchange_exchange_bindings": true, "basic.nack": true,
			"consumer_cancel_notify": true, "connection.blocked": true, "per_consumer_qos": true,
			"authentication_failure_close": true,
		},
	}
	maps.Copy(t, c.cfg.ClientProperties)
	if c.cfg.ConnectionName != "" {
		t["connection_name"] = c.cfg.ConnectionName
	}
	return t
}

// tune settles the limits: the smaller of both sides' wishes, 0 being none. A
// frame's size is an int, which has 32 bits on some machines.
func (c *Conn) tune(t *wire.ConnectionTune) (*wire.ConnectionTuneOk, error) {
	c.tuning = Tuning{
		ChannelMax: smaller(c.cfg.ChannelMax, t.ChannelMax),
		FrameMax:   min(smaller(c.cfg.FrameMax, t.FrameMax), math.MaxInt32),
		Heartbeat:  smaller(heartbeatSeconds(c.cfg.Heartbeat), time.Duration(t.Heartbeat)*time.Second),
	}
	if c.cfg.Heartbeat < 0 {
		c.tuning.Heartbeat = 0
	}
	if f := c.tuning.FrameMax; f != 0 && f < wire.MinFrameMax {
		return nil, protocolError("the broker allows frames of %d bytes, and AMQP wants %d at least", f, wire.MinFrameMax)
	}
	if c.tuning.ChannelMax == 0 {
		c.tuning.ChannelMax = 1<<16 - 1
	}
	c.in.max = c.maxPayload()
	c.tuning.FrameMax = c.in.max + wire.FrameOverhead // a message that comes back may need all of it
	return &wire.ConnectionTuneOk{
		ChannelMax: c.tuning.ChannelMax, FrameMax: c.tuning.FrameMax,
		Heartbeat: uint16(c.tuning.Heartbeat / time.Second),
	}, nil
}

// maxPayload bounds the frames that are received, also when none was agreed on,
// or one that nobody could hold: the whole frame's size is an int, of 32 bits on
// some machines.
func (c *Conn) maxPayload() uint32 {
	most := uint32(min(max(c.cfg.MaxMessageSize, handshakeFrameMax), math.MaxInt32-wire.FrameOverhead))
	if f := c.tuning.FrameMax; f != 0 {
		return min(f-wire.FrameOverhead, most)
	}
	return most
}

// heartbeatSeconds rounds up: the protocol counts in seconds.
func heartbeatSeconds(d time.Duration) time.Duration {
	return (max(d, 0) + time.Second - 1).Truncate(time.Second)
}

func smaller[T ~uint16 | ~uint32 | ~int64](a, b T) T {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func capability(server Table, name string) bool {
	all, _ := server["capabilities"].(Table)
	has, _ := all[name].(bool)
	return has
}

// reply sends methods of the handshake, in one piece.
func (c *Conn) reply(methods ...wire.Method) (err error) {
	var frames []byte
	for _, m := range methods {
		if frames, err = wire.AppendMethod(frames, 0, m); err != nil {
			return err
		}
	}
	if _, err := c.nc.Write(frames); err != nil {
		// The broker may have said why before it closed.
		if said := c.lastWord(); said != nil {
			return said
		}
		return fmt.Errorf("sending %v: %w", methods[0].ID(), err)
	}
	return nil
}

// lastWord looks for a connection.close in what has been received.
func (c *Conn) lastWord() error {
	_ = c.nc.SetReadDeadline(time.Now().Add(lastWordTimeout))
	var said *Error
	if _, err := c.method(""); errors.As(err, &said) {
		return said
	}
	return nil
}

// lastWordTimeout is how long a failed connection is searched for the broker's
// reason: it was sent before the failure, so it is here or next to here.
const lastWordTimeout = 500 * time.Millisecond

// expect reads the method M, and nothing else.
func expect[M wire.Method](c *Conn, what string) (m M, err error) {
	got, err := c.method(what)
	if err != nil {
		return m, err
	}
	m, ok := got.(M)
	if !ok {
		return m, protocolError("%s: the broker sent %v", what, got.ID())
	}
	return m, nil
}

// method reads the next method of the handshake.
func (c *Conn) method(what string) (wire.Method, error) {
	for {
		h, payload, err := c.in.next()
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", what, err)
		case h.Type == wire.FrameHeartbeat && h.Channel == 0:
			continue
		case h.Type != wire.FrameMethod || h.Channel != 0:
			return nil, protocolError("%s: the broker sent a frame of type %d on channel %d", what, h.Type, h.Channel)
		}
		m, err := wire.DecodeMethod(payload)
		if err != nil {
			return nil, protocolError("%s: %v", what, err)
		}
		if m, ok := m.(*wire.ConnectionClose); ok {
			frame, _ := wire.AppendMethod(nil, 0, &wire.ConnectionCloseOk{})
			_, _ = c.nc.Write(frame)
			return nil, fmt.Errorf("%s: %w", what, connectionError(m))
		}
		return m, nil
	}
}

func connectionError(m *wire.ConnectionClose) *Error {
	return &Error{Code: ReplyCode(m.ReplyCode), Text: m.ReplyText, ClassID: m.ClassID, MethodID: m.MethodID, Connection: true}
}
