package examples_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The result as JSON accounts for every message.
func TestPerfWritesItsResult(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "result.json")
	said := start(t, "", "perf", "-duration", "1200ms", "-rate", "500", "-queues", "2", "-producers", "2", "-consumers", "2",
		"-kind", "quorum", "-persistent", "-confirm", "100", "-json", file).ends()
	assert.Regexp(t, `\d s   published +\d+/s   received +\d+/s   latency \S+/\S+/\S+/\S+   confirmed +\d+/s`, said, "a line each second")
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	var result struct {
		Seconds                                float64
		Published, Confirmed, Failed, Received int
		Latency                                struct{ Min, P50, P99, Max float64 } `json:"latency_us"`
		Confirm                                struct{ P99 float64 }                `json:"confirm_latency_us"`
		Samples                                []struct {
			Published float64 `json:"published_per_second"`
		}
	}
	require.NoError(t, json.Unmarshal(data, &result))
	assert.NotZero(t, result.Published)
	assert.LessOrEqual(t, float64(result.Published), 2*(500*result.Seconds+1), "the rate")
	assert.Equal(t, result.Published, result.Confirmed)
	assert.Equal(t, result.Published, result.Received)
	assert.Zero(t, result.Failed)
	assert.Greater(t, result.Seconds, 1.19)
	assert.Positive(t, result.Latency.Min)
	assert.LessOrEqual(t, result.Latency.P50, result.Latency.P99)
	assert.LessOrEqual(t, result.Latency.P99, result.Latency.Max)
	assert.Positive(t, result.Confirm.P99)
	assert.NotEmpty(t, result.Samples)
	assert.Positive(t, result.Samples[0].Published)
}
