//go:build unix

package amqp

import (
	"bytes"
	"context"
	"io"
	"math"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
	"github.com/leveret-mq/leveret/amqp/internal/writer"
	"github.com/leveret-mq/leveret/scope"
)

// offered is a connection over TCP that nobody reads, with consumer "c" on channel 1. Neither a reader nor a flusher
// runs: what is read and written, a loop has read and written.
func offered(t *testing.T) (c *Consumer, far net.Conn) {
	near, far := tcpPair(t)
	conn, consumers := readerOf(near)
	conn.nc, conn.raw, conn.in.src = near, near, near
	conn.in.more.init(near)
	conn.out = writer.New(near, writer.Options{Limit: writeLimit, Collect: conn.collectAcks})
	c = consumers[0]
	c.Scope = scope.Open(t.Context(), nil).Scope()
	c.ch.Scope = c.Scope
	c.stream.OnLook(func() { conn.readFor(c) })
	conn.lead.state.Store(ledByNobody)
	return c, far
}

func (l *lead) isRoused() bool {
	select {
	case <-l.rouse:
		return true
	default:
		return false
	}
}

// eventually waits for what another goroutine is about to do, on the wall clock.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	require.Eventually(t, holds, time.Minute, time.Millisecond, what)
}

// ranging ranges over the consumer, and ends after the last of so many messages; the channel has what came.
func ranging(c *Consumer, n uint64, each func(env *Envelope)) <-chan []uint64 {
	done := make(chan []uint64, 1)
	go func() {
		var tags []uint64
		defer func() { done <- tags }()
		for _, env := range c.Messages() {
			if tags = append(tags, env.DeliveryTag); each != nil {
				each(env)
			}
			if env.DeliveryTag == n {
				break
			}
		}
	}()
	return done
}

func send(t *testing.T, to net.Conn, b []byte) {
	t.Helper()
	_, err := to.Write(b)
	require.NoError(t, err)
}

func TestALoopReadsWhileItWaits(t *testing.T) {
	c, far := offered(t)
	l := &c.ch.conn.lead
	had := make(chan uint64, 3)
	done := ranging(c, 3, func(env *Envelope) {
		assert.Equal(t, ledByNobody, l.state.Load(), "while it has messages")
		assert.NoError(t, env.Ack())
		had <- env.DeliveryTag
	})
	eventually(t, "it reads", c.IsReading)
	send(t, far, deliver(1, 1, pattern(10), readerFrameMax, nil))
	assert.EqualValues(t, 1, <-had)
	eventually(t, "it reads again", c.IsReading)
	whole := append(deliver(1, 2, pattern(10), readerFrameMax, nil), deliver(1, 3, pattern(10), readerFrameMax, nil)...)
	send(t, far, whole[:50])
	send(t, far, whole[50:])
	assert.Equal(t, []uint64{1, 2, 3}, <-done)
	assert.Equal(t, ledByNobody, l.state.Load())
	assert.False(t, l.isRoused(), "nobody was woken")
}

func TestALoopSendsItsAcknowledgementsBeforeItWaits(t *testing.T) {
	c, far := offered(t)
	done := ranging(c, math.MaxUint64, func(env *Envelope) { assert.NoError(t, env.Ack()) })
	send(t, far, append(deliver(1, 1, nil, readerFrameMax, nil), deliver(1, 2, nil, readerFrameMax, nil)...))
	want := wire.AppendAck(nil, 1, 2, true)
	got := make([]byte, len(want))
	_, err := io.ReadFull(far, got)
	require.NoError(t, err)
	assert.Equal(t, want, got, "in one frame")
	c.stop(nil)
	assert.Len(t, <-done, 2)
}

// Acknowledgements of others are sent at once while the loop waits.
func TestWhoeverAcknowledgesWhileALoopReadsHasItSent(t *testing.T) {
	c, far := offered(t)
	conn := c.ch.conn
	done := ranging(c, math.MaxUint64, nil)
	eventually(t, "it reads", c.IsReading)
	flusher := make(chan error, 1)
	go func() { flusher <- conn.out.Run() }()
	c.ch.ledger.add(1, 1, false)
	require.NoError(t, (&Envelope{DeliveryTag: 1, channel: c.ch}).Ack())
	want := wire.AppendAck(nil, 1, 1, false)
	got := make([]byte, len(want))
	_, err := io.ReadFull(far, got)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	c.stop(nil)
	<-done
	conn.out.Close()
	require.NoError(t, <-flusher)
}

