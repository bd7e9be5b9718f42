package rabbit

import (
	"net/url"
	"strconv"
)

// AMQPPort is the port of the plain listener on 127.0.0.1; 0 for the broker of
// AMQP_URL.
func (n *Node) AMQPPort() int { return n.ports.amqp }

// TLSPort is the port of the TLS listener on 127.0.0.1; 0 without Options.TLS.
func (n *Node) TLSPort() int {
	if !n.opts.TLS {
		return 0
	}
	return n.ports.tls
}

// URI is the AMQP address of a virtual host, with a login.
func (n *Node) URI(vhost string) string {
	if n.external != nil {
		u := *n.external
		u.Path, u.RawPath = "/"+vhost, "/"+url.PathEscape(vhost)
		return u.String()
	}
	return "amqp://guest:guest@127.0.0.1:" + strconv.Itoa(n.ports.amqp) + "/" + url.PathEscape(vhost)
}

// TLSURI is the same by the TLS listener, with no login: the name is
// "localhost", and the certificates are [Node.Certificates].
func (n *Node) TLSURI(vhost string) string {
	return "amqps://localhost:" + strconv.Itoa(n.ports.tls) + "/" + url.PathEscape(vhost)
}

// ManagementURL is the base of the management API with its login; empty
// without Options.Management.
func (n *Node) ManagementURL() string {
	if n.manager == nil {
		return ""
	}
	return n.manager.String()
}
