package amqp

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// nullPeer is a broker that costs nothing, for measuring the client: it answers
// the calls that open things, throws messages away, and repeats deliveries. It
// is the client's end of the connection itself, without a socket.
type nullPeer struct {
	mu      sync.Mutex
	changed *sync.Cond
	out     bytes.Buffer // for the client to read
	in      []byte       // a frame of the client's that is not whole
	hello   bool
	closed  bool
	readBy  time.Time

	mute      bool // confirms nothing
	deaf      bool // takes nothing
	confirm   bool
	published uint64
	// feed is what the consumer is sent: once, if more is nil.
	feed     []byte
	more     func() []byte // called when all has been read
	feeding  bool
	held     bool // what the consumer is sent waits
	settling int  // acks seen
}

func newNullPeer(feed []byte, more func() []byte) *nullPeer {
	p := &nullPeer{feed: feed, more: more}
	p.changed = sync.NewCond(&p.mu)
	return p
}

func (p *nullPeer) dial(context.Context, string, string) (net.Conn, error) { return p, nil }

func (p *nullPeer) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.out.Len() == 0 {
		switch {
		case p.closed:
			return 0, net.ErrClosed
		case !p.readBy.IsZero():
			return 0, os.ErrDeadlineExceeded
		case p.held:
		case p.feeding && p.more != nil:
			p.out.Write(p.more())
			continue
		case p.feeding && p.feed != nil:
			p.out.Write(p.feed)
			p.feed = nil
			continue
		case p.feeding:
			return 0, io.EOF
		}
		p.changed.Wait()
	}
	return p.out.Read(b)
}

func (p *nullPeer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.deaf && !p.closed {
		p.changed.Wait()
	}
	if p.closed {
		return 0, net.ErrClosed
	}
	rest := b
	if len(p.in) > 0 {
		p.in = append(p.in, b...)
		rest = p.in
	}
	if !p.hello && len(rest) >= len(wire.ProtocolHeader) {
		p.hello, rest = true, rest[len(wire.ProtocolHeader):]
		p.say(0, &wire.ConnectionStart{VersionMinor: 9, Mechanisms: "PLAIN", Locales: "en_US"})
	}
	before := p.published
	for len(rest) >= wire.FrameOverhead {
		h := wire.ParseFrameHeader(rest)
		end := wire.FrameHeaderSize + int(h.Size)
		if len(rest) <= end {
			break
		}
		if h.Type == wire.FrameMethod {
			p.take(h.Channel, rest[wire.FrameHeaderSize:end])
		}
		rest = rest[end+1:]
	}
	p.in = append(p.in[:0], rest...)
	if p.confirm && !p.mute && p.published > before {
		var ack [32]byte
		p.out.Write(wire.AppendAck(ack[:0], 1, p.published, true))
	}
	p.changed.Broadcast()
	return len(b), nil
}

func (p *nullPeer) take(channel uint16, payload []byte) {
	id, _ := wire.PeekMethodID(payload)
	switch id {
	case wire.BasicPublishID:
		p.published++
	case wire.BasicAckID:
		p.settling++
	case wire.ConnectionStartOkID:
		p.say(0, &wire.ConnectionTune{ChannelMax: 100, FrameMax: readerFrameMax})
	case wire.ConnectionOpenID:
		p.say(0, &wire.ConnectionOpenOk{})
	case wire.ConnectionCloseID:
		p.say(0, &wire.ConnectionCloseOk{})
	case wire.ChannelOpenID:
		p.say(channel, &wire.ChannelOpenOk{})
	case wire.ChannelCloseID:
		p.say(channel, &wire.ChannelCloseOk{})
	case wire.ChannelFlowID:
		p.say(channel, &wire.ChannelFlowOk{Active: true})
	case wire.ConfirmSelectID:
		p.confirm = true
		p.say(channel, &wire.ConfirmSelectOk{})
	case wire.BasicQosID:
		p.say(channel, &wire.BasicQosOk{})
	case wire.BasicConsumeID:
		p.say(channel, &wire.BasicConsumeOk{ConsumerTag: "c"})
		p.feeding = true
	case wire.BasicCancelID:
		p.feeding, p.more = false, nil
		p.say(channel, &wire.BasicCancelOk{ConsumerTag: "c"})
	}
}

// set changes what the peer does.
func (p *nullPeer) set(change func(*nullPeer)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
	p.changed.Broadcast()
}

func (p *nullPeer) say(channel uint16, m wire.Method) {
	b, err := wire.AppendMethod(nil, channel, m)
	if err != nil {
		panic(err)
	}
	p.out.Write(b)
}

func (p *nullPeer) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.changed.Broadcast()
	return nil
}

func (p *nullPeer) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readBy = t
	p.changed.Broadcast()
	return nil
}

func (p *nullPeer) SetDeadline(t time.Time) error  { return p.SetReadDeadline(t) }
func (*nullPeer) SetWriteDeadline(time.Time) error { return nil }
func (*nullPeer) LocalAddr() net.Addr              { return new(net.TCPAddr) }
func (*nullPeer) RemoteAddr() net.Addr             { return new(net.TCPAddr) }
