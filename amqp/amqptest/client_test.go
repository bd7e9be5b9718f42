package amqptest

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leveret-mq/leveret/amqp/internal/wire"
)

// A testClient speaks the protocol frame by frame, on the test's own goroutine: what the broker sends is read when
// the test asks for it, in the order in which it came.
type testClient struct {
	t    *testing.T
	nc   net.Conn
	buf  []byte
	max  uint32
	caps wire.Table
}

// A received is a method from the broker, with its message if it carries one.
type received struct {
	channel uint16
	method  wire.Method
	props   wire.Properties
	body    string
}

// patience is how long the client waits for what has to come.
const patience = time.Minute

var allCapabilities = wire.Table{"authentication_failure_close": true, "consumer_cancel_notify": true, "connection.blocked": true,
	"publisher_confirms": true, "basic.nack": true}

// dialRaw connects in memory and says nothing yet.
func dialRaw(t *testing.T, b *Broker) *testClient {
	t.Helper()
	nc, err := b.Dial(t.Context(), "", "")
	require.NoError(t, err)
	return newClient(t, nc)
}

func newClient(t *testing.T, nc net.Conn) *testClient {
	c := &testClient{t: t, nc: nc, max: 131072, caps: allCapabilities}
	t.Cleanup(func() { _ = nc.Close() })
	return c
}

// dial connects in memory, logs in and opens channel 1.
func dial(t *testing.T, b *Broker) *testClient {
	t.Helper()
	c := dialRaw(t, b)
	c.login("guest", "guest", "/", 0)
	c.openChannel(1)
	return c
}

// dialTCP does what dial does over the network.
func dialTCP(t *testing.T, b *Broker) *testClient {
	t.Helper()
	nc, err := net.Dial("tcp", b.listener.Addr().String())
	require.NoError(t, err)
	c := newClient(t, nc)
	c.login("guest", "guest", "/", 0)
	c.openChannel(1)
	return c
}

func (c *testClient) startOk(user, password string) {
	c.t.Helper()
	c.write(wire.ProtocolHeader[:])
	expect[*wire.ConnectionStart](c)
	c.send(0, &wire.ConnectionStartOk{Mechanism: "PLAIN", Response: []byte("\x00" + user + "\x00" + password), Locale: "en_US",
		ClientProperties: wire.Table{"capabilities": c.caps, "connection_name": c.t.Name()}})
}

func (c *testClient) login(user, password, vhost string, heartbeat uint16) {
	c.t.Helper()
	c.startOk(user, password)
	tune := expect[*wire.ConnectionTune](c)
	c.send(0, &wire.ConnectionTuneOk{ChannelMax: tune.ChannelMax, FrameMax: tune.FrameMax, Heartbeat: heartbeat})
	c.send(0, &wire.ConnectionOpen{VirtualHost: vhost})
	expect[*wire.ConnectionOpenOk](c)
}

func (c *testClient) openChannel(id uint16) {
	c.t.Helper()
	c.send(id, &wire.ChannelOpen{})
	expect[*wire.ChannelOpenOk](c)
}

func (c *testClient) write(b []byte) {
	c.t.Helper()
	_, err := c.nc.Write(b)
	require.NoError(c.t, err)
}

func (c *testClient) send(channel uint16, m wire.Method) {
	c.t.Helper()
	frame, err := wire.AppendMethod(nil, channel, m)
	require.NoError(c.t, err)
	c.write(frame)
}

// call sends a method on channel 1 and returns what comes back.
func (c *testClient) call(m wire.Method) wire.Method {
	c.t.Helper()
	c.send(1, m)
	return c.receive().method
}

// publishOn publishes to a channel.
func (c *testClient) publishOn(channel uint16, p wire.BasicPublish, props *wire.Properties, body string) {
	c.t.Helper()
	frame, err := wire.AppendMethod(nil, channel, &p)
	require.NoError(c.t, err)
	frame, err = wire.AppendContentHeader(frame, channel, uint64(len(body)), props)
	require.NoError(c.t, err)
	c.write(wire.AppendBody(frame, channel, []byte(body), c.max))
}

// publish sends a message to a queue by the default exchange.
func (c *testClient) publish(queue, body string) {
	c.t.Helper()
	c.publishOn(1, wire.BasicPublish{RoutingKey: queue}, nil, body)
}

// publishWith sends a message with properties to a queue.
func (c *testClient) publishWith(queue, body string, props wire.Properties) {
	c.t.Helper()
	c.publishOn(1, wire.BasicPublish{RoutingKey: queue}, &props, body)
}

func (c *testClient) declare(queue string, arguments wire.Table) {
	c.t.Helper()
	c.send(1, &wire.QueueDeclare{Queue: queue, Arguments: arguments})
	expect[*wire.QueueDeclareOk](c)
}

func (c *testClient) consume(queue, tag string, more ...func(*wire.BasicConsume)) {
	c.t.Helper()
	m := &wire.BasicConsume{Queue: queue, ConsumerTag: tag}
	for _, f := range more {
		f(m)
	}
	c.send(1, m)
	expect[*wire.BasicConsumeOk](c)
}

