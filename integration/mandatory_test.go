package integration

import (
	"context"
	"maps"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// A mandatory message carries an id among its headers. An exchange that routes by headers takes no notice of it, whatever
// a binding makes of headers it does not name.
func TestMandatoryDoesNotDisturbHeaders(t *testing.T) {
	messages := map[string]amqp.Table{
		"none":      nil,
		"one":       {"color": "red"},
		"another":   {"color": "blue"},
		"both":      {"color": "red", "size": int32(3)},
		"with x":    {"x-color": "red"},
		"all three": {"color": "red", "size": int32(3), "x-color": "red"},
	}
	bindings := []amqp.Table{
		{},
		{"color": "red"},
		{"color": "red", "size": int32(3)},
		{"x-color": "red"},
		{"color": "red", "x-color": "red"},
		{"color": nil}, // any value will do
	}
	eachBroker(t, func(t *testing.T, b broker) {
		b.channel(t, func(ctx context.Context, ch *amqp.Channel) {
			for _, match := range []string{"all", "any", "all-with-x", "any-with-x"} {
				for _, binding := range bindings {
					q := newQueue(t, ctx, ch, nil)
					arguments := amqp.Table{"x-match": match}
					maps.Copy(arguments, binding)
					require.NoError(t, ch.QueueBind(ctx, amqp.Binding{Queue: q, Exchange: "amq.headers", Arguments: arguments}))
					for name, headers := range messages {
						plain := routed(t, ctx, ch, q, headers, false)
						assert.Equal(t, plain, routed(t, ctx, ch, q, headers, true), "x-match %s, binding %v, message %s", match, binding, name)
					}
					require.NoError(t, ch.QueueUnbind(ctx, amqp.Binding{Queue: q, Exchange: "amq.headers", Arguments: arguments}))
				}
			}
		})
	})
}

// routed tells whether a message with these headers gets into the queue.
func routed(t *testing.T, ctx context.Context, ch *amqp.Channel, q string, headers amqp.Table, mandatory bool) bool {
	t.Helper()
	var failed *amqp.PublishError
	err := ch.WithPublisher(ctx, amqp.PublisherOptions{Mandatory: mandatory}, func(p *amqp.Publisher) error {
		r, err := p.Publish(ctx, "amq.headers", "", amqp.Message{Properties: amqp.Properties{Headers: headers}})
		if err != nil {
			return err
		}
		return r.Wait(ctx)
	})
	purged, purgeErr := ch.QueuePurge(ctx, amqp.QueuePurge{Name: q})
	require.NoError(t, purgeErr)
	if purged == 0 && mandatory {
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, headers, failed.Return.Properties.Headers, "it comes back as it left")
	} else {
		require.NoError(t, err)
	}
	return purged == 1
}
