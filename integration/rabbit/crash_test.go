//go:build unix

package rabbit_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A node dies with the process that started it, even when that one is killed.
func TestNodeDiesWithItsProcess(t *testing.T) {
	t.Parallel()
	needPrivate(t)
	self, err := os.Executable()
	require.NoError(t, err)
	temp := t.TempDir()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), asVictim+"=1", "TMPDIR="+temp)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())

	var broker, port, epmd int
	_, err = fmt.Sscanf(line, `"%d" %d %d`, &broker, &port, &epmd)
	require.NoError(t, err, line)
	assert.Eventually(t, func() bool {
		return syscall.Kill(broker, 0) == syscall.ESRCH && refused(port) && refused(epmd)
	}, patience, 20*time.Millisecond)
	assert.Eventually(t, func() bool {
		left, err := os.ReadDir(temp)
		return err == nil && len(left) == 0
	}, patience, 20*time.Millisecond, "its files are removed")
}

func refused(port int) bool {
	conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err == nil {
		conn.Close()
	}
	return err != nil
}
