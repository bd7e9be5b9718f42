//go:build unix

package main

import (
	"errors"
	"fmt"
	"html"
	"math"
	"os"
	"strings"
)

// The chart's measures, in pixels.
const (
	chartWidth  = 860
	labelWidth  = 230
	valueWidth  = 90
	barHeight   = 13
	groupGap    = 14
	chartTop    = 74
	chartBottom = 26
)

// bars are the clients in the chart, with their colours, which are told apart
// by people who see no red or green as well.
var bars = []struct{ client, label, colour string }{
	{leveret, "Leveret", "#d55e00"},
	{amqp091, "amqp091-go", "#0072b2"},
	{rabbitmqC, "rabbitmq-c", "#56b4e9"},
	{floor, "no client at all", "#b8b8b8"},
}

// writeSVG draws messages a second, on a logarithmic scale, since they differ a
// hundredfold.
func writeSVG(file string, rows []Row) error {
	var groups []Row
	seen := make(map[string]bool)
	low, high := math.Inf(1), 0.0
	for _, r := range rows {
		if !r.chart || seen[r.Mode] {
			continue
		}
		seen[r.Mode] = true
		groups = append(groups, r)
		for _, v := range r.Medians {
			low, high = min(low, v), max(high, v)
		}
	}
	if len(groups) == 0 {
		return errors.New("none of the modes that were measured is in the chart")
	}
	first, last := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	x := func(v float64) float64 {
		return labelWidth + (chartWidth-labelWidth-valueWidth)*(math.Log10(v)-first)/(last-first)
	}
	height := chartTop + chartBottom
	for _, g := range groups {
		height += len(g.Medians)*barHeight + groupGap
	}

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", chartWidth, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", chartWidth, height)
	b.WriteString(`<text x="12" y="24" font-size="16" font-weight="bold">Messages a second (logarithmic scale)</text>` + "\n")
	for i, bar := range bars {
		at := 12 + i*140
		fmt.Fprintf(&b, `<rect x="%d" y="38" width="12" height="12" fill="%s"/><text x="%d" y="48">%s</text>`+"\n", at, bar.colour, at+18, bar.label)
	}
	for e := first; e <= last; e++ {
		at := x(math.Pow(10, e))
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#e4e4e4"/>`, at, chartTop-6, at, height-chartBottom)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle" fill="#666">%s</text>`+"\n", at, height-chartBottom+16, count(math.Pow(10, e)))
	}
	y := chartTop
	for _, g := range groups {
		middle := y + len(g.Medians)*barHeight/2 + 4
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", labelWidth-10, middle, html.EscapeString(g.Mode))
		for _, bar := range bars {
			v, ok := g.Medians[bar.client]
			if !ok {
				continue
			}
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`, labelWidth, y, x(v)-labelWidth, barHeight-1, bar.colour)
			fmt.Fprintf(&b, `<text x="%.1f" y="%d" font-size="10">%s</text>`+"\n", x(v)+4, y+barHeight-3, count(v))
			y += barHeight
		}
		y += groupGap
	}
	b.WriteString("</svg>\n")
	return os.WriteFile(file, []byte(b.String()), 0o644)
}
