package integration

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/integration/rabbit"
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

// What a user may not do costs a channel, and the connection lives.
func TestPermissions(t *testing.T) {
	onRabbitMQ(t, func(t *testing.T, b broker) {
		if b.node.ManagementURL() == "" {
			t.Skip("SKIPPED: users are made by AMQP_MANAGEMENT_URL")
		}
		cfg := b.config(t)
		cfg.Login, cfg.Password = "user-of-"+b.vhost, "secret"
		require.NoError(t, b.node.NewUser(t.Context(), cfg.Login, cfg.Password))
		t.Cleanup(func() { require.NoError(t, b.node.DeleteUser(context.WithoutCancel(t.Context()), cfg.Login)) })
		ctx := soon(t)
		err := amqp.WithConnection(ctx, cfg, func(*amqp.Conn) error { return nil })
		requireException(t, err, amqp.NotAllowed, "access to vhost '"+b.vhost+"' refused for user '"+cfg.Login+"'")

		require.NoError(t, b.node.Permit(ctx, cfg.Login, b.vhost, rabbit.Permissions{Configure: "^mine$", Write: "^mine$|^writable$", Read: ""}))
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			for _, name := range []string{"writable", "another"} {
				_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: name, Durable: true})
				require.NoError(t, err)
			}
		})
		require.NoError(t, amqp.WithConnection(ctx, cfg, func(conn *amqp.Conn) error {
			for name, try := range map[string]func(ch *amqp.Channel) error{
				"configure": func(ch *amqp.Channel) error {
					_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "another"})
					return err
				},
				"write": func(ch *amqp.Channel) error {
					return errors.Join(ch.Confirm(ctx), ch.Publish(ctx, "amq.fanout", "", amqp.Message{}))
				},
				"read": func(ch *amqp.Channel) error {
					_, err := ch.QueueDeclare(ctx, amqp.Queue{Name: "mine"})
					require.NoError(t, err)
					_, _, err = ch.Get(ctx, "mine", true)
					return err
				},
			} {
				require.NoError(t, channelOn(ctx, conn, func(_ context.Context, ch *amqp.Channel) {
					requireException(t, try(ch), amqp.AccessRefused, "access to ")
				}), name)
			}
			_, err := conn.QueueStatus(ctx, "writable")
			require.NoError(t, err)
			_, err = conn.QueueStatus(ctx, "another")
			if since(t, conn, 4, 3) {
				requireException(t, err, amqp.AccessRefused, "access to ")
			} else {
				require.NoError(t, err, "whoever may enter may look")
			}
			return nil
		}))
	})
}
