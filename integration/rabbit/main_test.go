package rabbit_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/leveret-mq/leveret/integration/rabbit"
)

// asVictim makes this program start a node and wait to be killed.
const asVictim = "RABBIT_TEST_VICTIM"

func TestMain(m *testing.M) {
	if os.Getenv(asVictim) != "" {
		victim()
	}
	goleak.VerifyTestMain(m)
}

func victim() {
	ids, err := startVictim()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(ids)
	select {}
}

// startVictim returns the broker's process id and the ports of the broker and
// of its epmd.
func startVictim() (string, error) {
	ctx := context.Background()
	node, err := rabbit.Start(ctx, rabbit.Options{})
	if err != nil {
		return "", err
	}
	pid, err := node.Ctl(ctx, "eval", "os:getpid().")
	return fmt.Sprint(pid, " ", node.AMQPPort(), " ", node.EpmdPort()), err
}
