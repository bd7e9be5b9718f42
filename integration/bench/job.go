//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"time"
)

// Job is what a child process is told to do.
type Job struct {
	Client string // ours, official, raw, bound; rabbitmq-c is another program
	Kind   string // publish, confirm, waiters, consume, connections, channels, ranges, latency
	Addr   string
	TLS    bool   `json:",omitempty"`
	Vhost  string // "/", or the null broker's orders
	Queue  string

	Body  int  `json:",omitempty"`
	Props bool `json:",omitempty"` // content type, header table, delivery mode, message id

	Connections int // in use at the same time
	Channels    int // on each connection; in kind consume each has a consumer
	Goroutines  int // on each connection; those that publish

	Window   int           `json:",omitempty"` // unconfirmed messages at most
	NoAck    bool          `json:",omitempty"`
	Prefetch int           `json:",omitempty"`
	Hold     int           `json:",omitempty"` // a delivery is acknowledged when so many have come after it
	Work     time.Duration `json:",omitempty"` // what the consumer spends on a message
	Rate     int           `json:",omitempty"` // messages a second, in kind latency
	AtOnce   bool          `json:",omitempty"` // channels are opened all together, not in a row

	Messages int     `json:",omitempty"` // so many are enough
	Seconds  float64 // or so much time, when Messages is 0

	CPUProfile string `json:",omitempty"` // file
	MemProfile string `json:",omitempty"` // file: of every allocation, which slows the work down
}

// orders are what the null broker reads out of the name of the virtual host,
// which every client can set.
type orders struct {
	body   int
	props  bool
	count  int  // deliveries on the connection; 0: without end; below: none
	honour bool // heed prefetch and acks, instead of jumping over them
	lag    int  // so many messages stay unconfirmed while more come
}

func (o orders) vhost() string {
	flag := strconv.FormatBool
	return fmt.Sprintf("body=%d&props=%s&count=%d&honour=%s&lag=%d", o.body, flag(o.props), o.count, flag(o.honour), o.lag)
}

func parseOrders(vhost string) (o orders, err error) {
	q, err := url.ParseQuery(vhost)
	if err != nil {
		return o, err
	}
	o.body, _ = strconv.Atoi(q.Get("body"))
	o.count, _ = strconv.Atoi(q.Get("count"))
	o.lag, _ = strconv.Atoi(q.Get("lag"))
	o.props = q.Get("props") == "true"
	o.honour = q.Get("honour") == "true"
	return o, nil
}

// runChild does one job and prints its Result.
func runChild(text string) error {
	// The terminal's ^C is the parent's, who ends this process.
	signal.Ignore(os.Interrupt)
	var j Job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	work, ok := map[string]map[string]func(*meter) error{
		leveret: ours, amqp091: officials, floor: raws, bound: bounds,
	}[j.Client][j.Kind]
	if !ok {
		return fmt.Errorf("%s has no mode %q", j.Client, j.Kind)
	}
	m := newMeter(&j)
	if err := work(m); err != nil {
		return fmt.Errorf("%s: %w", j.Client, err)
	}
	return json.NewEncoder(os.Stdout).Encode(m.result())
}
