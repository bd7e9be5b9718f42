// Package amqp091 holds what the guide to moving from amqp091-go quotes of that
// client: programs as they were before, which run as examples. They are a module
// of their own, so that the library's needs no other client.
package amqp091
