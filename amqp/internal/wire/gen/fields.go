package main

import (
	"fmt"
	"strings"
)

// fixedSize holds the bytes of the kinds whose size does not depend on the value. A reserved field of another kind is
// empty, which reservedSize holds.
var (
	fixedSize    = map[string]int{"octet": 1, "short": 2, "long": 4, "longlong": 8}
	reservedSize = map[string]int{"octet": 1, "short": 2, "long": 4, "longlong": 8, "shortstr": 1, "longstr": 4, "bytes": 4, "table": 4}
)

// runs splits the fields so that adjacent bits, which share an octet, stand together.
func runs(fields []field) [][]field {
	var out [][]field
	for _, f := range fields {
		last := len(out) - 1
		if f.kind == "bit" && last >= 0 && out[last][0].kind == "bit" {
			out[last] = append(out[last], f)
			continue
		}
		out = append(out, []field{f})
	}
	return out
}

func sizeCode(fields []field) string {
	var b strings.Builder
	fixed := 0
	for _, run := range runs(fields) {
		f := run[0]
		switch {
		case f.kind == "bit":
			fixed++
		case f.name == "":
			fixed += reservedSize[f.kind]
		case fixedSize[f.kind] > 0:
			fixed += fixedSize[f.kind]
		case f.kind == "longstr", f.kind == "bytes":
			fmt.Fprintf(&b, "s.longstr(%q, len(m.%s))\n", f.name, goName(f.name))
		default:
			fmt.Fprintf(&b, "s.%s(%q, m.%s)\n", f.kind, f.name, goName(f.name))
		}
	}
	if fixed == 0 {
		return b.String()
	}
	return fmt.Sprintf("s.n += %d\n", fixed) + b.String()
}

func appendCode(fields []field) string {
	var b strings.Builder
	for _, run := range runs(fields) {
		f := run[0]
		value := "m." + goName(f.name)
		switch {
		case f.kind == "bit":
			fmt.Fprintf(&b, "dst = append(dst, %s)\n", packBits(run))
		case f.name == "":
			zeros := strings.TrimSuffix(strings.Repeat("0, ", reservedSize[f.kind]), ", ")
			fmt.Fprintf(&b, "dst = append(dst, %s)\n", zeros)
		case f.kind == "octet":
			fmt.Fprintf(&b, "dst = append(dst, %s)\n", value)
		case f.kind == "short", f.kind == "long", f.kind == "longlong":
			fmt.Fprintf(&b, "dst = binary.BigEndian.AppendUint%d(dst, %s)\n", 8*fixedSize[f.kind], value)
		case f.kind == "shortstr":
			fmt.Fprintf(&b, "dst = appendShortstr(dst, %s)\n", value)
		case f.kind == "longstr", f.kind == "bytes":
			fmt.Fprintf(&b, "dst = appendLongstr(dst, %s)\n", value)
		case f.kind == "table":
			fmt.Fprintf(&b, "dst = appendCheckedTable(dst, %s)\n", value)
		}
	}
	return b.String()
}

// packBits puts the first bit lowest, as the protocol does.
func packBits(run []field) string {
	var bits []string
	for i, f := range run {
		if f.name != "" {
			bits = append(bits, fmt.Sprintf("bit(m.%s, %d)", goName(f.name), i))
		}
	}
	if len(bits) == 0 {
		return "0"
	}
	return strings.Join(bits, "|")
}

func decodeCode(fields []field) string {
	var b strings.Builder
	for _, run := range runs(fields) {
		f := run[0]
		switch {
		case f.kind == "bit" && len(run) == 1 && f.name != "":
			fmt.Fprintf(&b, "m.%s = r.octet()&1 != 0\n", goName(f.name))
		case f.kind == "bit" && len(run) == 1:
			b.WriteString("r.octet()\n")
		case f.kind == "bit":
			b.WriteString("bits := r.octet()\n")
			for i, f := range run {
				if f.name != "" {
					fmt.Fprintf(&b, "m.%s = bits&%d != 0\n", goName(f.name), 1<<i)
				}
			}
		case f.name == "":
			fmt.Fprintf(&b, "r.%s()\n", reader(f.kind))
		default:
			fmt.Fprintf(&b, "m.%s = r.%s()\n", goName(f.name), f.kind)
		}
	}
	return b.String()
}

// reader names the method that reads a reserved field, whose value is thrown away: no string is made of it.
func reader(kind string) string {
	switch kind {
	case "shortstr":
		return "shortBytes"
	case "longstr", "bytes":
		return "longBytes"
	}
	return kind
}
