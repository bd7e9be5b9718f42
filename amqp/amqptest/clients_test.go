package amqptest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// required fails instead of skipping when AMQP_REQUIRED=1 says that everything has to be there.
func required(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("AMQP_REQUIRED") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf("SKIPPED: "+format, args...)
}

// TestPika has an independent client, python3-pika, speak with the broker.
func TestPika(t *testing.T) {
	python := ""
	for _, candidate := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(candidate, "-c", "import pika").Run() == nil {
			python = candidate
			break
		}
	}
	if python == "" {
		required(t, "no Python with pika here; on Debian: apt-get install python3-pika")
	}
	b := NewBroker()
	defer b.Close()
	out, err := exec.CommandContext(t.Context(), python, "testdata/pika_client.py", b.URI()).CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Equal(t, "pika is content", strings.TrimSpace(string(out)))
}

// TestAMQPTools has another one, rabbitmq-c by way of amqp-tools.
func TestAMQPTools(t *testing.T) {
	for _, tool := range []string{"amqp-declare-queue", "amqp-publish", "amqp-get", "amqp-consume", "amqp-delete-queue"} {
		if _, err := exec.LookPath(tool); err != nil {
			required(t, "no %s here; on Debian: apt-get install amqp-tools", tool)
		}
	}
	b := NewBroker()
	defer b.Close()
	run := func(tool string, args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), tool, append([]string{"--url=" + b.URI()}, args...)...).CombinedOutput()
		require.NoError(t, err, "%s %v: %s", tool, args, out)
		return strings.TrimSpace(string(out))
	}
	assert.Equal(t, "tools", run("amqp-declare-queue", "--queue=tools", "--durable"))
	for _, body := range []string{"one", "two", "three"} {
		run("amqp-publish", "--routing-key=tools", "--persistent", "--content-type=text/plain", "--body="+body)
	}
	assert.Equal(t, "one", run("amqp-get", "--queue=tools"))
	assert.Equal(t, "twothree", run("amqp-consume", "--queue=tools", "--count=2", "--prefetch-count=1", "cat"))
	assert.Equal(t, "0", run("amqp-delete-queue", "--queue=tools"))
	published := b.Published()
	require.Len(t, published, 3)
	assert.Equal(t, "text/plain", published[0].Properties.ContentType)
	assert.Equal(t, uint8(2), published[0].Properties.DeliveryMode)
}
