//go:build unix

package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"

	"github.com/leveret-mq/leveret/integration/rabbit"
)

// nullAddrs are where a null broker listens.
type nullAddrs struct{ Plain, TLS string }

// serveNull is the null broker's process. It says where it listens, and ends
// when its standard input does, so that it can't outlive its parent.
func serveNull() error {
	signal.Ignore(os.Interrupt)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	certificates, err := rabbit.NewCertificates()
	if err != nil {
		return err
	}
	secret, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificates.Server}})
	if err != nil {
		return err
	}
	for _, l := range []net.Listener{plain, secret} {
		go accept(l)
	}
	addrs := nullAddrs{plain.Addr().String(), secret.Addr().String()}
	if err := json.NewEncoder(os.Stdout).Encode(addrs); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func accept(l net.Listener) {
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		go serveConn(nc)
	}
}

// nullBroker is the parent's view of the process.
type nullBroker struct {
	nullAddrs
	cmd   *exec.Cmd
	leash io.Closer
}

func startNull() (*nullBroker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b := &nullBroker{cmd: exec.Command(self, "-null-broker")}
	b.cmd.Stderr = os.Stderr
	if b.leash, err = b.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	if err := json.NewDecoder(out).Decode(&b.nullAddrs); err != nil {
		b.stop()
		return nil, fmt.Errorf("null broker: %w", err)
	}
	return b, nil
}

func (b *nullBroker) stop() {
	b.leash.Close()
	_ = b.cmd.Wait()
}
