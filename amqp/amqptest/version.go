package amqptest

// A Version is the release of RabbitMQ that a broker imitates where releases differ.
type Version int

const (
	// V310 is RabbitMQ 3.10, the default.
	V310 Version = iota
	// V43 is RabbitMQ 4.3, where it differs:
	//   - queues that are neither durable nor exclusive are refused with 541, as until 4.3.5 (4.3.6 permits them again);
	//     so is x-queue-master-locator; x-queue-version 1 and an exchange of an unknown type are refused with 406;
	//   - global qos is that of the consumers to come;
	//   - a client's frame_max is at least 8192, and a message has at most 16 MiB;
	//   - quorum queues have a delivery limit of 20, which basic.nack and basic.recover don't count towards, and tell how
	//     often a message was taken (x-acquired-count) or failed (x-delivery-count) if it was;
	//   - only quorum queues time out, after x-consumer-timeout of the consumer or the queue, and that cancels the consumer
	//     of a client that presented consumer_cancel_notify; its tag is free when the client has sent basic.cancel or
	//     basic.cancel-ok;
	//   - a passive declaration needs a right to the queue or exchange, whichever;
	//   - a mandatory direct reply that arrives counts as routed.
	V43
)

// behaviour is what differs between versions.
type behaviour struct {
	name               string
	ignoresGlobal      bool // in basic.qos
	deniesDeprecated   bool // transient queues that are not exclusive, and deprecatedArguments
	minFrameMax        uint32
	maxMessage         uint64
	deliveryLimit      int
	everyReturnCounts  bool // for the delivery limit, basic.nack and basic.recover too
	countsAcquisitions bool
	acceptsCancelOk    bool
	cancelsOnTimeout   bool
	timesOutQuorumOnly bool
	knowsNewArguments  bool // newArguments
	oldestQueueVersion int64
	passiveNeedsRight  bool // a passive declaration
	repliesAreRouted   bool // a mandatory direct reply that arrives is not returned
	unknownExchange    uint16
}

var behaviours = map[Version]behaviour{
	V310: {name: "3.10.8", minFrameMax: 4096, maxMessage: 128 << 20, deliveryLimit: -1, everyReturnCounts: true,
		oldestQueueVersion: 1, unknownExchange: commandInvalid},
	V43: {name: "4.3.0", minFrameMax: 8192, maxMessage: 16 << 20, deliveryLimit: 20, countsAcquisitions: true,
		ignoresGlobal: true, deniesDeprecated: true, acceptsCancelOk: true, cancelsOnTimeout: true, timesOutQuorumOnly: true,
		knowsNewArguments: true, oldestQueueVersion: 2, passiveNeedsRight: true, repliesAreRouted: true,
		unknownExchange: preconditionFailed},
}
