package amqp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp"
	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

func frame(typ byte, channel uint16, payload ...byte) []byte {
	b := wire.AppendFrameHeader(nil, typ, channel, uint32(len(payload)))
	return append(append(b, payload...), wire.FrameEnd)
}

func method(channel uint16, m wire.Method) []byte {
	b, err := wire.AppendMethod(nil, channel, m)
	if err != nil {
		panic(err)
	}
	return b
}

func header(channel uint16, size uint64) []byte {
	b, err := wire.AppendContentHeader(nil, channel, size, nil)
	if err != nil {
		panic(err)
	}
	return b
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// Each violation ends the connection with an error that names it, and with a
// connection.close that tells the peer.
func TestViolations(t *testing.T) {
	deliver := func(tag uint64) []byte { return wire.AppendDeliver(nil, 1, "c", tag, false, "", "") }
	wrongEnd := frame(wire.FrameMethod, 1, 0, 0, 0, 0)
	wrongEnd[len(wrongEnd)-1] = 0
	for name, c := range map[string]struct {
		bytes []byte
		says  string
	}{
		"frame over frame_max":        {wire.AppendFrameHeader(nil, wire.FrameBody, 1, 8185), "8185 bytes exceeds frame_max, which allows 8184"},
		"wrong end octet":             {wrongEnd, "ends with octet 0x0"},
		"channel that is not open":    {method(7, &wire.ChannelFlow{}), "channel 7, which is not open"},
		"channel beyond channel_max":  {frame(wire.FrameBody, 65535), "channel 65535, which is not open"},
		"header without method":       {header(1, 5), "belongs to no method"},
		"body without header":         {cat(deliver(1), frame(wire.FrameBody, 1, 1, 2)), "belongs to no header"},
		"body longer than declared":   {cat(deliver(1), header(1, 1), frame(wire.FrameBody, 1, 1, 2)), "exceeds the 1 bytes"},
		"method in a message":         {cat(deliver(1), method(1, &wire.ChannelFlow{})), "middle of a message"},
		"reply nobody asked for":      {method(1, &wire.QueueBindOk{}), "queue.bind-ok on channel 1, which answers nothing"},
		"get-ok nobody asked for":     {method(1, &wire.BasicGetOk{DeliveryTag: 1}), "basic.get-ok on channel 1, which answers nothing"},
		"close-ok nobody asked for":   {method(1, &wire.ChannelCloseOk{}), "channel.close-ok on channel 1"},
		"goodbye nobody asked for":    {method(0, &wire.ConnectionCloseOk{}), "connection.close-ok on channel 0, which answers nothing"},
		"reply of the connection's":   {method(0, &wire.ConnectionTune{}), "connection.tune on channel 0, which answers nothing"},
		"method of the client's":      {method(1, &wire.QueueDeclare{}), "queue.declare on channel 1, which answers nothing"},
		"channel method on channel 0": {method(0, &wire.ChannelClose{}), "channel.close on channel 0, which answers nothing"},
		"conn method on channel 1":    {method(1, &wire.ConnectionClose{}), "connection.close on channel 1, which answers nothing"},
		"ack never published":         {wire.AppendAck(nil, 1, 1, false), "confirmed message 1, and 0 were published"},
		"unknown consumer":            {wire.AppendDeliver(nil, 1, "other", 1, false, "", ""), `consumer "other", which does not exist`},
		"delivery tag 0":              {deliver(0), "delivery tag 0 after 0"},
		"delivery tags going back":    {cat(deliver(2), header(1, 0), deliver(1)), "delivery tag 1 after 2"},
		"delivery tag twice":          {cat(deliver(2), header(1, 0), deliver(2)), "delivery tag 2 after 2"},
		"delivery tag at the end":     {deliver(math.MaxUint64), "delivery tag 18446744073709551615"},
		"heartbeat on channel 3":      {frame(wire.FrameHeartbeat, 3), "type 8 on channel 3"},
		"heartbeat on channel 1":      {frame(wire.FrameHeartbeat, 1), "type 8 on channel 1"},
		"unknown frame type":          {frame(5, 1, 1, 2, 3), "type 5 on channel 1"},
		"unknown type on channel 0":   {frame(5, 0), "type 5 on channel 0"},
		"header on channel 0":         {header(0, 1), "type 2 on channel 0"},
		"body on channel 0":           {frame(wire.FrameBody, 0, 1), "type 3 on channel 0"},
		"unknown method":              {frame(wire.FrameMethod, 1, 0, 60, 0, 99), "60/99"},
		"unknown method on channel 0": {frame(wire.FrameMethod, 0, 0, 99, 0, 1), "99/1"},
		"method that is cut short":    {frame(wire.FrameMethod, 1, 0, 60, 0, 60, 200), "basic.deliver"},
		"method that is too long":     {frame(wire.FrameMethod, 1, 0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0), "basic.ack"},
		"method without an id":        {frame(wire.FrameMethod, 1, 0, 60), "channel 1"},
		"TLS":                         {[]byte{21, 3, 3, 0, 2, 2, 40}, "Config.TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, polite := range []bool{false, true} {
				began := time.Time{}
				took := time.Duration(0)
				err := against(t, amqp.Config{CloseTimeout: 3 * time.Second}, func(p *peer) {
					p.consumer()
					began = time.Now()
					p.raw(c.bytes)
					if polite {
						return
					}
					m := expect[*wire.ConnectionClose](p, 0)
					assert.Equal(t, uint16(amqp.SyntaxError), m.ReplyCode)
					assert.Contains(t, m.ReplyText, "protocol violation")
					_ = p.conn.Close()
				}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
					return ch.WithConsumer(ctx, amqp.Consume{Queue: "q", Tag: "c"}, func(c *amqp.Consumer) error {
						defer func() { took = time.Since(began) }()
						for range c.Messages() { // until the end
						}
						return nil
					})
				}))
				says(t, err, []error{amqp.ErrProtocol, amqp.ErrConnectionClosed}, c.says)
				assert.LessOrEqual(t, took, 3*time.Second)
			}
		})
	}
}

