//go:build unix

// Bench measures this library beside the official Go client, rabbitmq-c and the
// raw floor, which is a socket with pre-encoded frames and no client at all.
//
//	go run . -svg bench.svg -json bench.json    everything: about forty minutes
//	go run . -quick                             every mode once, shortly: does it work
//	go run . -list                              the names of the modes
//	go run . -run '^null/(publish|ack)/16B$'    some of them
//	go run . -run rabbit/ack -clients 'ours|raw' -rounds 9
//	go run . -run null/publish/16B$ -clients ours -cpuprofile profiles
//	go run . -run null/size -clients ours -memprofile profiles
//
// The machine has to be idle, and nothing but ratios can be carried over to
// another one. Figures are medians over -rounds; the clients take turns, so that
// what disturbs the machine disturbs all of them.
//
// # Brokers
//
// The null broker is a process of its own: it throws away what is published,
// confirms by one multiple ack for each read, and delivers encoded messages as
// fast as TCP takes them. It shows the client alone. In modes with a prefetch it
// heeds acks, and otherwise it jumps over them.
//
// RabbitMQ is a private node, started when it is installed. There the broker is
// the bottleneck; it shows what a user gets, and what that costs the client.
//
// # Clients
//
// Each measurement is a process of its own, whose CPU time, memory and
// allocations are counted from the moment when everything is set up. Closing is
// not part of it; publishing includes a round trip at the end, so that
// everything has arrived.
//
// Where one goroutine a channel does the work, the bound takes part as well:
// the floor with what any client with this interface has to do, and nothing else.
// See bounds.
//
// rabbitmq-c is compiled when a C compiler and librabbitmq-dev are there, and
// loudly left out otherwise. It takes part where one thread with one connection
// can.
//
// # Modes
//
//	publish     without confirms
//	confirm     a window of 1,000 unconfirmed messages
//	waiters     64 goroutines on a channel, each waiting for its confirm
//	lone        one goroutine that does, with p50, p99 and p99.9
//	consume     without acks
//	ack         each message acknowledged; the floor acknowledges a read at once
//	flat        the same over 1 to 2,000 channels, and 10 to 100,000
//	            unconfirmed or unacknowledged messages
//	size, open  what connections and channels hold, and how long they take
//	latency     from publish to delivery, at 1,000 messages a second
//
// Bodies go from 16 bytes to 1 MiB. Modes with "properties" have a content type,
// a header table of three fields, a delivery mode and a message id that differs
// from message to message; the others have none.
//
// # Adding a mode
//
// Modes and their targets are in modes.go, and nothing else has to be changed
// for one of a known kind. The kinds are the maps at the top of ours.go,
// official.go and raw.go, and main in rabbitmqc/client.c.
package main
