package rabbit

import (
	"context"
	"errors"
	"net/http"
	"net/url"
)

// Permissions are regular expressions for the names of the queues and
// exchanges that a user may do something to; "" matches none.
type Permissions struct {
	Configure string `json:"configure"` // declare and delete
	Write     string `json:"write"`     // publish and bind
	Read      string `json:"read"`      // consume, get and purge
}

// Everything is the permission to do all that a virtual host allows.
var Everything = Permissions{".*", ".*", ".*"}

// NewVhost creates a virtual host on which the node's login may do everything.
// A test with a virtual host of its own shares nothing with other tests.
func (n *Node) NewVhost(ctx context.Context, name string) error {
	if n.manager == nil {
		_, err := n.Ctl(ctx, "add_vhost", name)
		if err != nil {
			return hint(err)
		}
		return n.Permit(ctx, n.login(), name, Everything)
	}
	err := n.call(ctx, http.MethodPut, "/api/vhosts/"+url.PathEscape(name), nil, map[string]string{}, nil)
	if err != nil {
		return err
	}
	return n.Permit(ctx, n.login(), name, Everything)
}

// DeleteVhost deletes a virtual host with all that is in it.
func (n *Node) DeleteVhost(ctx context.Context, name string) error {
	if n.manager == nil {
		_, err := n.Ctl(ctx, "delete_vhost", name)
		return hint(err)
	}
	return n.call(ctx, http.MethodDelete, "/api/vhosts/"+url.PathEscape(name), nil, nil, nil)
}

// NewUser adds a user, who may do nothing yet. With an empty password, the user
// can log in by certificate alone.
func (n *Node) NewUser(ctx context.Context, name, password string) error {
	if n.manager == nil {
		_, err := n.Ctl(ctx, "add_user", name, password)
		return hint(err)
	}
	user := map[string]string{"password": password, "tags": ""}
	if password == "" {
		user = map[string]string{"password_hash": "", "tags": ""}
	}
	return n.call(ctx, http.MethodPut, "/api/users/"+url.PathEscape(name), nil, user, nil)
}

// DeleteUser deletes a user. Connections that are open stay.
func (n *Node) DeleteUser(ctx context.Context, name string) error {
	if n.manager == nil {
		_, err := n.Ctl(ctx, "delete_user", name)
		return hint(err)
	}
	return n.call(ctx, http.MethodDelete, "/api/users/"+url.PathEscape(name), nil, nil, nil)
}

// Permit says what a user may do in a virtual host.
func (n *Node) Permit(ctx context.Context, user, vhost string, p Permissions) error {
	if n.manager == nil {
		_, err := n.Ctl(ctx, "set_permissions", "-p", vhost, user, p.Configure, p.Write, p.Read)
		return hint(err)
	}
	return n.call(ctx, http.MethodPut, "/api/permissions/"+url.PathEscape(vhost)+"/"+url.PathEscape(user), nil, p, nil)
}

// login is the user that tests connect as.
func (n *Node) login() string {
	if n.external != nil && n.external.User != nil {
		return n.external.User.Username()
	}
	return "guest"
}

// hint explains why a virtual host cannot be had on the broker of AMQP_URL.
func hint(err error) error {
	if errors.Is(err, ErrNotPrivate) {
		return ErrNoManagement
	}
	return err
}
