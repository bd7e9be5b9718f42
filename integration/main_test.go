package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/leveret-mq/leveret/integration/rabbit"
)

// plainNode and tlsNode are shared by the tests of this package; each starts
// when the first test needs it.
var (
	plainNode = &sharedNode{opts: rabbit.Options{Management: true}}
	tlsNode   = &sharedNode{opts: rabbit.Options{TLS: true}, private: true}
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(suite{m}) }

// suite is the tests and the nodes that they started.
type suite struct{ tests *testing.M }

func (s suite) Run() int {
	code := s.tests.Run()
	if err := errors.Join(plainNode.stop(), tlsNode.stop()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// sharedNode is a RabbitMQ for many tests.
type sharedNode struct {
	opts    rabbit.Options
	private bool // the broker of AMQP_URL will not do

	once sync.Once
	node *rabbit.Node
	err  error
}

// get skips or fails the test when there is no RabbitMQ.
func (s *sharedNode) get(t *testing.T) *rabbit.Node {
	t.Helper()
	rabbit.Need(t)
	if s.private && os.Getenv("AMQP_URL") != "" {
		t.Skip("SKIPPED: this needs a node of its own, and AMQP_URL names the broker to test with")
	}
	s.once.Do(func() {
		s.node, s.err = rabbit.Open(context.Background(), s.opts)
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.node
}

func (s *sharedNode) stop() error {
	if s.node == nil {
		return nil
	}
	return s.node.Stop(context.Background())
}
