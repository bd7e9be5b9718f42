package amqp_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// The caller may write to what it published when it has given up, and that may be just when the message is sent.
func TestOutboxSendsWhatItWasGiven(t *testing.T) {
	postOffice(t, amqp.OutboxOptions{}, func(p *posting) {
		headers := amqp.Table{
			"table": amqp.Table{"k": "v"}, "map": map[string]any{"k": "v"}, "list": []any{"v", []any{"v"}, amqp.Table{"k": "v"}},
			"strings": []string{"v"}, "bytes": []byte("v"), "nothing": nil,
		}
		p.outcomes.Go(func() {
			msg := amqp.Message{Properties: amqp.Properties{Headers: headers}, Body: []byte("v")}
			assert.NoError(p, p.outbox.Publish(context.Background(), "", "q", msg))
		})
		synctest.Wait()
		headers["table"].(amqp.Table)["k"] = "changed"
		headers["map"].(map[string]any)["k"] = "changed"
		headers["strings"].([]string)[0] = "changed"
		headers["bytes"].([]byte)[0] = 'c'
		list := headers["list"].([]any)
		list[1].([]any)[0] = "changed"
		list[2].(amqp.Table)["k"] = "changed"
		list[0] = "changed"
		p.running(func() {})
		type table = map[string]any
		require.Equal(p, table{
			"table": table{"k": "v"}, "map": table{"k": "v"}, "list": []any{"v", []any{"v"}, table{"k": "v"}},
			"strings": []any{"v"}, "bytes": []byte("v"), "nothing": nil,
		}, p.broker.Published()[0].Properties.Headers)
	})
}