// A large body goes past the read buffer, and its end is checked there.
func TestWrongEndOctetOfALargeBody(t *testing.T) {
	err := against(t, amqp.Config{}, func(p *peer) {
		p.tune.FrameMax = 1 << 20
		p.consumer()
		const size = 600_000 // more than any buffer has
		b := wire.AppendDeliver(nil, 1, "c", 1, false, "", "")
		b = append(append(b, header(1, size)...), frame(wire.FrameBody, 1, make([]byte, size)...)...)
		b[len(b)-1] = 0xCD
		p.raw(b)
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Tag: "c"}, func(c *amqp.Consumer) error {
			for range c.Messages() {
				t.Error("the message was given out")
			}
			return c.Err()
		})
	}))
	says(t, err, []error{amqp.ErrProtocol, amqp.ErrConnectionClosed}, "a body frame on channel 1 ends with octet 0xcd")
}

// A broker that heeds no prefetch is not buffered for without end.
func TestMessagesBeyondThePrefetch(t *testing.T) {
	const sent = 1 + math.MaxUint16 + 1
	err := against(t, amqp.Config{}, func(p *peer) {
		p.consumer()
		for tag := uint64(1); tag <= sent; tag++ {
			p.message(1, "c", tag, "")
		}
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Tag: "c", Prefetch: 1}, func(c *amqp.Consumer) error {
			<-c.Context().Done()
			return nil
		})
	}))
	says(t, err, []error{amqp.ErrProtocol, amqp.ErrConnectionClosed}, `consumer "c" 65537 messages ahead, beyond its prefetch of 1`)
}

