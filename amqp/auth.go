package amqp

import (
	"errors"
	"fmt"
	"strings"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// Mechanism is a SASL mechanism: a way to prove who one is. It is used by
// several connections at once, so it keeps no state between calls.
// https://www.rabbitmq.com/docs/access-control#mechanisms
type Mechanism interface {
	// Name is what the broker calls it, such as "PLAIN".
	Name() string
	// Respond answers the broker: first with a nil challenge
	// (connection.start-ok), then once for every connection.secure.
	Respond(login, password string, challenge []byte) ([]byte, error)
}

// The mechanisms that RabbitMQ ships. EXTERNAL takes who one is from the TLS
// client certificate (plugin rabbitmq_auth_mechanism_ssl).
var (
	Plain    Mechanism = plain{}
	AMQPlain Mechanism = amqplain{}
	External Mechanism = external{}
)

type plain struct{}

func (plain) Name() string { return "PLAIN" }

func (plain) Respond(login, password string, challenge []byte) ([]byte, error) {
	if challenge != nil {
		return nil, errors.New("PLAIN knows no challenge")
	}
	return []byte("\x00" + login + "\x00" + password), nil
}

type amqplain struct{}

func (amqplain) Name() string { return "AMQPLAIN" }

func (amqplain) Respond(login, password string, challenge []byte) ([]byte, error) {
	if challenge != nil {
		return nil, errors.New("AMQPLAIN knows no challenge")
	}
	b, err := wire.AppendTable(nil, Table{"LOGIN": login, "PASSWORD": password})
	if err != nil {
		return nil, err
	}
	const lengthOfTable = 4
	return b[lengthOfTable:], nil
}

type external struct{}

func (external) Name() string { return "EXTERNAL" }

func (external) Respond(_, _ string, challenge []byte) ([]byte, error) {
	if challenge != nil {
		return nil, errors.New("EXTERNAL knows no challenge")
	}
	return []byte{}, nil
}

// chooseMechanism takes the first of ours that the broker offers.
func chooseMechanism(ours []Mechanism, offered string) (Mechanism, error) {
	theirs := strings.Fields(offered)
	names := make([]string, len(ours))
	for i, m := range ours {
		for _, t := range theirs {
			if m.Name() == t {
				return m, nil
			}
		}
		names[i] = m.Name()
	}
	return nil, fmt.Errorf("the broker offers the login mechanisms %q, and Config.Auth has %q",
		theirs, names)
}
