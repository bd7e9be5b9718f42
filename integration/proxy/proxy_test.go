package proxy_test

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/leveret-mq/leveret/integration/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const header = "AMQP\x00\x00\x09\x01"

// echo answers every connection with what it gets, and keeps how each ended.
type echo struct {
	net.Listener
	ends    chan error
	running sync.WaitGroup
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	e := &echo{Listener: l, ends: make(chan error, 100)}
	e.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			e.running.Go(func() {
				defer conn.Close()
				_, err := io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn})
				e.ends <- err
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		e.running.Wait()
	})
	return e
}

// through starts a proxy before an echo, and dials it.
func through(t *testing.T) (*proxy.Proxy, net.Conn, *echo) {
	t.Helper()
	e := newEcho(t)
	p, err := proxy.Start(e.Addr().String())
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p, dial(t, p), e
}

func dial(t *testing.T, p *proxy.Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	return conn
}

// requireRefused dials and finds the connection reset, by the time that it is
// established or soon after.
func requireRefused(t *testing.T, p *proxy.Proxy) {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err == nil {
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

// frame is a frame with a payload; method is that of a method frame.
func frame(kind byte, channel uint16, payload string) string {
	b := []byte{kind}
	b = binary.BigEndian.AppendUint16(b, channel)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return string(b) + payload + "\xce"
}

func method(class, method uint16) string {
	return frame(proxy.Method, 1, string([]byte{byte(class >> 8), byte(class), byte(method >> 8), byte(method)}))
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text)
	require.NoError(t, err)
}

func expect(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	_, err := io.ReadFull(conn, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}

func TestPassesFramesAndEnds(t *testing.T) {
	p, conn, e := through(t)
	text := header + method(10, 11) + frame(proxy.ContentBody, 7, string(make([]byte, 300_000))) + frame(proxy.Heartbeat, 0, "")
	var sent sync.WaitGroup
	sent.Go(func() { _, _ = io.WriteString(conn, text) })
	expect(t, conn, text)
	sent.Wait()
	assert.Equal(t, 1, p.Connections())
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	_, err := conn.Read(make([]byte, 1))
	assert.Equal(t, io.EOF, err)
	assert.NoError(t, <-e.ends)
}

func TestPassesWhatIsNoFrame(t *testing.T) {
	p, conn, _ := through(t)
	p.OnFrame(func(proxy.Frame) proxy.Verdict { return proxy.Drop })
	for _, text := range []string{"\x16\x03\x01 a TLS record", "and then more"} {
		send(t, conn, text)
		expect(t, conn, text)
	}
}

func TestHookSeesEachFrame(t *testing.T) {
	p, conn, _ := through(t)
	seen := make(chan proxy.Frame, 100)
	p.OnFrame(func(f proxy.Frame) proxy.Verdict {
		if f.Direction == proxy.ToServer {
			seen <- f
		}
		return proxy.Pass
	})
	body := frame(proxy.ContentBody, 258, "body")
	send(t, conn, header+method(60, 80)+body)
	expect(t, conn, header+method(60, 80)+body)
	first, second, third := <-seen, <-seen, <-seen
	assert.Equal(t, byte(proxy.ProtocolHeader), first.Type)
	assert.Equal(t, header, string(first.Raw))
	assert.True(t, second.Is(60, 80))
	assert.False(t, second.Is(60, 40))
	assert.Equal(t, proxy.Frame{Connection: 1, Direction: proxy.ToServer, Type: proxy.ContentBody, Channel: 258, Raw: []byte(body)}, third)
	assert.False(t, third.Is(0, 0))
}

func TestVerdicts(t *testing.T) {
	judged := method(60, 80)
	for name, c := range map[string]struct {
		verdict proxy.Verdict
		arrives string // of the judged frame and one behind it
		reset   bool
	}{
		"Pass":      {proxy.Pass, judged + method(20, 10), false},
		"Drop":      {proxy.Drop, method(20, 10), false},
		"Reset":     {proxy.Reset, "", true},
		"PassReset": {proxy.PassReset, judged, true},
		"Half":      {proxy.Half, judged[:len(judged)/2], true},
	} {
		t.Run(name, func(t *testing.T) {
			p, conn, e := through(t)
			p.OnFrame(func(f proxy.Frame) proxy.Verdict {
				if f.Direction == proxy.ToClient && f.Is(60, 80) {
					return c.verdict
				}
				return proxy.Pass
			})
			send(t, conn, header+judged+method(20, 10))
			expect(t, conn, header+c.arrives)
			if c.reset {
				_, err := conn.Read(make([]byte, 1))
				require.ErrorIs(t, err, syscall.ECONNRESET)
				require.Error(t, <-e.ends, "the server is reset too")
			}
		})
	}
}

func TestDelayIsLatency(t *testing.T) {
	p, conn, _ := through(t)
	const latency, frames = 100 * time.Millisecond, 200
	p.Delay(proxy.ToClient, latency)
	begin := time.Now()
	for range frames {
		send(t, conn, method(10, 10))
	}
	for range frames {
		expect(t, conn, method(10, 10))
	}
	assert.GreaterOrEqual(t, time.Since(begin), latency)
	assert.Less(t, time.Since(begin), frames*latency, "the delay of one frame does not wait for that of the one before")
}

func TestChunkAndBandwidth(t *testing.T) {
	p, conn, _ := through(t)
	p.Chunk(proxy.ToServer, 5)
	p.Bandwidth(proxy.ToClient, 100) // at which the whole takes a minute
	text := frame(proxy.ContentBody, 1, string(make([]byte, 5992)))
	begin := time.Now()
	send(t, conn, text)
	first := make([]byte, len(text))
	n, err := io.ReadAtLeast(conn, first, 15)
	require.NoError(t, err)
	assert.Less(t, n, len(text), "it comes in pieces")
	assert.GreaterOrEqual(t, time.Since(begin), 100*time.Millisecond, "ten bytes, and as many behind them")
	p.Bandwidth(proxy.ToClient, 0)
	expect(t, conn, text[n:])
}

func TestBlackHoleSwallowsWholeFrames(t *testing.T) {
	p, conn, e := through(t)
	other := dial(t, p)
	for _, c := range []net.Conn{conn, other} {
		send(t, c, method(10, 10))
		expect(t, c, method(10, 10))
	}
	p.OnFrame(func(f proxy.Frame) proxy.Verdict {
		if f.Direction == proxy.ToServer && f.Is(10, 1) {
			p.BlackHole(proxy.ToClient, true)
		}
		return proxy.Pass
	})
	send(t, conn, method(10, 1)+method(10, 2))
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	got, err := io.ReadAll(conn) // to the end, which comes behind all that the server said
	require.NoError(t, err)
	require.Empty(t, got)
	require.NoError(t, <-e.ends)
	p.BlackHole(proxy.ToClient, false)
	send(t, other, method(10, 3)) // it has stayed open
	expect(t, other, method(10, 3))
}

func TestHoldFillsTheWindow(t *testing.T) {
	p, conn, _ := through(t)
	send(t, conn, method(10, 1))
	expect(t, conn, method(10, 1))
	p.Hold(proxy.ToServer, true)
	p.Hold(proxy.ToServer, true) // twice is as once
	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(500*time.Millisecond)))
	_, err := io.WriteString(conn, strings.Repeat(frame(proxy.ContentBody, 1, string(make([]byte, 64<<10))), 512))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	p.ResetAll() // reaches a held connection, too
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err)

	p.Hold(proxy.ToServer, false)
	again := dial(t, p)
	p.Hold(proxy.ToServer, true)
	send(t, again, method(10, 2))
	p.Hold(proxy.ToServer, false)
	expect(t, again, method(10, 2))
}

