//go:build unix

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// perSecond is a result with a rate.
func perSecond(n int64) Result { return Result{Messages: n, Seconds: 1} }

func TestTargetsAreJudgedByMedians(t *testing.T) {
	slow := &Measured{
		Mode: Mode{Name: "null/publish/16B", Chart: true, Targets: []Target{
			{rate, amqp091, 2, atLeast}, {rate, amqp091, 3, atLeast}, {rate, floor, 1, atLeast},
			{cost, amqp091, 0.5, atMost}, {cost, amqp091, 0.3, atMost}, {rate, "elsewhere", 1, atLeast},
		}},
		Rounds: map[string][]Result{
			leveret: {perSecond(1), perSecond(1000), perSecond(200)},
			amqp091: {perSecond(100), perSecond(90), perSecond(5000)},
		},
	}
	table := rows([]*Measured{slow})
	var verdicts []string
	for _, r := range table {
		verdicts = append(verdicts, r.Reached)
	}
	assert.Equal(t, []string{"yes", "NO", "not measured", "yes", "NO", "not measured"}, verdicts)

	var text strings.Builder
	require.NoError(t, printTable(&text, table))
	assert.Contains(t, text.String(), "2 of 4 targets reached, 2 not measured")
}

func TestOursIsComparedWithTheBoundAndThatWithTheFloor(t *testing.T) {
	m := &Measured{Mode: Mode{Name: "null/publish/16B"}, Rounds: map[string][]Result{
		leveret: {perSecond(300)}, bound: {perSecond(600)}, floor: {perSecond(800)},
	}}
	var text strings.Builder
	require.NoError(t, printBounds(&text, []*Measured{m}))
	assert.Regexp(t, `null/publish/16B +messages a second +300 +600 +800 +0\.5 +0\.75\n`, text.String())

	text.Reset()
	delete(m.Rounds, floor)
	require.NoError(t, printBounds(&text, []*Measured{m}))
	assert.Empty(t, text.String(), "there is nothing to compare")
}

func TestChartIsXML(t *testing.T) {
	file := filepath.Join(t.TempDir(), "chart.svg")
	m := &Measured{
		Mode:   Mode{Name: "null/a<b", Chart: true, Targets: []Target{{rate, amqp091, 1, atLeast}}},
		Rounds: map[string][]Result{leveret: {perSecond(100)}, amqp091: {perSecond(100)}},
	}
	require.NoError(t, writeSVG(file, rows([]*Measured{m})))
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	drawn := 0
	for d := xml.NewDecoder(f); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			drawn++
		}
	}
	assert.Equal(t, 1+len(bars)+2, drawn, "the background, the legend and a bar for each client")
}

// Every mode can be told apart, has a target, and compares with what exists.
func TestModesAreWhole(t *testing.T) {
	names := make(map[string]bool)
	for _, m := range modes() {
		assert.False(t, names[m.Name], "%s twice", m.Name)
		names[m.Name] = true
	}
	for _, m := range modes() {
		assert.NotEmpty(t, m.Targets, m.Name)
		for _, target := range m.Targets {
			switch target.against {
			case "", amqp091, floor, rabbitmqC:
			default:
				assert.True(t, names[target.against], "%s compares with %q", m.Name, target.against)
			}
		}
	}
}
