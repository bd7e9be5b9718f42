//go:build unix

package amqp

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// An acknowledgement goes ahead of basic.recover and of the first tx.select, or is refused. Behind the one it would be of
// a delivery that the broker has taken back, which ends the channel; behind the other a rollback would take it back.
func TestNoAcknowledgementSlipsBehindWhatVoidsIt(t *testing.T) {
	for name, test := range map[string]struct {
		send    func(ctx context.Context, ch *Channel)
		method  wire.Method
		refusal error
	}{
		"basic.recover": {func(ctx context.Context, ch *Channel) { _, _ = ch.recall(ctx, true, true) }, &wire.BasicRecover{Requeue: true}, ErrAlreadySettled},
		"tx.select":     {func(ctx context.Context, ch *Channel) { _ = ch.selectTx(ctx) }, &wire.TxSelect{}, errOutsideTx},
	} {
		t.Run(name, func(t *testing.T) {
			c, far := offered(t)
			ch, l := c.ch, &c.ch.ledger
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var tag uint64
			ack := func() error {
				tag++
				l.add(tag, tag, false)
				_, err := l.ack(tag)
				return err
			}
			require.NoError(t, ack())
			done := make(chan struct{})
			ch.mu.Lock() // the method stops on its way, behind the acknowledgements that it has collected
			go func() {
				defer close(done)
				test.send(ctx, ch)
			}()
			var err error
			eventually(t, "it is refused", func() bool { err = ack(); return err != nil })
			require.ErrorIs(t, err, test.refusal)
			ch.mu.Unlock()

			want, err := wire.AppendMethod(nil, 1, test.method)
			require.NoError(t, err)
			require.NoError(t, far.SetReadDeadline(time.Now().Add(time.Minute)))
			var got []byte
			for piece := make([]byte, 1024); !bytes.Contains(got, want); {
				ch.conn.out.Flush()
				n, err := far.Read(piece)
				require.NoError(t, err)
				got = append(got, piece[:n]...)
			}
			assert.True(t, bytes.HasSuffix(got, want))
			before := bytes.TrimSuffix(got, want)
			one, several := wire.AppendAck(nil, 1, tag-1, false), wire.AppendAck(nil, 1, tag-1, true)
			assert.True(t, bytes.HasSuffix(before, one) || bytes.HasSuffix(before, several), "%x", got)
			cancel()
			<-done
		})
	}
}
