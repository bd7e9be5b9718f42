package writer

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what has to happen.
const patience = 20 * time.Second

// until waits for cond.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// within fails the test when fn does not return.
func within[T any](t testing.TB, what string, fn func() T) T {
	t.Helper()
	done := make(chan T, 1)
	go func() { done <- fn() }()
	select {
	case v := <-done:
		return v
	case <-time.After(patience):
		t.Fatalf("%s did not return", what)
		panic("unreachable")
	}
}

// gate is a destination whose writes wait until they are let through.
type gate struct {
	pass chan struct{} // lets one write through; closed: all

	mu     sync.Mutex
	got    bytes.Buffer
	writes int
	err    error
}

func newGate() *gate { return &gate{pass: make(chan struct{})} }

func (g *gate) Write(p []byte) (int, error) {
	<-g.pass
	g.mu.Lock()
	defer g.mu.Unlock()
	g.writes++
	if g.err != nil {
		return 0, g.err
	}
	return g.got.Write(p)
}

// open lets everything through from now on.
func (g *gate) open() { close(g.pass) }

func (g *gate) text() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.got.String()
}

// start runs the flusher, and returns what waits for its end.
func start(w *Writer) (wait func() error) {
	ended := make(chan error, 1)
	go func() { ended <- w.Run() }()
	return func() error { return <-ended }
}

func say(t testing.TB, w *Writer, text string) {
	t.Helper()
	buf, err := w.Begin()
	require.NoError(t, err)
	w.Commit(append(buf, text...))
}

// socketPair is two ends of a connection whose buffers are far smaller than
// those of TCP.
func socketPair(t testing.TB) (near, far *net.UnixConn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	c, err := net.Dial("unix", l.Addr().String())
	require.NoError(t, err)
	s, err := l.Accept()
	require.NoError(t, err)
	near, far = c.(*net.UnixConn), s.(*net.UnixConn)
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

// tcpPair is two ends of a connection over the loopback.
func tcpPair(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	near, err = net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	far, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

// stuff fills the socket's buffers until it takes no more, and returns how many
// bytes that were.
func stuff(c net.Conn) (n int) {
	chunk := make([]byte, 16<<10)
	var i inline
	i.init(c)
	for idle := 0; idle < 100; runtime.Gosched() {
		if took := i.try(chunk); took > 0 {
			n, idle = n+took, 0
		} else {
			idle++
		}
	}
	return n
}

func readAll(c io.Reader) []byte {
	b, _ := io.ReadAll(c)
	return b
}