// What a loop can't do it leaves to the reader, and wakes it.
func TestALoopLeavesToTheReaderWhatItCannotDo(t *testing.T) {
	large := deliver(1, 1, pattern(2*directSize), readerFrameMax, nil)
	for name, test := range map[string]struct {
		send  []byte
		setup func(*Consumer)
		err   error
	}{
		"a large body":    {send: large[:len(large)-directSize], setup: func(c *Consumer) { c.ch.conn.in.buf = make([]byte, busyBuffer) }},
		"a flood":         {send: bytes.Repeat(wire.AppendHeartbeat(nil), quietBuffer)},
		"back-pressure":   {send: deliver(1, 1, pattern(100), readerFrameMax, nil), setup: func(c *Consumer) { c.limit = 0; c.buffered.Store(byteBound) }},
		"a wrong frame":   {send: []byte("\x01\x00\x09\x00\x00\x00\x01x\xce"), err: ErrProtocol},
		"the end":         {err: io.EOF},
		"who else waits":  {send: deliver(1, 1, nil, readerFrameMax, nil), setup: func(c *Consumer) { c.ch.conn.waiting.Store(1) }},
		"another loop":    {send: deliver(1, 1, nil, readerFrameMax, nil), setup: func(c *Consumer) { c.ch.conn.lead.loops.Add(2) }},
		"a range of else": {send: deliver(1, 1, nil, readerFrameMax, nil), setup: func(c *Consumer) { c.ch.conn.lead.others.Add(1) }},
		"what others settle": {setup: func(c *Consumer) {
			c.ch.ledger.add(1, 1, false)
			c.ch.conn.readFor(c)
		}},
		"closing":          {send: deliver(1, 1, nil, readerFrameMax, nil), setup: func(c *Consumer) { c.ch.conn.closing.Store(true) }},
		"a reader's wish":  {send: deliver(1, 1, nil, readerFrameMax, nil), setup: func(c *Consumer) { c.ch.conn.lead.wanted.Store(true) }},
		"a panicking hook": {send: deliver(1, 1, nil, readerFrameMax, nil), err: errUnfinished},
	} {
		t.Run(name, func(t *testing.T) {
			c, far := offered(t)
			conn := c.ch.conn
			if test.err == errUnfinished { //nolint:errorlint // the very same
				conn.cfg.Trace = &Trace{Delivered: func(*Channel, *Envelope, int) { panic("the hook is broken") }}
			}
			if test.setup != nil {
				test.setup(c)
			}
			done := make(chan any, 1)
			go func() {
				defer func() { done <- recover() }()
				conn.readFor(c)
			}()
			switch {
			case test.send != nil:
				eventually(t, "it reads", c.IsReading)
				send(t, far, test.send)
			case test.err != nil:
				eventually(t, "it reads", c.IsReading)
				require.NoError(t, far.Close())
			}
			panicked := <-done
			assert.Equal(t, ledOwed, conn.lead.state.Load())
			assert.True(t, conn.lead.isRoused())
			require.ErrorIs(t, conn.lead.err, test.err)
			if test.err == errUnfinished { //nolint:errorlint // the very same
				assert.NotNil(t, panicked)
				assert.PanicsWithValue(t, errUnfinished, func() { _, _ = conn.offer(c) }, "nobody knows what is locked")
			}
		})
	}
}

func TestTheEndOfAConsumerInterruptsItsLoop(t *testing.T) {
	for name, end := range map[string]func(c *Consumer){
		"stopped":   (*Consumer).Stop,
		"cancelled": func(c *Consumer) { c.stop(context.Canceled) },
		"the channel has ended": func(c *Consumer) {
			c.ch.die(ErrChannelClosed, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, far := offered(t)
			conn := c.ch.conn
			done := ranging(c, math.MaxUint64, nil)
			eventually(t, "it reads", c.IsReading)
			end(c)
			assert.Empty(t, <-done)
			assert.Equal(t, ledByNobody, conn.lead.state.Load())
			require.NoError(t, conn.lead.err)
			send(t, far, []byte{1})
			_, err := conn.nc.Read(make([]byte, 1))
			require.NoError(t, err, "the connection can be read on")
			for range c.Messages() {
				t.Error("a message from nowhere")
			}
		})
	}
}

