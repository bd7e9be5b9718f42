package integration

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

func TestLoginMechanisms(t *testing.T) {
	for name, mechanisms := range map[string][]amqp.Mechanism{
		"default":                       nil,
		"PLAIN":                         {amqp.Plain},
		"AMQPLAIN":                      {amqp.AMQPlain},
		"the first that the broker has": {unknown{}, amqp.AMQPlain, amqp.Plain},
		"the user's own":                {custom{}},
	} {
		t.Run(name, func(t *testing.T) {
			eachBroker(t, func(t *testing.T, b broker) {
				cfg := b.config(t)
				cfg.Auth = mechanisms
				require.NoError(t, amqp.WithConnection(soon(t), cfg, func(conn *amqp.Conn) error {
					_, err := conn.ExchangeExists(soon(t), "amq.direct")
					return err
				}))
			})
		})
	}
}

// custom is PLAIN, written by a user of the library.
type custom struct{}

func (custom) Name() string { return "PLAIN" }
func (custom) Respond(login, password string, _ []byte) ([]byte, error) {
	return fmt.Appendf(nil, "\x00%s\x00%s", login, password), nil
}

// unknown is a mechanism that no broker offers.
type unknown struct{}

func (unknown) Name() string { return "UNKNOWN" }
func (unknown) Respond(string, string, []byte) ([]byte, error) {
	return nil, errors.New("was asked")
}

func TestLoginWithoutACommonMechanism(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		cfg := b.config(t)
		cfg.Auth = []amqp.Mechanism{unknown{}}
		err := amqp.WithConnection(soon(t), cfg, func(*amqp.Conn) error { return nil })
		require.ErrorContains(t, err, "UNKNOWN")
		assert.ErrorContains(t, err, "PLAIN", "it says what the broker offers")
	})
}

func TestLoginRefused(t *testing.T) {
	for name, login := range map[string][2]string{
		"wrong password": {"guest", "wrong"},
		"wrong user":     {"nobody", "guest"},
		"empty password": {"guest", ""},
	} {
		for _, mechanism := range []amqp.Mechanism{amqp.Plain, amqp.AMQPlain} {
			t.Run(name+" "+mechanism.Name(), func(t *testing.T) {
				eachBroker(t, func(t *testing.T, b broker) {
					cfg := b.config(t)
					cfg.Login, cfg.Password = login[0], login[1]
					cfg.Auth = []amqp.Mechanism{mechanism}
					err := amqp.WithConnection(soon(t), cfg, func(*amqp.Conn) error { return nil })
					requireException(t, err, amqp.AccessRefused, "ACCESS_REFUSED - Login was refused")
					assert.NotContains(t, err.Error(), "wrong\x00")
				})
			})
		}
	}
}

func TestCredentialsAreAskedAtEveryConnect(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		cfg := b.config(t)
		login, password := cfg.Login, cfg.Password
		cfg.Login, cfg.Password = "ignored", "ignored"
		asked := 0
		cfg.Credentials = func(context.Context) (string, string, error) {
			asked++
			return login, password, nil
		}
		for range 2 {
			require.NoError(t, amqp.WithConnection(soon(t), cfg, func(*amqp.Conn) error { return nil }))
		}
		assert.Equal(t, 2, asked)
	})
}

func TestCredentialsThatFail(t *testing.T) {
	eachBroker(t, func(t *testing.T, b broker) {
		cfg := b.config(t)
		locked := errors.New("the vault is locked")
		cfg.Credentials = func(context.Context) (string, string, error) { return "", "", locked }
		err := amqp.WithConnection(soon(t), cfg, func(*amqp.Conn) error { return nil })
		require.ErrorIs(t, err, locked)
	})
}
