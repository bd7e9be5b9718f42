// Package amqptest is an AMQP 0-9-1 broker inside the process, in the spirit of net/http/httptest: for tests of programs
// that talk to RabbitMQ, on machines that have nothing but Go.
//
//	broker := amqptest.NewBroker()
//	defer broker.Close()
//	// … connect to broker.URI(), or with broker.Dial
//
// It behaves like RabbitMQ 3.10, with its codes and the texts of its errors, and on request like 4.3: see [WithVersion].
// Exchanges of all four kinds, queues with their arguments, prefetch, confirms, returns, transactions, dead letters,
// direct reply-to and the rest are there; clustering, streams, policies and persistence are not. Where RabbitMQ would
// ignore an argument that it doesn't know, this broker refuses it.
//
// What makes it a test's broker: faults ([Broker.Sever], [Broker.Stall], [Broker.Block], …), hooks on every method
// ([Broker.On]), a look inside ([Broker.Queues], [Broker.Published], …), and [Broker.Wait] in the place of sleeping.
// Inside a testing/synctest bubble, make it there with [InMemory] and connect with [Broker.Dial]: then heartbeats,
// time-to-live and timeouts take no time at all.
//
// # Inside
//
// One lock guards the whole model and is held for one frame at a time. Each connection has a goroutine that reads and
// performs what it reads, and one that writes what others have appended for it. A client that takes nothing is left
// out when messages are handed out, and later not read from either; nobody waits for it.
package amqptest