func TestResetAllAndRefuse(t *testing.T) {
	p, conn, e := through(t)
	other := dial(t, p)
	for _, c := range []net.Conn{conn, other} {
		send(t, c, header)
		expect(t, c, header)
	}
	p.Refuse(true)
	requireRefused(t, p)
	p.ResetAll()
	for _, c := range []net.Conn{conn, other} {
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
	for range 2 {
		require.Error(t, <-e.ends)
	}
	p.Refuse(false)
	third := dial(t, p)
	send(t, third, header)
	expect(t, third, header)
}

func TestUnreachableTargetResets(t *testing.T) {
	e := newEcho(t)
	client, err := net.Dial("tcp", e.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	// Nothing listens on a client's port, nor can as long as its connection is open.
	p, err := proxy.Start(client.LocalAddr().String())
	require.NoError(t, err)
	defer p.Close()
	requireRefused(t, p)
	assert.Zero(t, p.Connections())
}

// Everything at once: the race detector and goleak are the judges.
func TestManyConnectionsUnderChange(t *testing.T) {
	p, _, _ := through(t)
	seen := make(chan struct{})
	var frames atomic.Int64
	count := func(proxy.Frame) proxy.Verdict {
		if frames.Add(1) == 1 {
			close(seen)
		}
		return proxy.Pass
	}
	p.OnFrame(count)
	var all sync.WaitGroup
	for i := range 16 {
		conn := dial(t, p)
		all.Go(func() {
			for range 100 {
				if _, err := io.WriteString(conn, method(60, 40)); err != nil {
					return
				}
				if _, err := io.ReadFull(conn, make([]byte, len(method(60, 40)))); err != nil {
					return
				}
			}
		})
		all.Go(func() {
			p.OnFrame(count)
			p.Delay(proxy.ToClient, time.Duration(i)*10*time.Microsecond)
			p.Chunk(proxy.ToServer, i)
			p.Connections()
			if i == 15 {
				<-seen
				p.ResetAll()
			}
		})
	}
	all.Wait()
}
