// Package rabbit starts private RabbitMQ nodes for tests.
//
// A node has free ports, its own directories, cookie and epmd, listens on the
// loopback interface alone, and dies with the process that started it. Root
// and ordinary users can start one, and several can run side by side:
//
//	node, err := rabbit.Start(ctx, rabbit.Options{Management: true})
//	if err != nil { … }
//	defer node.Stop(context.Background())
//	cfg, err := amqp.ParseURI(node.URI("/"))
//
// [Open] looks at the environment first: with AMQP_URL set it uses that broker
// instead of starting one, with AMQP_MANAGEMENT_URL for its management API.
package rabbit
