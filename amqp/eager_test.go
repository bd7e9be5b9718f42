//go:build unix

package amqp

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tcpPair is a connection's two ends.
func tcpPair(t *testing.T) (near, far net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	far, err = net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	near, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

// A read that fills the buffer may have been the last for long: what it brought is given out all the same.
func TestWhatFillsTheBufferIsGivenOut(t *testing.T) {
	const size = 128
	body := pattern(size - len(deliver(1, 1, []byte{0}, readerFrameMax, nil)) + 1)
	for _, total := range []int{quietBuffer, 4 << 10, 64 << 10, busyBuffer, 2 * busyBuffer, 5 * busyBuffer, 40 * busyBuffer, 3*busyBuffer + size} {
		t.Run(fmt.Sprint(total, " bytes"), func(t *testing.T) {
			near, far := tcpPair(t)
			conn, consumers := readerOf(near)
			conn.in.more.init(near)
			conn.in.buf = make([]byte, busyBuffer)
			end := make(chan error, 1)
			go func() { end <- conn.readFrames() }()
			n := total / size / 2
			var stream []byte
			for i := range n {
				stream = append(stream, deliver(1, uint64(i+1), body, readerFrameMax, nil)...)
				stream = append(stream, deliver(2, uint64(i+1), body, readerFrameMax, nil)...)
			}
			require.Zero(t, len(stream)%size)
			_, err := far.Write(stream)
			require.NoError(t, err)
			took := make(chan int, 2)
			for _, c := range consumers {
				go func() {
					seen := 0
					for d := range c.stream.All() {
						if seen++; seen == n && d.DeliveryTag == uint64(n) {
							break
						}
					}
					took <- seen
				}()
			}
			for range consumers {
				select {
				case seen := <-took:
					require.Equal(t, n, seen)
				case <-time.After(time.Minute):
					t.Fatal("messages are kept back")
				}
			}
			require.NoError(t, far.Close())
			require.ErrorIs(t, <-end, io.EOF)
		})
	}
}

// Handing over is put off while there is more and nobody has got a handful, and not for ever.
func TestHandingOverIsPutOff(t *testing.T) {
	conn, consumers := readerOf(nil)
	require.False(t, conn.mayPutOff(), "nothing has come")
	consumers[0].receive(new(delivery))
	require.False(t, conn.mayPutOff(), "for one consumer, which a read brings a lot")
	consumers[1].receive(new(delivery))
	require.True(t, conn.mayPutOff())
	conn.putOff = putOffBytes
	require.False(t, conn.mayPutOff(), "for long")
	require.NoError(t, conn.handOver())
	require.Zero(t, conn.putOff)
	for range handful {
		consumers[0].receive(new(delivery))
	}
	consumers[1].receive(new(delivery))
	require.False(t, conn.mayPutOff(), "a handful is there")
}

// flood is a socket in which there is always more.
type flood struct {
	io.Reader
	eager    *eager
	first    *Consumer
	withheld int // bytes read before it had its message
}

func (f *flood) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if f.first.stream.Len() == 0 {
		f.withheld += n
	}
	return n, err
}

// raw is the flood for who never waits.
type raw struct{ *flood }

func (r raw) Read(func(uintptr) bool) (err error) {
	r.eager.n, err = r.flood.Read(r.eager.to)
	return err
}

func (r raw) Control(func(uintptr)) error    { return nil }
func (r raw) Write(func(uintptr) bool) error { return nil }

// However much there is, a message is put off for putOffBytes, and what a read brings.
func TestHandingOverIsPutOffForSoMuchAtMost(t *testing.T) {
	stream := deliver(1, 1, []byte("first"), readerFrameMax, nil)
	for tag := uint64(1); len(stream) < 4*putOffBytes; tag++ {
		stream = append(stream, deliver(2, tag, pattern(400), readerFrameMax, nil)...)
	}
	conn, consumers := readerOf(nil)
	f := &flood{Reader: bytes.NewReader(stream), eager: &conn.in.more, first: consumers[0]}
	conn.in.src, conn.in.more.raw = f, raw{f}
	require.ErrorIs(t, conn.readFrames(), io.EOF)
	require.Len(t, received(consumers[0]), 1)
	require.Greater(t, f.withheld, putOffBytes, "it was put off")
	require.LessOrEqual(t, f.withheld, putOffBytes+2*busyBuffer)
}
