// Package examples holds programs, one a folder, each short enough to be read at
// once. They run on a machine with nothing but Go:
//
//	go run ./examples/hello
//
// Without AMQP_URL in the environment a program starts a broker of its own, and
// says so; one that needs a counterpart plays both sides, and ends by itself. With
// AMQP_URL it uses that broker, and programs that consume do so until Ctrl-C.
//
//   - hello: publish and consume.
//   - The tutorials of rabbitmq.com: send and receive; new_task and worker;
//     emit_log and receive_logs, and their direct and topic variants; rpc_client
//     and rpc_server. And send_with_return, for messages that no queue takes.
//   - graceful: shut down without losing or repeating work.
//   - batch: handle messages by the hundred.
//   - outbox: a web service that must not lose an order.
//   - perf: load a broker, and tell what it bears.
//   - broker: serve the in-process broker to other programs, until Ctrl-C.
package examples
