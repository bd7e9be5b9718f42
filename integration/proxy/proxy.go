package proxy

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// Proxy passes connections on to one target. All its methods may be called at
// any time from any goroutine, and hold for the connections that are open.
type Proxy struct {
	target   string
	listener net.Listener
	running  sync.WaitGroup

	hooking sync.Mutex // held while the hook runs, taken before mu
	mu      sync.Mutex // guards what follows
	hook    func(Frame) Verdict
	ways    [2]way
	links   map[*link]struct{}
	count   int
	refuse  bool
	closed  bool
}

// way is what happens to all that goes in one direction.
type way struct {
	delay     time.Duration
	chunk     int
	bandwidth int
	blackHole bool
	held      chan struct{} // open while the way is held; nil: it isn't
}

// Start listens on a free port of the loopback interface and passes what comes
// there on to target, "host:port".
func Start(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{target: target, listener: l, links: map[*link]struct{}{}}
	p.running.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens, "127.0.0.1:port".
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Port is the port of Addr.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// Close resets every connection, stops listening, and returns when nothing of
// the proxy runs any more.
func (p *Proxy) Close() {
	p.set(func() { p.closed = true })
	p.listener.Close()
	p.ResetAll()
	p.running.Wait()
}

// OnFrame has hook decide on each frame from now on; nil passes all. Calls of
// the hook never overlap. It must not wait for the connection that it judges.
func (p *Proxy) OnFrame(hook func(Frame) Verdict) {
	p.set(func() { p.hook = hook })
}

// Delay holds everything that goes in direction d back for this long. It is a
// latency: what follows is on its way meanwhile.
func (p *Proxy) Delay(d Direction, latency time.Duration) {
	p.set(func() { p.ways[d].delay = latency })
}

// Chunk writes at most size bytes at a time; 0: frame by frame.
func (p *Proxy) Chunk(d Direction, size int) {
	p.set(func() { p.ways[d].chunk = size })
}

// Bandwidth lets so many bytes a second through; 0: as many as there are.
func (p *Proxy) Bandwidth(d Direction, bytesPerSecond int) {
	p.set(func() { p.ways[d].bandwidth = bytesPerSecond })
}

// BlackHole swallows everything while it is on, whole frames at a time, and the
// connections stay open.
func (p *Proxy) BlackHole(d Direction, on bool) {
	p.set(func() { p.ways[d].blackHole = on })
}

// Hold keeps everything back while it is on and reads no further, so that the
// sender's window fills. What was held goes on its way when it is off.
func (p *Proxy) Hold(d Direction, on bool) {
	p.set(func() {
		w := &p.ways[d]
		switch {
		case on && w.held == nil:
			w.held = make(chan struct{})
		case !on && w.held != nil:
			close(w.held)
			w.held = nil
		}
	})
}

// Refuse resets new connections while it is on. The open ones stay.
func (p *Proxy) Refuse(on bool) {
	p.set(func() { p.refuse = on })
}

// ResetAll resets all connections that are open, on both sides.
func (p *Proxy) ResetAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
}

// Connections is how many connections are open.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// conditions are those of direction d at this moment.
func (p *Proxy) conditions(d Direction) way {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ways[d]
}

// judge asks the hook about a frame.
func (p *Proxy) judge(f Frame) Verdict {
	p.hooking.Lock()
	defer p.hooking.Unlock()
	p.mu.Lock()
	hook := p.hook
	p.mu.Unlock()
	if hook == nil {
		return Pass
	}
	return hook(f)
}

// accept takes connections until the listener is closed.
func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(client.(*net.TCPConn)) })
	}
}

// serve passes one connection on until it is over.
func (p *Proxy) serve(client *net.TCPConn) {
	l := &link{proxy: p, ended: make(chan struct{}), client: client}
	server, err := net.DialTimeout("tcp", p.target, 10*time.Second)
	if err != nil {
		l.reset()
		return
	}
	l.server = server.(*net.TCPConn)
	if !p.admit(l) {
		l.reset()
		return
	}
	defer p.set(func() { delete(p.links, l) })
	l.run()
}

// admit counts a new connection in, unless there are to be none.
func (p *Proxy) admit(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse || p.closed {
		return false
	}
	p.count++
	l.number = p.count
	p.links[l] = struct{}{}
	return true
}
