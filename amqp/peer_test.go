package amqp_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// peer is the other side of one connection, played by a script: it expects
// methods and says bytes, right or wrong. It runs in a bubble of
// testing/synctest, so that all time-outs pass at once.
type peer struct {
	t      *testing.T
	conn   net.Conn
	frames chan sentFrame // what the client has sent
	start  wire.ConnectionStart
	tune   wire.ConnectionTune
	deaf   atomic.Bool   // the peer reads nothing after the next read
	hear   chan struct{} // has a deaf peer read on
	over   chan struct{} // closed when the connection's scope has ended
}

// sentFrame is a frame of the client's, decoded when it is a method.
type sentFrame struct {
	wire.FrameHeader
	payload []byte
	method  wire.Method
}

// against runs body on a connection whose other side is played by script. Once
// the script has returned, the peer answers politely whatever still comes. after
// runs when the connection has ended.
func against(t *testing.T, cfg amqp.Config, script func(*peer), body func(context.Context, *amqp.Conn) error, after ...func(context.Context)) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		guard := time.AfterFunc(24*time.Hour, func() {
			stacks := make([]byte, 1<<20)
			fmt.Fprintf(os.Stderr, "%s hangs:\n%s\n", t.Name(), stacks[:runtime.Stack(stacks, true)])
			panic("the test hangs")
		})
		defer guard.Stop()
		near, far := net.Pipe()
		p := &peer{t: t, conn: far, frames: make(chan sentFrame, 1<<16), hear: make(chan struct{}), over: make(chan struct{})}
		p.start = wire.ConnectionStart{
			VersionMinor: 9, Mechanisms: "PLAIN AMQPLAIN", Locales: "en_US",
			ServerProperties: amqp.Table{"product": "script", "capabilities": amqp.Table{}},
		}
		p.tune = wire.ConnectionTune{ChannelMax: 100, FrameMax: 8192}
		cfg.Dial = func(context.Context, string, string) (net.Conn, error) { return near, nil }
		ended := make(chan struct{}, 2)
		go func() {
			defer func() { ended <- struct{}{} }()
			p.receive()
		}()
		go func() {
			defer func() { ended <- struct{}{} }()
			script(p)
			p.rest()
		}()
		err = amqp.WithConnection(t.Context(), cfg, func(c *amqp.Conn) error { return body(t.Context(), c) })
		for _, do := range after {
			do(t.Context())
		}
		close(p.over)
		_, gone := near.Write([]byte{0})
		assert.ErrorIs(t, gone, io.ErrClosedPipe, "the socket is closed")
		<-ended
		<-ended
	})
	return err
}

// receive cuts what the client sends into frames, and fails the test when that
// is not possible.
func (p *peer) receive() {
	defer close(p.frames)
	var b []byte
	buf := make([]byte, 64<<10)
	for header := true; ; {
		n, err := p.conn.Read(buf)
		b = append(b, buf[:n]...)
		if p.deaf.Load() {
			select {
			case <-p.hear:
			case <-p.over:
			}
		}
		if header && len(b) >= len(wire.ProtocolHeader) {
			assert.Equal(p.t, wire.ProtocolHeader[:], b[:len(wire.ProtocolHeader)])
			header, b = false, b[len(wire.ProtocolHeader):]
			p.frames <- sentFrame{}
		}
		for !header && len(b) >= wire.FrameOverhead {
			f := sentFrame{FrameHeader: wire.ParseFrameHeader(b)}
			end := wire.FrameHeaderSize + int(f.Size)
			if len(b) <= end {
				break
			}
			assert.Equal(p.t, wire.FrameEnd, b[end])
			f.payload = slices.Clone(b[wire.FrameHeaderSize:end])
			if f.Type == wire.FrameMethod {
				m, err := wire.DecodeMethod(f.payload)
				assert.NoError(p.t, err)
				f.method = m
			}
			b = b[end+1:]
			p.frames <- f
		}
		if err != nil {
			return
		}
	}
}

// fail ends the script.
func (p *peer) fail(format string, args ...any) {
	p.t.Helper()
	p.t.Errorf(format, args...)
	_ = p.conn.Close()
	runtime.Goexit()
}

// next is the client's next frame, heartbeats apart.
func (p *peer) next() sentFrame {
	p.t.Helper()
	for f := range p.frames {
		if f.Type != wire.FrameHeartbeat {
			return f
		}
	}
	p.fail("the client has hung up")
	panic("unreachable")
}

// expect takes the client's next frame, which has to be the method M.
func expect[M wire.Method](p *peer, channel uint16) M {
	p.t.Helper()
	f := p.next()
	m, ok := f.method.(M)
	if !ok || f.Channel != channel {
		p.fail("the client sent %T on channel %d (frame type %d), and not %v on %d", f.method, f.Channel, f.Type, reflect.TypeFor[M](), channel)
	}
	return m
}

// say sends methods.
func (p *peer) say(channel uint16, methods ...wire.Method) {
	p.t.Helper()
	var b []byte
	for _, m := range methods {
		var err error
		if b, err = wire.AppendMethod(b, channel, m); err != nil {
			p.fail("%v", err)
		}
	}
	p.raw(b)
}

// raw sends bytes, unless the client has hung up.
func (p *peer) raw(b []byte) { _, _ = p.conn.Write(b) }

// message sends a delivery to the consumer.
func (p *peer) message(channel uint16, consumer string, tag uint64, body string) {
	p.raw(message(channel, consumer, tag, body))
}

func message(channel uint16, consumer string, tag uint64, body string) []byte {
	b := wire.AppendDeliver(nil, channel, consumer, tag, false, "exchange", "key")
	b, _ = wire.AppendContentHeader(b, channel, uint64(len(body)), nil)
	return wire.AppendBody(b, channel, []byte(body), 4096)
}

