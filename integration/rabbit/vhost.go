package rabbit

import (
	"context"
	"errors"
	"net/http"
	"net/url"
)

// everything is the permission to do all that a virtual host allows.
var everything = map[string]string{"configure": ".*", "write": ".*", "read": ".*"}

// NewVhost creates a virtual host on which the node's login may do everything.
// A test with a virtual host of its own shares nothing with other tests.
func (n *Node) NewVhost(ctx context.Context, name string) error {
	if n.manager == nil {
		_, err := n.Ctl(ctx, "add_vhost", name)
		if err == nil {
			_, err = n.Ctl(ctx, "set_permissions", "-p", name, "guest", ".*", ".*", ".*")
		}
		return hint(err)
	}
	err := n.call(ctx, http.MethodPut, "/api/vhosts/"+url.PathEscape(name), nil, map[string]string{}, nil)
	if err != nil {
		return err
	}
	return n.permit(ctx, name, n.login())
}

// DeleteVhost deletes a virtual host with all that is in it.
func (n *Node) DeleteVhost(ctx context.Context, name string) error {
	if n.manager == nil {
		_, err := n.Ctl(ctx, "delete_vhost", name)
		return hint(err)
	}
	return n.call(ctx, http.MethodDelete, "/api/vhosts/"+url.PathEscape(name), nil, nil, nil)
}

// permit lets user do everything in a virtual host.
func (n *Node) permit(ctx context.Context, vhost, user string) error {
	return n.call(ctx, http.MethodPut, "/api/permissions/"+url.PathEscape(vhost)+"/"+url.PathEscape(user), nil, everything, nil)
}

// addUser adds a user without a tag who may do everything in "/". With an
// empty password, the user can log in by certificate alone.
func (n *Node) addUser(ctx context.Context, name, password string) error {
	if n.manager == nil {
		if _, err := n.Ctl(ctx, "add_user", name, password); err != nil {
			return err
		}
		_, err := n.Ctl(ctx, "set_permissions", "-p", "/", name, ".*", ".*", ".*")
		return err
	}
	user := map[string]string{"password": password, "tags": ""}
	if password == "" {
		user = map[string]string{"password_hash": "", "tags": ""}
	}
	if err := n.call(ctx, http.MethodPut, "/api/users/"+url.PathEscape(name), nil, user, nil); err != nil {
		return err
	}
	return n.permit(ctx, "/", name)
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
