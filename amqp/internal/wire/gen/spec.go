package main

import (
	"fmt"
	"strconv"
	"strings"
)

// class is a class of the protocol with its methods in order.
type class struct {
	name    string
	id      uint16
	methods []method
}

type method struct {
	class, name string
	id          uint16
	fields      []field
	doc         string
}

// field is one argument of a method. A reserved one has no name.
type field struct {
	name string
	kind string
}

// goTypes holds the Go type of every kind of field.
var goTypes = map[string]string{
	"octet": "byte", "short": "uint16", "long": "uint32", "longlong": "uint64", "bit": "bool",
	"shortstr": "string", "longstr": "string", "bytes": "[]byte", "table": "Table",
}

// parse reads the format that the head of spec.txt describes.
func parse(text string) ([]class, error) {
	var classes []class
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if head, ok := strings.CutPrefix(line, "class "); ok {
			name, id, err := parseNameID(head)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
			classes = append(classes, class{name: name, id: id})
			continue
		}
		if len(classes) == 0 {
			return nil, fmt.Errorf("line %d: a method before the first class", i+1)
		}
		c := &classes[len(classes)-1]
		m, err := parseMethod(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		m.class = c.name
		c.methods = append(c.methods, m)
	}
	return classes, nil
}

func parseMethod(line string) (method, error) {
	line, doc, ok := strings.Cut(line, "//")
	if !ok {
		return method{}, fmt.Errorf("no description in %q", line)
	}
	head, args, ok := strings.Cut(line, ":")
	if !ok {
		return method{}, fmt.Errorf("no colon in %q", line)
	}
	name, id, err := parseNameID(head)
	if err != nil {
		return method{}, err
	}
	m := method{name: name, id: id, doc: strings.TrimSpace(doc)}
	if strings.TrimSpace(args) == "" {
		return m, nil
	}
	for arg := range strings.SplitSeq(args, ",") {
		words := strings.Fields(arg)
		if len(words) != 2 || goTypes[words[1]] == "" {
			return method{}, fmt.Errorf("%q is no field and type", arg)
		}
		m.fields = append(m.fields, field{name: strings.TrimPrefix(words[0], "-"), kind: words[1]})
	}
	return m, nil
}

func parseNameID(s string) (string, uint16, error) {
	words := strings.Fields(s)
	if len(words) != 2 {
		return "", 0, fmt.Errorf("%q is no name and number", s)
	}
	id, err := strconv.ParseUint(words[1], 10, 16)
	if err != nil {
		return "", 0, err
	}
	return words[0], uint16(id), nil
}

// goName turns auto-delete into AutoDelete and class-id into ClassID.
func goName(name string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(name, "-") {
		if word == "" {
			continue
		}
		if word == "id" {
			b.WriteString("ID")
			continue
		}
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}