// What came before the broker's basic.cancel is still taken, and nothing is read for after it: no more would come.
func TestALoopTakesWhatCameBeforeTheBrokersCancelAndEnds(t *testing.T) {
	c, far := offered(t)
	done := ranging(c, math.MaxUint64, func(env *Envelope) { assert.NoError(t, env.Ack()) })
	eventually(t, "it reads", c.IsReading)
	cancel, err := wire.AppendMethod(deliver(1, 1, nil, readerFrameMax, nil), 1, &wire.BasicCancel{ConsumerTag: "c", NoWait: true})
	require.NoError(t, err)
	send(t, far, cancel)
	select {
	case tags := <-done:
		assert.Equal(t, []uint64{1}, tags)
	case <-time.After(time.Minute):
		require.Fail(t, "the loop waits for messages of a consumer that the broker has ended")
	}
	require.ErrorIs(t, c.Err(), ErrConsumerCancelled)
	assert.Equal(t, ledByNobody, c.ch.conn.lead.state.Load())
}

// A connection that is to be read until some time only is not read for longer because a consumer has ended.
func TestAnInterruptedReadLeavesTheDeadline(t *testing.T) {
	for name, order := range map[string]func(c *Consumer, done <-chan []uint64){
		"set before": func(c *Consumer, done <-chan []uint64) {
			require.NoError(t, c.ch.conn.boundReads(time.Now().Add(time.Hour)))
			c.stop(nil)
			<-done
			require.NoError(t, c.ch.conn.boundReads(c.ch.conn.lead.deadline.Add(-2*time.Hour)))
		},
		"put off": func(c *Consumer, done <-chan []uint64) {
			c.stop(nil)
			<-done
			l := &c.ch.conn.lead
			l.cut = c.ch.conn.raw.SetReadDeadline(time.Unix(1, 0)) == nil // a loop is on its way out of its read
			require.NoError(t, c.ch.conn.boundReads(time.Now().Add(time.Hour)))
		},
		"set meanwhile": func(c *Consumer, done <-chan []uint64) {
			l := &c.ch.conn.lead
			l.mu.Lock() // the loop can't come out of its read
			l.cut = c.ch.conn.raw.SetReadDeadline(time.Unix(1, 0)) == nil
			l.mu.Unlock()
			require.NoError(t, c.ch.conn.boundReads(time.Now().Add(-time.Hour)))
			c.stop(nil)
			<-done
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := offered(t)
			done := ranging(c, math.MaxUint64, nil)
			eventually(t, "it reads", c.IsReading)
			order(c, done)
			_, err := c.ch.conn.nc.Read(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		})
	}
}

func TestOthersWhoWaitClaimTheReader(t *testing.T) {
	for name, wait := range map[string]func(c *Consumer){
		"for an answer": func(c *Consumer) { c.ch.conn.await(+1) },
		"as the second": func(c *Consumer) { c.ch.conn.waiting.Store(1); c.ch.conn.await(+1) },
		"for the end":   func(c *Consumer) { c.ch.conn.wake() },
		"a second loop": func(c *Consumer) { c.enterLoop(); c.enterLoop() },
		"another range": func(c *Consumer) { c.ch.conn.enterOther() },
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := offered(t)
			l := &c.ch.conn.lead
			wait(c)
			assert.Equal(t, ledOwed, l.state.Load())
			assert.True(t, l.isRoused())
			c.ch.conn.readFor(c)
			assert.Equal(t, ledOwed, l.state.Load(), "a loop does not take what is owed to the reader")
		})
	}
}

func TestRangesThatDoNotReadClaimTheReader(t *testing.T) {
	for name, loop := range map[string]func(c *Consumer){
		"batches": func(c *Consumer) {
			for range c.Batches(1, time.Hour) {
				t.Error("a message from nowhere")
			}
		},
		"returns": func(c *Consumer) {
			for range c.ch.Returns() {
				t.Error("a message from nowhere")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := offered(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				loop(c)
			}()
			eventually(t, "it claims", func() bool { return c.ch.conn.lead.state.Load() == ledOwed })
			c.stop(nil)
			c.ch.die(ErrChannelClosed, 0)
			<-done
			assert.Zero(t, c.ch.conn.lead.others.Load())
		})
	}
}

