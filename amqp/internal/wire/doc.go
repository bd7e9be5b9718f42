// Package wire turns bytes into the frames, methods, properties and tables of AMQP 0-9-1 with RabbitMQ's extensions, and
// back. It knows no sockets, goroutines or clocks.
//
// Everything that encodes appends to a slice of the caller, so that a whole batch of frames builds up in one write buffer.
// What can be refused is refused before the slice changes: an error never leaves half a frame. Everything that decodes
// takes the payload of one frame and trusts none of it: what is wrong is an error that wraps [ErrMalformed].
//
//   - frame.go: frame headers, heartbeats, and bodies cut into frames
//   - method.go: any method to a frame and back; methods_gen.go holds the methods themselves, gen writes it from gen/spec.txt
//   - hot.go: the few methods that travel with every message, by hand and without an allocation
//   - header.go: content headers; properties.go and propertycode.go: what is in them
//   - table.go, tablesize.go, tabledecode.go: tables of named values, and how large they are
//   - reader.go, sizer.go: the primitives under the rest
package wire

//go:generate go run ./gen
