//go:build unix

package main

import (
	"encoding/binary"
	"strconv"
	"time"
)

// queue is the one that connection i consumes from: each has its own, so that
// many connections do not meet in one queue at the broker.
func (m *meter) queue(i int) string {
	if i == 0 {
		return m.Queue
	}
	return m.Queue + "-" + strconv.Itoa(i)
}

// pace calls send at the job's rate with the time, until the job is over.
func (m *meter) pace(send func(now uint64) error) error {
	tick := time.NewTicker(time.Second / time.Duration(m.Rate))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-m.done:
			// One more wakes a consumer that waits, to see that it is over.
			return send(uint64(time.Since(m.began)))
		}
		if err := send(uint64(time.Since(m.began))); err != nil {
			return err
		}
	}
}

// since is how long ago the time in a body was.
func (m *meter) since(body []byte) time.Duration {
	return time.Since(m.began) - time.Duration(binary.BigEndian.Uint64(body))
}