// A peer that reads nothing holds up the end no longer than CloseTimeout.
func TestAViolationOfADeafPeer(t *testing.T) {
	took := time.Duration(0)
	err := against(t, amqp.Config{CloseTimeout: 3 * time.Second}, func(p *peer) {
		p.channel()
		p.deaf.Store(true)
		p.say(1, &wire.ChannelFlow{Active: true}) // whose answer is read last
		synctest.Wait()
		began := time.Now()
		p.raw(frame(5, 1))
		<-p.over
		took = time.Since(began)
	}, inChannel(func(_ context.Context, ch *amqp.Channel) error {
		<-ch.Context().Done()
		return nil
	}))
	says(t, err, []error{amqp.ErrProtocol})
	assert.Equal(t, 3*time.Second, took)
}

func TestMessagesLargerThanMaxMessageSize(t *testing.T) {
	for _, size := range []uint64{1001, 1 << 63, math.MaxUint64} {
		err := against(t, amqp.Config{MaxMessageSize: 1000}, func(p *peer) {
			p.consumer()
			p.raw(cat(wire.AppendDeliver(nil, 1, "c", 1, false, "", ""), header(1, size)))
			assert.Equal(t, uint16(amqp.ContentTooLarge), expect[*wire.ConnectionClose](p, 0).ReplyCode)
		}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
			return ch.WithConsumer(ctx, amqp.Consume{Tag: "c"}, func(c *amqp.Consumer) error {
				<-c.Context().Done()
				return nil
			})
		}))
		says(t, err, []error{amqp.ErrMessageTooLarge, amqp.ErrConnectionClosed}, "MaxMessageSize allows 1000")
	}
}

// What arrived before the violation is not lost to the program.
func TestMessagesBeforeAViolationAreGivenOut(t *testing.T) {
	var got []string
	err := against(t, amqp.Config{}, func(p *peer) {
		p.consumer()
		p.raw(cat(message(1, "c", 1, "one"), message(1, "c", 2, "two")))
		synctest.Wait()
		p.raw(frame(5, 1))
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithConsumer(ctx, amqp.Consume{Tag: "c"}, func(c *amqp.Consumer) error {
			for body := range c.Messages() {
				got = append(got, string(body))
			}
			assert.ErrorIs(t, c.Err(), amqp.ErrProtocol)
			return nil
		})
	}))
	require.ErrorIs(t, err, amqp.ErrProtocol)
	assert.Equal(t, []string{"one", "two"}, got)
}

// confirms runs a script against a body that publishes in confirm mode.
func confirms(t *testing.T, messages int, script func(*peer)) error {
	return against(t, amqp.Config{}, func(p *peer) {
		p.channel()
		expect[*wire.ConfirmSelect](p, 1)
		p.say(1, &wire.ConfirmSelectOk{})
		for range messages {
			p.content(1)
		}
		script(p)
	}, inChannel(func(ctx context.Context, ch *amqp.Channel) error {
		return ch.WithPublisher(ctx, amqp.PublisherOptions{}, func(pub *amqp.Publisher) error {
			for range messages {
				if _, err := pub.Publish(ctx, "x", "k", amqp.Message{Body: []byte("m")}); err != nil {
					return err
				}
			}
			<-ch.Context().Done()
			return nil
		})
	}))
}

func TestConfirmsThatMakeNoSense(t *testing.T) {
	for text, frames := range map[string][]byte{
		"confirmed message 4, and 3 were published": wire.AppendAck(nil, 1, 4, false),
		"confirmed message 9, and 3 were published": wire.AppendNack(nil, 1, 9, true, false),
		"confirmed message 2 twice":                 cat(wire.AppendAck(nil, 1, 2, false), wire.AppendAck(nil, 1, 2, false)),
		"confirmed message 1 twice":                 cat(wire.AppendAck(nil, 1, 2, true), wire.AppendAck(nil, 1, 1, false)),
		"confirmed the messages up to 2 twice":      cat(wire.AppendAck(nil, 1, 2, true), wire.AppendAck(nil, 1, 2, true)),
		"basic.ack: ":                               frame(wire.FrameMethod, 1, 0, 60, 0, 80, 1),
	} {
		err := confirms(t, 3, func(p *peer) { p.raw(frames) })
		says(t, err, []error{amqp.ErrProtocol, amqp.ErrUnconfirmed}, text)
	}
}

