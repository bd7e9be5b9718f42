package rabbit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"time"
)

// ErrNoManagement is the error of calls that need the management API, when the
// node was started without it.
var ErrNoManagement = errors.New("rabbit: no management API: start the node with Options.Management, or set AMQP_MANAGEMENT_URL")

// client keeps no connection open, so that nothing is left when a call ends.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// Connection is what the management API knows of a client connection.
type Connection struct {
	Name             string         `json:"name"`               // addresses and ports
	ConnectionName   string         `json:"user_provided_name"` // the client property of that name
	User             string         `json:"user"`
	VirtualHost      string         `json:"vhost"`
	State            string         `json:"state"`
	Mechanism        string         `json:"auth_mechanism"`
	TLS              bool           `json:"ssl"`
	ChannelMax       int            `json:"channel_max"`
	FrameMax         int            `json:"frame_max"`
	Heartbeat        int            `json:"timeout"` // seconds
	Channels         int            `json:"channels"`
	ClientProperties map[string]any `json:"client_properties"`
}

// Queue is what the management API knows of a queue. Figures lag behind by up
// to a statistics interval, which is a second.
type Queue struct {
	Name      string         `json:"name"`
	Kind      string         `json:"type"` // classic, quorum or stream
	Durable   bool           `json:"durable"`
	Messages  int            `json:"messages"`
	Ready     int            `json:"messages_ready"`
	Unacked   int            `json:"messages_unacknowledged"`
	Consumers int            `json:"consumers"`
	Arguments map[string]any `json:"arguments"`
}

// Connections lists the connections, by statistics that lag behind by up to a
// second.
func (n *Node) Connections(ctx context.Context) ([]Connection, error) {
	var list []Connection
	return list, n.call(ctx, http.MethodGet, "/api/connections", nil, nil, &list)
}

// Connection waits until the broker lists a connection with this
// connection_name, for as long as ctx lasts.
func (n *Node) Connection(ctx context.Context, connectionName string) (Connection, error) {
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		list, err := n.Connections(ctx)
		if err != nil {
			return Connection{}, err
		}
		for _, c := range list {
			if c.ConnectionName == connectionName {
				return c, nil
			}
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return Connection{}, fmt.Errorf("rabbit: no connection is called %q: %w", connectionName, context.Cause(ctx))
		}
	}
}

// CloseConnection makes the broker close the connection with this
// connection_name: its client sees a 320 with the reason. It waits for the
// broker to list the connection first.
func (n *Node) CloseConnection(ctx context.Context, connectionName, reason string) error {
	c, err := n.Connection(ctx, connectionName)
	if err != nil {
		return err
	}
	header := http.Header{"X-Reason": {reason}}
	return n.call(ctx, http.MethodDelete, "/api/connections/"+url.PathEscape(c.Name), header, nil, nil)
}

// Queue looks a queue up.
func (n *Node) Queue(ctx context.Context, vhost, name string) (Queue, error) {
	var q Queue
	return q, n.call(ctx, http.MethodGet, "/api/queues/"+url.PathEscape(vhost)+"/"+url.PathEscape(name), nil, nil, &q)
}

// call makes one call of the management API. Answers other than 2xx are errors.
func (n *Node) call(ctx context.Context, method, path string, header http.Header, in, out any) error {
	if n.manager == nil {
		return ErrNoManagement
	}
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("rabbit: %s %s: %w", method, path, err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, n.manager.Scheme+"://"+n.manager.Host+path, body)
	if err != nil {
		return fmt.Errorf("rabbit: %w", err)
	}
	maps.Copy(req.Header, header)
	password, _ := n.manager.User.Password()
	req.SetBasicAuth(n.manager.User.Username(), password)
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("rabbit: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return fmt.Errorf("rabbit: %s %s: %w", method, path, err)
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("rabbit: %s %s: %s: %s", method, path, resp.Status, text)
	case out == nil:
		return nil
	}
	return json.Unmarshal(text, out)
}
