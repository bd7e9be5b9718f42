package amqptest

import (
	"slices"
	"strings"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// A stage is what the broker waits for on channel 0.
type stage uint8

const (
	awaitStartOk stage = iota
	awaitSecureOk
	awaitTuneOk
	awaitOpen
	running
)

func (s stage) String() string {
	return [...]string{"starting", "securing", "tuning", "opening", "running"}[s]
}

// start sends connection.start.
func (c *conn) start() {
	version := c.broker.cfg.version
	capabilities := wire.Table{
		"publisher_confirms": true, "exchange_exchange_bindings": true, "basic.nack": true, "consumer_cancel_notify": true,
		"connection.blocked": true, "consumer_priorities": true, "authentication_failure_close": true,
		"per_consumer_qos": true, "direct_reply_to": true,
	}
	c.send(0, &wire.ConnectionStart{
		VersionMajor: 0, VersionMinor: 9, Mechanisms: strings.Join(c.broker.cfg.mechanisms, " "), Locales: "en_US",
		ServerProperties: wire.Table{
			"product": "amqptest", "version": version.name, "platform": "Go", "capabilities": capabilities,
			"cluster_name": "amqptest", "information": "An in-process broker for tests. It imitates the RabbitMQ of this version.",
		},
	})
}

// control does what a method on channel 0 says.
func (c *conn) control(m wire.Method) {
	was := c.stage
	e := c.controlled(m)
	switch {
	case e == nil:
	case e.code == accessRefused: // a login that failed, which RabbitMQ blames on no method
		c.refuse(e)
	case was == running || was == awaitOpen:
		e.method = m.ID()
		c.refuse(e)
	default:
		c.hangUp(e)
	}
}

func (c *conn) controlled(m wire.Method) *exception {
	switch m.(type) {
	case *wire.ConnectionClose:
		c.release()
		c.send(0, &wire.ConnectionCloseOk{})
		c.finish()
		return nil
	case *wire.ConnectionCloseOk:
		if c.closing {
			c.finish()
		}
		return nil
	}
	if c.closing {
		return nil
	}
	switch m := m.(type) {
	case *wire.ConnectionStartOk:
		if c.stage == awaitStartOk {
			return c.startOk(m)
		}
	case *wire.ConnectionSecureOk:
		if c.stage == awaitSecureOk {
			if name, ok := c.secret(m.Response); ok {
				return c.loggedIn(name)
			}
			return c.loginFailed("RABBIT-CR-DEMO")
		}
	case *wire.ConnectionTuneOk:
		if c.stage == awaitTuneOk {
			return c.tuneOk(m)
		}
	case *wire.ConnectionOpen:
		if c.stage == awaitOpen {
			return c.opened(m)
		}
	case *wire.ConnectionUpdateSecret:
		if c.stage == running {
			c.lastSecret = string(m.NewSecret)
			c.send(0, &wire.ConnectionUpdateSecretOk{})
			return nil
		}
	}
	return fail(channelError, "unexpected method in connection state %s", c.stage)
}

func (c *conn) startOk(m *wire.ConnectionStartOk) *exception {
	c.clientProperties = m.ClientProperties
	if !slices.Contains(c.broker.cfg.mechanisms, m.Mechanism) {
		return fail(commandInvalid, "unknown authentication mechanism '%s'", m.Mechanism)
	}
	return mechanisms[m.Mechanism](c, m.Response)
}

// loggedIn goes on to tuning with a user who has proved to be that.
func (c *conn) loggedIn(name string) *exception {
	c.user = c.broker.users[name]
	c.stage = awaitTuneOk
	cfg := &c.broker.cfg
	c.send(0, &wire.ConnectionTune{ChannelMax: cfg.channelMax, FrameMax: cfg.frameMax, Heartbeat: uint16(cfg.heartbeat / time.Second)})
	return nil
}

// loginFailed tells a client that understands it why, and hangs up on others.
func (c *conn) loginFailed(mechanism string) *exception {
	if c.capable("authentication_failure_close") {
		return fail(accessRefused, "Login was refused using authentication mechanism %s. For details see the broker logfile.", mechanism)
	}
	c.broker.logf("connection %s: login refused", c.name)
	c.finish()
	return nil
}

func (c *conn) tuneOk(m *wire.ConnectionTuneOk) *exception {
	cfg := &c.broker.cfg
	switch least := cfg.version.minFrameMax; {
	case m.FrameMax != 0 && m.FrameMax < least:
		return fail(notAllowed, "negotiated frame_max = %d is lower than the minimum allowed value (%d)", m.FrameMax, least)
	case cfg.frameMax != 0 && (m.FrameMax == 0 || m.FrameMax > cfg.frameMax):
		return fail(notAllowed, "negotiated frame_max = %d%s is higher than the maximum allowed value (%d)", m.FrameMax, noLimit(m.FrameMax), cfg.frameMax)
	case cfg.channelMax != 0 && (m.ChannelMax == 0 || m.ChannelMax > cfg.channelMax):
		return fail(notAllowed, "negotiated channel_max = %d%s is higher than the maximum allowed value (%d)", m.ChannelMax, noLimit(uint32(m.ChannelMax)), cfg.channelMax)
	}
	c.channelMax, c.frameMax = m.ChannelMax, m.FrameMax
	c.heartbeat = time.Duration(m.Heartbeat) * time.Second
	c.stage = awaitOpen
	if c.heartbeat > 0 {
		c.pulse.set(c.heartbeat / 2)
	}
	return nil
}

func noLimit(n uint32) string {
	if n == 0 {
		return " (no limit)"
	}
	return ""
}

func (c *conn) opened(m *wire.ConnectionOpen) *exception {
	v := c.broker.vhosts[m.VirtualHost]
	switch {
	case v == nil:
		return fail(notAllowed, "vhost %s not found", m.VirtualHost)
	case !c.user.mayEnter(m.VirtualHost):
		return fail(notAllowed, "access to vhost '%s' refused for user '%s'", m.VirtualHost, c.user.Name)
	}
	c.vhost, c.stage = v, running
	c.timeout.stop()
	c.send(0, &wire.ConnectionOpenOk{})
	return nil
}
