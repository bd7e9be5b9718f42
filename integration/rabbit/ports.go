package rabbit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
)

// ports are the TCP ports of a node, all on the loopback interface.
type ports struct{ amqp, tls, management, distribution, epmd int }

func (p *ports) all() []*int {
	return []*int{&p.amqp, &p.tls, &p.management, &p.distribution, &p.epmd}
}

// Ports are chosen from below those that systems give to who asks for any, 32768
// and up on Linux: programs that run beside a node ask for them all the time, also
// while it starts, or is down to be started again on its own. The first of them are
// for the tools, which listen as they run: by themselves all on this machine share
// eleven.
const (
	firstToolPort, lastToolPort = 10_000, 10_999
	firstPort, lastPort         = 11_000, 32_767
)

// freePorts finds ports that nobody listens on. They are released before the node
// binds them, so that another node can snatch one: Start then tries again.
func freePorts() (ports, error) {
	var p ports
	for _, port := range p.all() {
		l, err := listenSomewhere()
		if err != nil {
			return ports{}, err
		}
		defer l.Close() // held until all are known, so that they differ
		*port = l.Addr().(*net.TCPAddr).Port
	}
	return p, nil
}

func listenSomewhere() (l net.Listener, err error) {
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort+1) // #nosec G404 -- it is no secret
		if l, err = net.Listen("tcp", loopback(port)); err == nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("rabbit: no free port: %w", err)
}

// errPortTaken is why a start failed that may go well on other ports.
var errPortTaken = errors.New("another process has taken a port of the node's")

// blame says so in err, which is why a node did not start and is gone, if it is the
// reason.
func (p *ports) blame(err error) error {
	taken := strings.Contains(err.Error(), "eaddrinuse")
	for _, port := range p.all() {
		l, busy := net.Listen("tcp", loopback(*port))
		if busy != nil {
			taken = true
			continue
		}
		l.Close()
	}
	if taken {
		return fmt.Errorf("rabbit: %w: %w", errPortTaken, err)
	}
	return err
}

// onFreePorts calls start, and again while that fails since another process has
// taken a port between its choice and its use.
func onFreePorts[T any](start func() (T, error)) (T, error) {
	for attempt := 1; ; attempt++ {
		started, err := start()
		if attempt == 3 || !errors.Is(err, errPortTaken) {
			return started, err
		}
	}
}