// What the broker said before writing failed is read for some time, whatever a loop does.
func TestTheLastWordsAreReadUntilADeadline(t *testing.T) {
	c, _ := offered(t)
	conn := c.ch.conn
	conn.out.Fail(io.ErrClosedPipe)
	require.NoError(t, conn.writeLoop(t.Context()))
	assert.WithinDuration(t, time.Now().Add(lastWordTimeout), conn.lead.deadline, lastWordTimeout)
	assert.Equal(t, ledOwed, conn.lead.state.Load(), "and by the reader")
}

func TestWhenReadingIsOffered(t *testing.T) {
	near, _ := tcpPair(t)
	ready := func() (*Conn, *Consumer) {
		c, _ := offered(t)
		conn := c.ch.conn
		conn.in.more.init(near)
		c.enterLoop()
		c.receive(new(delivery))
		require.NoError(t, conn.handOver())
		conn.lead.last = time.Now().Add(time.Hour) // what follows is as close as can be
		return conn, c
	}
	conn, _ := ready()
	require.NotNil(t, conn.mayOffer())
	conn, c := ready()
	c.ch.ledger.add(1, 2, false) // one in the stream, and one in the loop's hands
	require.Same(t, c, conn.mayOffer())
	conn.lead.last = time.Now().Add(-denseGap)
	require.Nil(t, conn.mayOffer(), "what comes seldom")
	for name, unfit := range map[string]func(conn *Conn, c *Consumer){
		"not a socket": func(conn *Conn, _ *Consumer) { conn.in.more.raw = nil },
		"no loop":      func(conn *Conn, _ *Consumer) { conn.lead.loops.Store(0) },
		"two loops":    func(_ *Conn, c *Consumer) { c.enterLoop() },
		"a loop that waits": func(_ *Conn, c *Consumer) {
			for range c.stream.All() {
				break
			}
		},
		"the loop is another consumer's": func(conn *Conn, c *Consumer) { c.loops.Store(0) },
		"batches":                        func(conn *Conn, _ *Consumer) { conn.enterOther() },
		"others settle what it takes":    func(_ *Conn, c *Consumer) { c.ch.ledger.add(1, 3, false) },
		"a flood":                        func(conn *Conn, _ *Consumer) { conn.in.brimful = true },
		"it was in vain":                 func(conn *Conn, _ *Consumer) { conn.lead.skip = 1 },
		"somebody waits":                 func(conn *Conn, _ *Consumer) { conn.await(+1) },
		"closing":                        func(conn *Conn, _ *Consumer) { conn.closing.Store(true) },
		"a large frame": func(conn *Conn, _ *Consumer) {
			conn.in.buf = wire.AppendFrameHeader(nil, wire.FrameBody, 1, directSize)
			conn.in.w = len(conn.in.buf)
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, c := ready()
			unfit(conn, c)
			assert.Nil(t, conn.mayOffer())
		})
	}
}

// atWork is a connection in a bubble, and a consumer whose loop has been given a message. That lead does not say so
// shows who looks there while it is a loop that may write it.
func atWork() (*Conn, *Consumer) {
	conn, consumers := readerOf(nil)
	consumers[0].stream.Push(new(delivery))
	return conn, consumers[0]
}

// offering runs offer in a bubble, with what the loop does meanwhile.
func offering(t *testing.T, meanwhile func(conn *Conn, l *lead)) (owed bool, took time.Duration) {
	synctest.Test(t, func(*testing.T) {
		conn, c := atWork()
		conn.lead.err = io.EOF
		begin := time.Now()
		over := make(chan struct{})
		go func() {
			defer close(over)
			var err error
			owed, err = conn.offer(c)
			assert.ErrorIs(t, err, io.EOF, "what the loop met")
			took = time.Since(begin)
		}()
		synctest.Wait()
		meanwhile(conn, &conn.lead)
		<-over
		assert.Equal(t, ledByReader, conn.lead.state.Load())
		assert.False(t, conn.lead.wanted.Load())
	})
	return owed, took
}

func TestTheReaderReadsWhenNobodyDoes(t *testing.T) {
	owed, took := offering(t, func(*Conn, *lead) {})
	assert.False(t, owed)
	assert.Equal(t, shortNap, took)
}

