//go:build !race

package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// perThousand counts the allocations of a thousand calls: AllocsPerRun rounds down to whole ones.
func perThousand(f func()) float64 {
	return testing.AllocsPerRun(5, func() {
		for range 1000 {
			f()
		}
	})
}

func TestAllocations(t *testing.T) {
	full := fullProperties()
	full.Headers["strings"] = []string{"a", "b"}
	zero := Properties{}
	dst := make([]byte, 0, 4096)
	body := make([]byte, 16)
	headersFrame, err := AppendContentHeader(nil, 1, 16, &Properties{ContentType: "a/b", DeliveryMode: 2, MessageID: "m", Timestamp: full.Timestamp})
	require.NoError(t, err)
	deliver := AppendDeliver(nil, 1, "tag", 1, false, "exchange", "key")
	ack := AppendAck(nil, 1, 1, true)
	nack := AppendNack(nil, 1, 1, true, true)
	var d Deliver
	var p Properties
	shared := func([]byte) string { return "shared" }
	for name, f := range map[string]func(){
		"publish": func() {
			dst = AppendPublish(dst[:0], 1, "exchange", "key", true, false)
			dst, _ = AppendContentHeader(dst, 1, 16, &zero)
			dst = AppendBody(dst, 1, body, 4096)
		},
		"nil properties":       func() { dst, _ = AppendContentHeader(dst[:0], 1, 16, nil) },
		"full properties":      func() { dst, _ = AppendContentHeader(dst[:0], 1, 16, &full) },
		"with":                 func() { dst, _ = AppendContentHeaderWith(dst[:0], 1, 16, &full, "seq", 1) },
		"with nil":             func() { dst, _ = AppendContentHeaderWith(dst[:0], 1, 16, nil, "seq", 1) },
		"size":                 func() { _, _ = full.Size() },
		"table":                func() { dst, _ = AppendTable(dst[:0], full.Headers) },
		"deliver":              func() { dst = AppendDeliver(dst[:0], 1, "tag", 1, true, "exchange", "key") },
		"ack":                  func() { dst = AppendAck(dst[:0], 1, 1, true) },
		"nack":                 func() { dst = AppendNack(dst[:0], 1, 1, true, true) },
		"reject":               func() { dst = AppendReject(dst[:0], 1, 1, true) },
		"heartbeat":            func() { dst = AppendHeartbeat(dst[:0]) },
		"parse deliver":        func() { _ = ParseDeliver(deliver[FrameHeaderSize:len(deliver)-1], &d) },
		"parse ack":            func() { _, _, _ = ParseAck(ack[FrameHeaderSize : len(ack)-1]) },
		"parse nack":           func() { _, _, _, _ = ParseNack(nack[FrameHeaderSize : len(nack)-1]) },
		"decode properties":    func() { _ = p.Decode(headersFrame[FrameHeaderSize+12:len(headersFrame)-1], shared) },
		"parse content header": func() { _, _ = ParseContentHeader(headersFrame[FrameHeaderSize : len(headersFrame)-1]) },
	} {
		t.Run(name, func(t *testing.T) {
			require.Zero(t, perThousand(f))
		})
	}
}

func TestBodyGrowsTheBufferOnce(t *testing.T) {
	body := make([]byte, 1<<20)
	require.Equal(t, 1, int(testing.AllocsPerRun(10, func() { AppendBody(nil, 1, body, MinFrameMax) })))
}
