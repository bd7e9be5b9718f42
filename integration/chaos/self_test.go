package chaos

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/integration/proxy"
)

// The account explains no more duplicates than there are reasons for.
func TestAccountExplainsDuplicates(t *testing.T) {
	start := time.Now()
	at := func(second int) time.Time { return start.Add(time.Duration(second) * time.Second) }
	lost := func(role string) *life { return &life{role: role, closed: at(5), lost: amqp.ErrConnectionClosed} }
	living := &life{role: "consumer"}
	publisherLost := lost("publisher")
	for name, c := range map[string]struct {
		handled []handling
		lives   []*life
		crashes []time.Time
		want    account
	}{
		"handled once":                      {handled: []handling{{at(1), living, false}}},
		"delivered again after a cut":       {handled: []handling{{at(1), lost("consumer"), false}, {at(6), living, true}}, want: account{redelivered: 1}},
		"the later one was done first":      {handled: []handling{{at(6), living, true}, {at(7), lost("consumer"), false}}, want: account{redelivered: 1}},
		"three times after two cuts":        {handled: []handling{{at(1), lost("consumer"), false}, {at(2), lost("consumer"), true}, {at(6), living, true}}, want: account{redelivered: 2}},
		"delivered again without a mark":    {handled: []handling{{at(1), lost("consumer"), false}, {at(6), living, false}}, want: account{unexplained: []string{""}}},
		"delivered again without a cut":     {handled: []handling{{at(1), living, false}, {at(6), living, true}}, want: account{unexplained: []string{""}}},
		"the cut was that of the second":    {handled: []handling{{at(1), living, false}, {at(6), lost("consumer"), true}}, want: account{unexplained: []string{""}}},
		"published again after a cut":       {handled: []handling{{at(1), living, false}, {at(6), living, false}}, lives: []*life{publisherLost}, want: account{republished: 1}},
		"one copy more than cuts":           {handled: []handling{{at(1), living, false}, {at(6), living, false}, {at(7), living, false}}, lives: []*life{publisherLost}, want: account{republished: 1, unexplained: []string{""}}},
		"forgotten by a crash":              {handled: []handling{{at(1), living, false}, {at(6), living, false}}, crashes: []time.Time{at(3)}, want: account{restored: 1}},
		"after a crash that came too early": {handled: []handling{{at(4), living, false}, {at(6), living, false}}, crashes: []time.Time{at(3)}, want: account{unexplained: []string{""}}},
	} {
		t.Run(name, func(t *testing.T) {
			b := &book{lives: c.lives, crashes: c.crashes, messages: []message{{begun: start, ended: at(9), fate: confirmed, handled: c.handled}}}
			a := b.draw()
			require.Len(t, a.unexplained, len(c.want.unexplained))
			require.Equal(t, [3]int{c.want.redelivered, c.want.republished, c.want.restored}, [3]int{a.redelivered, a.republished, a.restored})
		})
	}
}

// What is lost is counted, and so is what arrives although it was not sent.
func TestAccountCountsWhatIsLost(t *testing.T) {
	b := &book{}
	for range 4 {
		b.begin()
	}
	b.end(0, nil)
	b.end(1, nil)
	b.end(2, errors.Join(errors.New("not sent"), context.DeadlineExceeded))
	consumer := b.open("consumer")
	b.handle(1, consumer, false)
	b.handle(2, consumer, false)
	b.handle(7, consumer, false)
	require.False(t, b.settled())
	a := b.draw()
	require.Equal(t, 1, a.lost)
	require.Equal(t, 1, a.phantoms)
	require.Equal(t, 1, a.pending)
	require.Len(t, a.unexpected, 1, "a message that nobody sent")
	b.now(&b.deleted)
	require.True(t, b.settled(), "it was in a queue that was deleted")
	require.Equal(t, 1, b.draw().dropped)
}

// The witness sees an acknowledgement that comes too early, also among others.
func TestWitnessSeesWhatIsAcknowledgedTooEarly(t *testing.T) {
	w := newWitness()
	done := map[int]bool{10: true, 12: true}
	w.mayAck(func(n int) bool { return done[n] })
	deliver := func(tag uint64, body string) {
		w.see(method(proxy.ToClient, 60, 60, append(append([]byte{2, 'm', 'e'}, binary.BigEndian.AppendUint64(nil, tag)...), 0, 0, 0)))
		w.see(proxy.Frame{Connection: 1, Direction: proxy.ToClient, Channel: 1, Type: proxy.ContentBody, Raw: append(append(make([]byte, 7), body...), 0xCE)})
	}
	settle := func(id uint16, tag uint64, bits byte) {
		w.see(method(proxy.ToServer, 60, id, append(binary.BigEndian.AppendUint64(nil, tag), bits)))
	}
	deliver(1, "10 ...")
	deliver(2, "11 ...")
	deliver(3, "12 ...")
	deliver(4, "13 ...")
	settle(90, 4, 1) // basic.reject
	settle(80, 3, 1) // basic.ack of all
	require.Equal(t, [4]int{2, 1, 0, 1}, [4]int{w.acked, w.too, w.unclear, w.rejected})
	settle(80, 3, 0)
	require.Equal(t, 1, w.unclear, "it is settled already")
}

// method makes a method frame on channel 1.
func method(d proxy.Direction, class, id uint16, arguments []byte) proxy.Frame {
	raw := make([]byte, 7, 64)
	raw = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(raw, class), id)
	return proxy.Frame{Connection: 1, Direction: d, Type: proxy.Method, Channel: 1, Raw: append(append(raw, arguments...), 0xCE)}
}

// Goroutines are counted by the label of their run.
func TestGoroutinesAreCountedByTheirRun(t *testing.T) {
	require.Zero(t, labelled("some run"))
	stop, done := make(chan struct{}), make(chan struct{})
	go labelledAs("some run", func() {
		defer close(done)
		go func() { <-stop }()
		<-stop
	})
	require.NoError(t, until(t.Context(), "both of them", func() bool { return labelled("some run") == 2 }))
	require.Zero(t, labelled("some other run"))
	close(stop)
	<-done
	require.NoError(t, until(t.Context(), "their end", func() bool { return labelled("some run") == 0 }))
}
