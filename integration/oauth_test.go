package integration

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/integration/rabbit"
)

// issuer signs tokens that the broker takes for passwords.
type issuer struct{ key *rsa.PrivateKey }

// token may do everything for so long.
func (i issuer) token(t *testing.T, valid time.Duration) string {
	t.Helper()
	part := func(v any) string {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(map[string]any{"alg": "RS256", "typ": "JWT", "kid": "k1"}) + "." + part(map[string]any{
		"aud": []string{"rabbitmq"}, "exp": time.Now().Add(valid).Unix(), "jti": rand.Text(),
		"scope": []string{"rabbitmq.configure:*/*", "rabbitmq.write:*/*", "rabbitmq.read:*/*"},
	})
	hash := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, hash[:])
	require.NoError(t, err)
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// onOAuth starts a node that takes the tokens of an issuer.
func onOAuth(t *testing.T, test func(t *testing.T, node *rabbit.Node, i issuer)) {
	t.Helper()
	rabbit.Need(t)
	if os.Getenv("AMQP_URL") != "" {
		t.Skip("SKIPPED: this needs a node of its own, and AMQP_URL names the broker to test with")
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "k1.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600))
	node, err := rabbit.Start(t.Context(), rabbit.Options{
		Plugins: []string{"rabbitmq_auth_backend_oauth2"},
		Config: "auth_backends.1 = internal\nauth_backends.2 = rabbit_auth_backend_oauth2\n" +
			"auth_oauth2.resource_server_id = rabbitmq\nauth_oauth2.default_key = k1\nauth_oauth2.signing_keys.k1 = " + file + "\n",
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, node.Stop(context.WithoutCancel(t.Context()))) })
	test(t, node, issuer{key})
}

// A token that expires is refreshed on the connection, by update-secret, and by Credentials at the next connect.
func TestTokensAreRefreshed(t *testing.T) {
	onOAuth(t, func(t *testing.T, node *rabbit.Node, i issuer) {
		cfg, err := amqp.ParseURI(node.URI("/"))
		require.NoError(t, err)
		cfg.CloseTimeout = patience
		ctx := soon(t)
		var told, said strings.Builder // the log, and the errors
		cfg.Logger = slog.New(slog.NewTextHandler(&told, &slog.HandlerOptions{Level: slog.LevelDebug}))
		var issued []string
		valid := time.Minute
		cfg.Credentials = func(context.Context) (string, string, error) {
			issued = append(issued, i.token(t, valid))
			return "", issued[len(issued)-1], nil
		}
		declare := func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(ctx, amqp.Queue{Exclusive: true})
			return err
		}

		// An expired one is refused, and not tried again.
		valid = -time.Minute
		err = amqp.Supervise(ctx, cfg, amqp.Retry{}, func(*amqp.Conn) error { return nil })
		requireException(t, err, amqp.AccessRefused, "ACCESS_REFUSED")
		said.WriteString(err.Error())
		require.Len(t, issued, 1)

		attempts := 0
		refresh := func(conn *amqp.Conn) error {
			attempts++
			if attempts == 2 { // with a new token
				return conn.WithChannel(ctx, declare)
			}
			expired := conn.WithChannel(ctx, func(ch *amqp.Channel) error {
				retry := time.NewTicker(100 * time.Millisecond)
				defer retry.Stop()
				for {
					if err := declare(ch); err != nil {
						return err
					}
					<-retry.C
				}
			})
			said.WriteString(expired.Error())
			if since(t, conn, 4, 3) {
				<-conn.Context().Done()
				requireException(t, context.Cause(conn.Context()), amqp.ConnectionForced, "credential expired")
				valid = time.Minute
				return context.Cause(conn.Context())
			}
			requireException(t, expired, amqp.AccessRefused, "ACCESS_REFUSED")
			require.Error(t, conn.WithChannel(ctx, declare), "the connection lives, and may do nothing")

			issued = append(issued, i.token(t, time.Minute))
			require.NoError(t, conn.UpdateSecret(ctx, issued[len(issued)-1], "the old one has expired"))
			require.NoError(t, conn.WithChannel(ctx, declare))

			valid = time.Minute
			require.NoError(t, node.CloseAllConnections(ctx, "maintenance"))
			<-conn.Context().Done()
			said.WriteString(context.Cause(conn.Context()).Error())
			return context.Cause(conn.Context())
		}
		tooLate := 0 // tokens that had expired when the broker saw them
		for valid = 3 * time.Second; ; valid *= 2 {
			err = amqp.Supervise(ctx, cfg, amqp.Retry{Max: 100 * time.Millisecond}, refresh)
			if attempts > 0 {
				break
			}
			require.True(t, errors.Is(err, amqp.AccessRefused) || errors.Is(err, amqp.NotAllowed), "%v", err)
			tooLate++
		}
		require.NoError(t, err)
		assert.Equal(t, 2, attempts)
		assert.GreaterOrEqual(t, len(issued), 3+tooLate)
		for _, token := range issued {
			assert.NotContains(t, told.String()+said.String(), token)
		}
	})
}