// --- The handshake ---

func TestEarlyEndsOfTheHandshake(t *testing.T) {
	for name, c := range map[string]struct {
		script func(*peer)
		says   []string
	}{
		"before start": {func(p *peer) { p.next() }, []string{"waiting for connection.start", "EOF"}},
		"after start": {func(p *peer) {
			p.next()
			p.say(0, &p.start)
			expect[*wire.ConnectionStartOk](p, 0)
		}, []string{`logging in as "guest" by PLAIN`, "login was probably refused"}},
		"after tune": {func(p *peer) {
			p.next()
			p.say(0, &p.start)
			expect[*wire.ConnectionStartOk](p, 0)
			p.say(0, &p.tune)
			expect[*wire.ConnectionTuneOk](p, 0)
			expect[*wire.ConnectionOpen](p, 0)
		}, []string{`opening the virtual host "vh"`, `perhaps because "guest" may not use the virtual host "vh"`}},
		"within a frame": {func(p *peer) {
			p.next()
			p.raw(method(0, &p.start)[:20])
		}, []string{"waiting for connection.start", "EOF"}},
	} {
		t.Run("EOF "+name, func(t *testing.T) {
			err := against(t, amqp.Config{VirtualHost: "vh"}, func(p *peer) {
				c.script(p)
				_ = p.conn.Close()
			}, idle)
			says(t, err, []error{io.EOF}, append(c.says, "amqp: connect to localhost:5672")...)
		})
		t.Run("silence "+name, func(t *testing.T) {
			took := time.Duration(0)
			err := against(t, amqp.Config{VirtualHost: "vh", DialTimeout: 7 * time.Second}, func(p *peer) {
				began := time.Now()
				c.script(p)
				for range p.frames { // until the client hangs up
				}
				took = time.Since(began)
			}, idle)
			says(t, err, []error{context.DeadlineExceeded}, "no connection within DialTimeout, 7s", c.says[0])
			assert.Equal(t, 7*time.Second, took)
		})
		t.Run("heartbeats "+name, func(t *testing.T) {
			err := against(t, amqp.Config{VirtualHost: "vh", DialTimeout: 7 * time.Second}, func(p *peer) {
				c.script(p)
				for {
					if _, err := p.conn.Write(wire.AppendHeartbeat(nil)); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			}, idle)
			require.Error(t, err)
		})
		if name == "within a frame" {
			continue
		}
		t.Run("exception "+name, func(t *testing.T) {
			err := against(t, amqp.Config{VirtualHost: "vh"}, func(p *peer) {
				c.script(p)
				p.say(0, &wire.ConnectionClose{ReplyCode: 403, ReplyText: "ACCESS_REFUSED - no"})
				expect[*wire.ConnectionCloseOk](p, 0)
			}, idle)
			says(t, err, []error{amqp.AccessRefused, amqp.ErrConnectionClosed}, "ACCESS_REFUSED - no", c.says[0])
		})
		t.Run("another method "+name, func(t *testing.T) {
			err := against(t, amqp.Config{VirtualHost: "vh"}, func(p *peer) {
				c.script(p)
				p.say(0, &wire.QueueDeclareOk{})
			}, idle)
			says(t, err, []error{amqp.ErrProtocol}, "the broker sent queue.declare-ok", c.says[0])
		})
		t.Run("another channel "+name, func(t *testing.T) {
			err := against(t, amqp.Config{VirtualHost: "vh"}, func(p *peer) {
				c.script(p)
				p.say(1, &p.start)
			}, idle)
			says(t, err, []error{amqp.ErrProtocol}, "frame of type 1 on channel 1", c.says[0])
		})
	}
}

func TestConnectionStartThatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		start func(*wire.ConnectionStart)
		says  string
	}{
		"version":    {func(s *wire.ConnectionStart) { s.VersionMinor = 8 }, "AMQP 0.8, not 0.9.1"},
		"mechanisms": {func(s *wire.ConnectionStart) { s.Mechanisms = "EXTERNAL" }, `["EXTERNAL"], and Config.Auth has ["PLAIN"]`},
		"too large": {func(s *wire.ConnectionStart) {
			s.ServerProperties = amqp.Table{"x": strings.Repeat("x", 200<<10)}
		}, "exceeds frame_max"},
	} {
		t.Run(name, func(t *testing.T) {
			err := against(t, amqp.Config{}, func(p *peer) {
				p.next()
				c.start(&p.start)
				p.say(0, &p.start)
			}, idle)
			says(t, err, nil, c.says)
		})
	}
}

