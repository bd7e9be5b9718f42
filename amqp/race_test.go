//go:build race

package amqp_test

// offsetStride: the race detector looks at the same code at every byte, and takes ten times as long for it.
const offsetStride = 11
