// Package chaos proves on real brokers that nothing is lost. Its tests send
// numbered messages through an [amqp.Outbox] and handle them in consumers, both
// under [amqp.Supervise], while nodes are killed, connections are cut, slowed and
// closed, publishers are blocked and queues are deleted. Afterwards an account is
// drawn up: whatever was confirmed was handled, whatever was acknowledged had been
// handled, and each duplicate has a cut that explains it.
//
// A seed decides what goes wrong and when. It is printed, and given again by the
// flag -seed or the environment variable CHAOS_SEED:
//
//	go test -v ./integration/chaos -seed 7
//	go test -v ./integration/chaos -seed 7 -messages 100000 -timeout 30m
//
// TestSoak does most of it at once for as long as -duration says, beside
// connections, channels, publishers and consumers that come and go:
//
//	go test -v ./integration/chaos -run TestSoak -seed 7 -duration 30m -timeout 0
package chaos
