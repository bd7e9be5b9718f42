package amqp_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
)

// A message that waits for the end of an alarm was not sent, and is not sent any more when its caller has gone.
func TestOutboxSendsNothingForWhoHasGone(t *testing.T) {
	postOffice(t, amqp.OutboxOptions{}, func(p *posting) {
		p.queue("q", 0)
		p.running(func() {
			p.broker.Block("memory")
			p.post("q", 0, 1) // the broker tells those who publish
			brief, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			for _, text := range []string{"next", "behind it"} {
				p.publish(brief, "", "q", text, func(err error) {
					assert.ErrorIs(p, err, context.DeadlineExceeded)
					assert.NotErrorIs(p, err, amqp.ErrUnconfirmed)
					assert.ErrorContains(p, err, "not sent")
				})
			}
			time.Sleep(2 * time.Second)
			p.post("q", 1, 1)
			p.broker.Unblock()
		})
		require.Equal(p, "0 1", p.published())
	})
}

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
