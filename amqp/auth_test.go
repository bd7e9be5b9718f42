package amqp

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMechanisms(t *testing.T) {
	got, err := Plain.Respond("user", "pass", nil)
	require.NoError(t, err)
	assert.Equal(t, "\x00user\x00pass", string(got))

	got, err = External.Respond("user", "pass", nil)
	require.NoError(t, err)
	assert.Empty(t, got)

	got, err = AMQPlain.Respond("user", "pass", nil)
	require.NoError(t, err)
	// The response is a table without its length, in any order.
	login, password := "\x05LOGINS\x00\x00\x00\x04user", "\x08PASSWORDS\x00\x00\x00\x04pass"
	assert.Contains(t, []string{login + password, password + login}, string(got))

	for _, m := range []Mechanism{Plain, AMQPlain, External} {
		_, err := m.Respond("user", "hunter2", []byte{})
		require.ErrorContains(t, err, m.Name()+" knows no challenge")
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestTheFirstOfOursThatTheBrokerOffers(t *testing.T) {
	m, err := chooseMechanism([]Mechanism{External, AMQPlain, Plain}, "PLAIN AMQPLAIN")
	require.NoError(t, err)
	assert.Equal(t, AMQPlain, m)
	for _, offered := range []string{"", " ", "plain", "PLAINER", "AMQPLAIN EXTERNAL"} {
		_, err = chooseMechanism([]Mechanism{Plain}, offered)
		require.ErrorContains(t, err, `Config.Auth has ["PLAIN"]`, "%q", offered)
	}
}
