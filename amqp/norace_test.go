//go:build !race

package amqp_test

// offsetStride is the distance of the bytes at which the network fails.
const offsetStride = 1
