package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGeneratedFileIsCurrent(t *testing.T) {
	want, err := generate(spec)
	require.NoError(t, err)
	got, err := os.ReadFile("../methods_gen.go")
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "run go generate in amqp/internal/wire")
}

func TestGoNames(t *testing.T) {
	for name, want := range map[string]string{
		"auto-delete": "AutoDelete", "class-id": "ClassID", "type": "Type", "get-ok": "GetOk", "": "",
	} {
		require.Equal(t, want, goName(name))
	}
}

func TestBitsThatStandTogetherShareAnOctet(t *testing.T) {
	classes, err := parse("class c 1\nm 2: a bit, b bit, n long, - bit, c bit // does it")
	require.NoError(t, err)
	fields := classes[0].methods[0].fields
	require.Equal(t, "s.n += 6\n", sizeCode(fields))
	require.Equal(t, "dst = append(dst, bit(m.A, 0)|bit(m.B, 1))\n"+
		"dst = binary.BigEndian.AppendUint32(dst, m.N)\n"+
		"dst = append(dst, bit(m.C, 1))\n", appendCode(fields))
}

func TestBadSpecsAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ spec, want string }{
		"class number":  {"class basic", `line 1: "basic" is no name and number`},
		"class range":   {"class basic 70000", "line 1: strconv"},
		"no class":      {"ack 80: // acks", "line 1: a method before the first class"},
		"no doc":        {"class c 1\nack 80: tag long", "line 2: no description"},
		"no colon":      {"class c 1\nack 80 // acks", "line 2: no colon"},
		"method number": {"class c 1\nack x: // acks", "line 2: strconv"},
		"type":          {"class c 1\n\n# a comment\nack 80: tag int // acks", `line 4: " tag int " is no field and type`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(c.spec)
			require.ErrorContains(t, err, c.want)
		})
	}
}