func TestTuning(t *testing.T) {
	for _, c := range []struct {
		name  string
		cfg   amqp.Config
		tune  wire.ConnectionTune
		want  amqp.Tuning
		error string
	}{
		{name: "no limits", want: amqp.Tuning{ChannelMax: 65535, FrameMax: 128<<20 + 8}},
		{name: "messages are smaller", cfg: amqp.Config{MaxMessageSize: 1 << 20}, tune: wire.ConnectionTune{FrameMax: 4 << 20},
			want: amqp.Tuning{ChannelMax: 65535, FrameMax: 1<<20 + 8}},
		{name: "the broker's", tune: wire.ConnectionTune{ChannelMax: 2047, FrameMax: 131072, Heartbeat: 60},
			want: amqp.Tuning{ChannelMax: 2047, FrameMax: 131072, Heartbeat: time.Minute}},
		{name: "the client's", cfg: amqp.Config{ChannelMax: 9, FrameMax: 9000, Heartbeat: 1500 * time.Millisecond},
			tune: wire.ConnectionTune{ChannelMax: 2047, FrameMax: 131072, Heartbeat: 60},
			want: amqp.Tuning{ChannelMax: 9, FrameMax: 9000, Heartbeat: 2 * time.Second}},
		{name: "the client's alone", cfg: amqp.Config{ChannelMax: 9, FrameMax: 9000, Heartbeat: time.Second},
			want: amqp.Tuning{ChannelMax: 9, FrameMax: 9000, Heartbeat: time.Second}},
		{name: "no heartbeat", cfg: amqp.Config{Heartbeat: -1}, tune: wire.ConnectionTune{FrameMax: 131072, Heartbeat: 60},
			want: amqp.Tuning{ChannelMax: 65535, FrameMax: 131072}},
		{name: "absurdly much", cfg: amqp.Config{MaxMessageSize: math.MaxInt32}, tune: wire.ConnectionTune{ChannelMax: 65535, FrameMax: math.MaxUint32, Heartbeat: 65535},
			want: amqp.Tuning{ChannelMax: 65535, FrameMax: math.MaxInt32, Heartbeat: 65535 * time.Second}},
		{name: "absurdly little", tune: wire.ConnectionTune{FrameMax: 1}, error: "frames of 1 bytes"},
		{name: "too little", tune: wire.ConnectionTune{FrameMax: 4095}, error: "frames of 4095 bytes"},
		{name: "as little as may be", tune: wire.ConnectionTune{ChannelMax: 1, FrameMax: 4096, Heartbeat: 1},
			want: amqp.Tuning{ChannelMax: 1, FrameMax: 4096, Heartbeat: time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got amqp.Tuning
			err := against(t, c.cfg, func(p *peer) {
				p.tune = c.tune
				if c.error != "" {
					p.next()
					p.say(0, &p.start)
					expect[*wire.ConnectionStartOk](p, 0)
					p.say(0, &p.tune)
					return
				}
				p.greet()
			}, func(_ context.Context, conn *amqp.Conn) error {
				got = conn.Tuning()
				return nil
			})
			if c.error != "" {
				says(t, err, []error{amqp.ErrProtocol}, c.error)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

// A broker that allows frames of 4 GiB can't have the client make room for one.
func TestAHugeFrameMaxIsNoReasonToAllocate(t *testing.T) {
	err := against(t, amqp.Config{MaxMessageSize: 1 << 20}, func(p *peer) {
		p.tune.FrameMax = math.MaxUint32
		p.channel()
		p.raw(wire.AppendFrameHeader(nil, wire.FrameMethod, 1, math.MaxUint32-8))
	}, inChannel(func(_ context.Context, ch *amqp.Channel) error {
		<-ch.Context().Done()
		return nil
	}))
	says(t, err, []error{amqp.ErrProtocol}, "exceeds")
}

// talkative is a mechanism that answers any challenge.
type talkative struct{}

func (talkative) Name() string { return "TALK" }
func (talkative) Respond(login, password string, challenge []byte) ([]byte, error) {
	if challenge == nil {
		return []byte("hello"), nil
	}
	if string(challenge) == "fail" {
		return nil, errors.New("the challenge is wrong")
	}
	return append([]byte("re: "), challenge...), nil
}

func TestChallenges(t *testing.T) {
	cfg := amqp.Config{Auth: []amqp.Mechanism{talkative{}}}
	begin := func(p *peer) {
		p.next()
		p.start.Mechanisms = "PLAIN TALK"
		p.say(0, &p.start)
		assert.Equal(t, "hello", string(expect[*wire.ConnectionStartOk](p, 0).Response))
	}
	require.NoError(t, against(t, cfg, func(p *peer) {
		begin(p)
		for _, challenge := range []string{"one", ""} {
			p.say(0, &wire.ConnectionSecure{Challenge: []byte(challenge)})
			assert.Equal(t, "re: "+challenge, string(expect[*wire.ConnectionSecureOk](p, 0).Response))
		}
		p.say(0, &p.tune)
		expect[*wire.ConnectionTuneOk](p, 0)
		expect[*wire.ConnectionOpen](p, 0)
		p.say(0, &wire.ConnectionOpenOk{})
	}, func(context.Context, *amqp.Conn) error { return nil }))

	err := against(t, cfg, func(p *peer) {
		begin(p)
		for {
			p.say(0, &wire.ConnectionSecure{Challenge: []byte("again")})
			if _, ok := <-p.frames; !ok {
				return
			}
		}
	}, idle)
	says(t, err, []error{amqp.ErrProtocol}, `logging in as "guest" by TALK`, "asks on and on")

	err = against(t, cfg, func(p *peer) {
		begin(p)
		p.say(0, &wire.ConnectionSecure{Challenge: []byte("fail")})
	}, idle)
	says(t, err, nil, "login mechanism TALK: the challenge is wrong")
}

func TestCredentialsAreAskedAtEveryConnect(t *testing.T) {
	cfg := amqp.Config{Password: "stale", Credentials: func(context.Context) (string, string, error) { return "me", "fresh", nil }}
	require.NoError(t, against(t, cfg, func(p *peer) {
		p.next()
		p.say(0, &p.start)
		assert.Equal(t, "\x00me\x00fresh", string(expect[*wire.ConnectionStartOk](p, 0).Response))
		p.say(0, &p.tune)
		expect[*wire.ConnectionTuneOk](p, 0)
		expect[*wire.ConnectionOpen](p, 0)
		p.say(0, &wire.ConnectionOpenOk{})
	}, func(context.Context, *amqp.Conn) error { return nil }))
	refused := errors.New("no token")
	cfg.Credentials = func(context.Context) (string, string, error) { return "", "", refused }
	err := against(t, cfg, func(p *peer) {
		p.next()
		p.say(0, &p.start)
	}, idle)
	says(t, err, []error{refused}, "Config.Credentials")
}
