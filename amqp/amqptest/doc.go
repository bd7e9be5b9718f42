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
// # Where it differs from RabbitMQ
//
//   - Arguments of queues, exchanges and consumers that it doesn't know are refused with 406: [WithArguments] lets some pass.
//     Streams are among them.
//   - A channel number above the negotiated channel_max is refused (RabbitMQ 3.10 counts channels only), and so are bodies
//     that are too long for their header, as soon as that shows. An unknown method is 503, where RabbitMQ drops the socket.
//   - What RabbitMQ does to a client in the handshake after three seconds of silence, a reset, it does at once.
//   - The mechanism RABBIT-CR-DEMO is there without a plugin, and update-secret takes any secret.
//   - Everything happens in the order in which the broker reads it. In RabbitMQ channels and queues are processes of their
//     own, and an answer on one channel may overtake another's.
//
// # Inside
//
// One lock guards the whole model and is held for one frame at a time. Each connection has a goroutine that reads and
// performs what it reads, and one that writes what others have appended for it. A client that takes nothing is left
// out when messages are handed out, and later not read from either; nobody waits for it.
//
// Where to look: listen.go accepts, reader.go takes frames and content.go makes messages of them, handshake.go and auth.go let
// clients in, perform.go and channel.go hand methods to …methods.go, publish.go and settle.go; route.go, exchange.go,
// topic.go and headers.go find queues; queue.go, ready.go and consumer.go hold and hand out messages; expiry.go,
// limits.go, deadletter.go and timeout.go take them away; confirm.go and writer.go answer; gate.go, faults.go, hooks.go
// and faultconn.go break things; inspect.go looks.
package amqptest
