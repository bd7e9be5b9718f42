package amqp

import (
	"fmt"
	"time"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// What Properties.DeliveryMode may be.
const (
	Transient  uint8 = 1 // may be lost when the broker restarts
	Persistent uint8 = 2 // kept on disk, when the queue is durable, too
)

// Message is what Publish sends.
type Message struct {
	Properties Properties
	Body       []byte // the caller's again when Publish returns
	// Mandatory has the broker return the message when no queue takes it.
	Mandatory bool
	// Immediate has it returned when no consumer can take it at once.
	// RabbitMQ has not implemented it since 3.0 and closes the connection
	// with 540 NOT_IMPLEMENTED; an Outbox does not take it.
	Immediate bool
}

// Properties are what travels with a body. A field that is zero is absent.
// Strings have at most 255 bytes.
type Properties struct {
	ContentType     string // a MIME type, for the applications
	ContentEncoding string // a MIME content encoding, for the applications
	Headers         Table  // also what a headers exchange routes by
	DeliveryMode    uint8  // Transient or Persistent
	Priority        uint8  // 1 to 255, for queues with x-max-priority
	CorrelationID   string // which request a reply belongs to
	ReplyTo         string // the queue that replies go to
	Expiration      string // milliseconds as digits, as the protocol wants it; see TTL
	MessageID       string
	Timestamp       time.Time // whole seconds
	Type            string    // the kind of message, for the applications
	UserID          string    // when set, RabbitMQ checks that it is the login
	AppID           string
	ClusterID       string // unused by RabbitMQ
}

// wire views the properties as the codec's, which have the same fields.
func (p *Properties) wire() *wire.Properties { return (*wire.Properties)(p) }

const maxShortString = 255

// checkName refuses what does not fit into the protocol's short string.
func checkName(what, s string) error {
	if len(s) <= maxShortString {
		return nil
	}
	return fmt.Errorf("%s %.20q… has %d bytes, and AMQP allows %d", what, s, len(s), maxShortString)
}