func TestTheReaderReadsWhenItIsWanted(t *testing.T) {
	owed, took := offering(t, func(conn *Conn, _ *lead) { conn.claim() })
	assert.True(t, owed)
	assert.Zero(t, took)
	owed, took = offering(t, func(_ *Conn, l *lead) {
		l.wake() // which is nothing yet
		time.Sleep(shortNap / 2)
		l.state.Store(ledOwed)
		l.wake()
	})
	assert.True(t, owed)
	assert.Equal(t, shortNap/2, took)
}

func TestWhoHasComeBeforeTheOfferClaimsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, c := atWork()
		conn.await(+1)
		begin := time.Now()
		owed, err := conn.offer(c)
		require.NoError(t, err)
		assert.True(t, owed)
		assert.Zero(t, time.Since(begin))
		conn.lead.awaitLeave() // there is no loop that could leave
	})
}

func TestAnOfferThatNobodyTookIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, c := atWork()
		conn.lead.fed = c
		owed, err := conn.offer(c)
		require.NoError(t, err)
		assert.False(t, owed)
		assert.Nil(t, conn.lead.fed, "before there is something new")
	})
}

// A loop that was faster than the offer may wait already, and would wait for the time of a nap.
func TestALoopThatHasLookedBeforeTheOfferDoesNotWaitForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, c := atWork()
		for range c.stream.All() {
			break
		}
		begin := time.Now()
		owed, err := conn.offer(c)
		require.NoError(t, err)
		assert.True(t, owed)
		assert.Zero(t, time.Since(begin))
	})
}

// A loop whose messages others settle is not asked again and again.
func TestALoopThatIsNotToReadIsAskedLessAndLess(t *testing.T) {
	c, _ := offered(t)
	l := &c.ch.conn.lead
	c.ch.ledger.add(1, 1, false)
	last := 0
	for range 5 {
		l.state.Store(ledByNobody)
		c.ch.conn.readFor(c)
		assert.Greater(t, l.skip, last)
		last = l.skip
	}
	for range 100 {
		l.state.Store(ledByNobody)
		c.ch.conn.readFor(c)
	}
	assert.LessOrEqual(t, l.skip, 1<<12)
	c.ch.ledger.void()
	c.stop(nil)
	_, err := c.ch.conn.readUntil(c)
	require.NoError(t, err)
	assert.Zero(t, l.vain, "it has settled all")
}

func TestAConsumerThatHasEndedIsNotReadFor(t *testing.T) {
	c, _ := offered(t)
	c.stop(nil)
	require.NoError(t, c.ch.conn.readOnce(c)) // at once
}

// While the loop reads a lot, the reader naps, and looks now and then whether it still does.
func TestTheReaderNapsWhileTheLoopReads(t *testing.T) {
	owed, took := offering(t, func(conn *Conn, l *lead) {
		l.state.Store(ledByLoop)
		for range 10_000 {
			time.Sleep(denseGap / 2)
			assert.False(t, l.wanted.Load())
			conn.in.reads.Add(1)
		}
		l.state.Store(ledByNobody)
	})
	assert.False(t, owed)
	assert.GreaterOrEqual(t, took, 5_000*denseGap)
	assert.LessOrEqual(t, took, 5_000*denseGap+longNap)
}

// When the loop waits for long, the reader sleeps until it has something, and reads from then on.
func TestTheReaderWantsToReadWhatComesSeldom(t *testing.T) {
	owed, took := offering(t, func(conn *Conn, l *lead) {
		l.state.Store(ledByLoop)
		time.Sleep(time.Hour)
		assert.True(t, l.wanted.Load())
		l.state.Store(ledByNobody)
		conn.unlessAlone()
	})
	assert.True(t, owed)
	assert.Equal(t, time.Hour, took)
}

// The reader has sent what the loop has acknowledged while it was at work.
func TestWhatALoopAcknowledgesAtWorkIsSentWithinANap(t *testing.T) {
	c, far := offered(t)
	conn := c.ch.conn
	c.ch.ledger.add(1, 1, false)
	env := &Envelope{DeliveryTag: 1, channel: c.ch}
	require.NoError(t, env.Ack())
	c.stream.Push(new(delivery))
	owed, err := conn.offer(c)
	require.NoError(t, err)
	assert.False(t, owed)
	got := make([]byte, len(wire.AppendAck(nil, 1, 1, false)))
	_, err = io.ReadFull(far, got)
	require.NoError(t, err)
	assert.Equal(t, wire.AppendAck(nil, 1, 1, false), got)
}