// greet goes through the handshake.
func (p *peer) greet() {
	p.t.Helper()
	p.next() // the protocol header
	p.say(0, &p.start)
	expect[*wire.ConnectionStartOk](p, 0)
	p.say(0, &p.tune)
	expect[*wire.ConnectionTuneOk](p, 0)
	expect[*wire.ConnectionOpen](p, 0)
	p.say(0, &wire.ConnectionOpenOk{})
}

// channel goes on to where channel 1 is open.
func (p *peer) channel() {
	p.t.Helper()
	p.greet()
	expect[*wire.ChannelOpen](p, 1)
	p.say(1, &wire.ChannelOpenOk{})
}

// consumer goes on to where channel 1 has a consumer, and returns its tag.
func (p *peer) consumer() string {
	p.t.Helper()
	p.channel()
	f := p.next()
	if _, ok := f.method.(*wire.BasicQos); ok {
		p.say(1, &wire.BasicQosOk{})
		f = p.next()
	}
	m, ok := f.method.(*wire.BasicConsume)
	if !ok {
		p.fail("the client sent %T, and not basic.consume", f.method)
	}
	p.say(1, &wire.BasicConsumeOk{ConsumerTag: m.ConsumerTag})
	return m.ConsumerTag
}

// content takes a published message, and returns its body.
func (p *peer) content(channel uint16) (m *wire.BasicPublish, body string) {
	p.t.Helper()
	m = expect[*wire.BasicPublish](p, channel)
	f := p.next()
	h, err := wire.ParseContentHeader(f.payload)
	if f.Type != wire.FrameContentHeader || f.Channel != channel || err != nil {
		p.fail("no content header: %+v, %v", f, err)
	}
	for uint64(len(body)) < h.BodySize {
		if f = p.next(); f.Type != wire.FrameBody || f.Channel != channel {
			p.fail("no body frame: %+v", f)
		}
		body += string(f.payload)
	}
	return m, body
}

// rest answers politely until the client hangs up.
func (p *peer) rest() {
	for f := range p.frames {
		switch m := f.method.(type) {
		case *wire.ChannelOpen:
			p.say(f.Channel, &wire.ChannelOpenOk{})
		case *wire.ChannelClose:
			p.say(f.Channel, &wire.ChannelCloseOk{})
		case *wire.ConnectionClose:
			p.say(0, &wire.ConnectionCloseOk{})
		case *wire.BasicCancel:
			if !m.NoWait {
				p.say(f.Channel, &wire.BasicCancelOk{ConsumerTag: m.ConsumerTag})
			}
		case *wire.ChannelFlow:
			p.say(f.Channel, &wire.ChannelFlowOk{Active: m.Active})
		case *wire.TxCommit:
			p.say(f.Channel, &wire.TxCommitOk{})
		case *wire.TxRollback:
			p.say(f.Channel, &wire.TxRollbackOk{})
		}
	}
	_ = p.conn.Close()
}

// inChannel is a body that does its work in a channel.
func inChannel(work func(context.Context, *amqp.Channel) error) func(context.Context, *amqp.Conn) error {
	return func(ctx context.Context, c *amqp.Conn) error {
		return c.WithChannel(ctx, func(ch *amqp.Channel) error { return work(ctx, ch) })
	}
}

// idle is a body that waits for the connection's end.
func idle(_ context.Context, c *amqp.Conn) error {
	<-c.Context().Done()
	return nil
}

// The harness itself: the script expects what the client sends and answers what
// it likes, the body is an ordinary program, and what WithConnection returned
// comes back.
func TestScriptedPeer(t *testing.T) {
	var status amqp.QueueStatus
	err := against(t, amqp.Config{Login: "me", Password: "secret", ConnectionName: "test"}, func(p *peer) {
		p.next() // the protocol header
		p.say(0, &p.start)
		login := expect[*wire.ConnectionStartOk](p, 0)
		assert.Equal(t, "PLAIN", login.Mechanism)
		assert.Equal(t, "\x00me\x00secret", string(login.Response))
		assert.Equal(t, "test", login.ClientProperties["connection_name"])
		p.say(0, &wire.ConnectionTune{ChannelMax: 7, FrameMax: 8192, Heartbeat: 20})
		tuned := expect[*wire.ConnectionTuneOk](p, 0)
		assert.Equal(t, &wire.ConnectionTuneOk{ChannelMax: 7, FrameMax: 8192, Heartbeat: 20}, tuned)
		assert.Equal(t, "/", expect[*wire.ConnectionOpen](p, 0).VirtualHost)
		p.say(0, &wire.ConnectionOpenOk{})

		expect[*wire.ChannelOpen](p, 1)
		p.say(1, &wire.ChannelOpenOk{})
		q := expect[*wire.QueueDeclare](p, 1)
		p.say(1, &wire.QueueDeclareOk{Queue: q.Queue, MessageCount: 3, ConsumerCount: 2})
		expect[*wire.ChannelClose](p, 1)
		p.say(1, &wire.ChannelCloseOk{})
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) (err error) {
		status, err = ch.QueueDeclare(ctx, amqp.Queue{Name: "q"})
		return err
	}))
	require.NoError(t, err)
	assert.Equal(t, amqp.QueueStatus{Name: "q", Messages: 3, Consumers: 2}, status)
}

// says checks that err wraps all targets and contains all texts.
func says(t *testing.T, err error, targets []error, texts ...string) {
	t.Helper()
	require.Error(t, err)
	for _, target := range targets {
		require.ErrorIs(t, err, target)
	}
	for _, text := range texts {
		require.ErrorContains(t, err, text)
	}
}
