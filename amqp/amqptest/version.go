package amqptest

// A Version is the release of RabbitMQ that a broker imitates where releases differ.
type Version int

const (
	// V310 is RabbitMQ 3.10, the default.
	V310 Version = iota
	// V43 is RabbitMQ 4.3, where it differs:
	//   - global qos, and queues that are neither durable nor exclusive, are refused with 541;
	//   - a client's frame_max is at least 8192, and a message has at most 16 MiB;
	//   - quorum queues have a delivery limit of 20, which basic.nack and basic.recover don't count towards;
	//   - only quorum queues time out, after x-consumer-timeout of the consumer or the queue, and that cancels the consumer
	//     of a client that presented consumer_cancel_notify; the broker takes its basic.cancel-ok (accept_consumer_cancel_ok);
	//   - a passive declaration needs the right to configure, a queue with a single active consumer has no basic.get, and
	//     x-queue-mode and x-queue-master-locator are gone;
	//   - a mandatory direct reply that arrives counts as routed.
	V43
)

// behaviour is what differs between versions.
type behaviour struct {
	name                     string
	deniesGlobalQos          bool
	deniesTransient          bool
	minFrameMax              uint32
	maxMessage               uint64
	deliveryLimit            int
	everyReturnCounts        bool // for the delivery limit, basic.nack and basic.recover too
	acceptsCancelOk          bool // and says so with the capability accept_consumer_cancel_ok
	cancelsOnTimeout         bool
	timesOutQuorumOnly       bool
	knowsNewArguments        bool // newArguments
	goneArguments            []string
	passiveConfigures        bool // a passive declaration needs the right to configure
	repliesAreRouted         bool // a mandatory direct reply that arrives is not returned
	refusesGetOnSingleActive bool
}

var behaviours = map[Version]behaviour{
	V310: {name: "3.10.8", minFrameMax: 4096, maxMessage: 128 << 20, deliveryLimit: -1, everyReturnCounts: true},
	V43: {name: "4.3.0", minFrameMax: 8192, maxMessage: 16 << 20, deliveryLimit: 20,
		deniesGlobalQos: true, deniesTransient: true, acceptsCancelOk: true, cancelsOnTimeout: true, timesOutQuorumOnly: true,
		goneArguments:     []string{"x-queue-mode", "x-queue-master-locator"},
		knowsNewArguments: true, passiveConfigures: true, repliesAreRouted: true, refusesGetOnSingleActive: true},
}
