// Package integration tests the library as its users meet it: against real
// RabbitMQ nodes, and the same behaviour against the broker of amqptest.
package integration