func noAck(m *wire.BasicConsume) { m.NoAck = true }

// get fetches one message; nil when the queue is empty.
func (c *testClient) get(queue string) *received {
	c.t.Helper()
	c.send(1, &wire.BasicGet{Queue: queue})
	r := c.receive()
	if _, empty := r.method.(*wire.BasicGetEmpty); empty {
		return nil
	}
	require.IsType(c.t, &wire.BasicGetOk{}, r.method)
	return r
}

// bodies fetches and acks everything in a queue.
func (c *testClient) bodies(queue string) (list []string) {
	c.t.Helper()
	for {
		r := c.get(queue)
		if r == nil {
			return list
		}
		list = append(list, r.body)
		c.send(1, &wire.BasicAck{DeliveryTag: r.method.(*wire.BasicGetOk).DeliveryTag})
	}
}

// frame reads one frame, heartbeats too.
func (c *testClient) frame() (wire.FrameHeader, []byte, error) {
	for {
		if len(c.buf) >= wire.FrameHeaderSize {
			h := wire.ParseFrameHeader(c.buf)
			if size := int(h.Size) + wire.FrameOverhead; len(c.buf) >= size {
				payload := c.buf[wire.FrameHeaderSize : size-1]
				c.buf = c.buf[size:]
				return h, payload, nil
			}
		}
		chunk := make([]byte, 64<<10)
		n, err := c.nc.Read(chunk)
		c.buf = append(c.buf, chunk[:n]...)
		if err != nil && n == 0 {
			return wire.FrameHeader{}, nil, err
		}
	}
}

// next reads a method with its message; heartbeats are passed over.
func (c *testClient) next() (*received, error) {
	h, payload, err := c.frame()
	for err == nil && h.Type == wire.FrameHeartbeat {
		h, payload, err = c.frame()
	}
	if err != nil {
		return nil, err
	}
	m, err := wire.DecodeMethod(payload)
	require.NoError(c.t, err)
	r := &received{channel: h.Channel, method: m}
	if !carriesContent(m) {
		return r, nil
	}
	if _, payload, err = c.frame(); err != nil {
		return nil, err
	}
	header, err := wire.ParseContentHeader(payload)
	require.NoError(c.t, err)
	require.NoError(c.t, r.props.Decode(header.Properties, nil))
	for uint64(len(r.body)) < header.BodySize {
		if _, payload, err = c.frame(); err != nil {
			return nil, err
		}
		r.body += string(payload)
	}
	return r, nil
}

// receive reads the next method, which has to come.
func (c *testClient) receive() *received {
	c.t.Helper()
	_ = c.nc.SetReadDeadline(time.Now().Add(patience))
	r, err := c.next()
	require.NoError(c.t, err)
	return r
}

// expect reads the next method, which has to be one of this type.
func expect[M wire.Method](c *testClient) M {
	c.t.Helper()
	m, _ := expectMessage[M](c)
	return m
}

func expectMessage[M wire.Method](c *testClient) (M, *received) {
	c.t.Helper()
	r := c.receive()
	m, ok := r.method.(M)
	require.Truef(c.t, ok, "got %T %+v", r.method, r.method)
	return m, r
}

// deliveries reads so many deliveries and returns "tag:body" of each.
func (c *testClient) deliveries(n int) (list []string) {
	c.t.Helper()
	for range n {
		d, r := expectMessage[*wire.BasicDeliver](c)
		list = append(list, d.ConsumerTag+":"+r.body)
	}
	return list
}

// nothing makes a round trip and checks that nothing else came before its answer.
func (c *testClient) nothing() {
	c.t.Helper()
	c.send(1, &wire.BasicQos{PrefetchCount: 0})
	expect[*wire.BasicQosOk](c)
}

// closed reads until the connection ends and returns how.
func (c *testClient) closed() error {
	_ = c.nc.SetReadDeadline(time.Now().Add(patience))
	for {
		if _, _, err := c.frame(); err != nil {
			return err
		}
	}
}

// refused expects the channel to be closed with this code and text, and opens it again.
func (c *testClient) refused(code uint16, text string) {
	c.t.Helper()
	m := expect[*wire.ChannelClose](c)
	require.Equal(c.t, text, m.ReplyText)
	require.Equal(c.t, code, m.ReplyCode)
	c.send(1, &wire.ChannelCloseOk{})
	c.openChannel(1)
}

// refusedConnection expects the connection to be closed with this code and text.
func (c *testClient) refusedConnection(code uint16, text string) {
	c.t.Helper()
	m := expect[*wire.ConnectionClose](c)
	require.Equal(c.t, text, m.ReplyText)
	require.Equal(c.t, code, m.ReplyCode)
	c.send(0, &wire.ConnectionCloseOk{})
	require.Error(c.t, c.closed())
}

// memoryBroker is a broker without a listener that ends with the test.
func memoryBroker(t *testing.T, opts ...Option) *Broker {
	b := NewBroker(append([]Option{InMemory()}, opts...)...)
	t.Cleanup(b.Close)
	return b
}

// until waits for something to be true inside the broker.
func until(t *testing.T, b *Broker, what func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, b.Wait(ctx, what))
}
