package rabbit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writeConfig fills the node's directory: HOME, data, logs and configuration.
func (n *Node) writeConfig() error {
	for _, sub := range []string{"home", "mnesia", "log", "conf"} {
		if err := os.MkdirAll(filepath.Join(n.dir, sub), 0o700); err != nil {
			return err
		}
	}
	if n.opts.TLS {
		if err := n.writeCertificates(); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{"rabbitmq.conf": n.conf(), "enabled_plugins": n.enabledPlugins()} {
		if err := os.WriteFile(filepath.Join(n.dir, "conf", name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// conf is the text of rabbitmq.conf.
func (n *Node) conf() string {
	var b strings.Builder
	fmt.Fprintf(&b, "listeners.tcp.default = 127.0.0.1:%d\n", n.ports.amqp)
	if n.opts.Management {
		fmt.Fprintf(&b, "management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = %d\n", n.ports.management)
		// What the API tells is a second old at most, instead of five.
		b.WriteString("collect_statistics_interval = 1000\n")
		b.WriteString("management.sample_retention_policies.global.minute = 1\n")
		b.WriteString("management.sample_retention_policies.basic.minute = 1\n")
		b.WriteString("management.sample_retention_policies.detailed.10 = 1\n")
	}
	if n.opts.TLS {
		fmt.Fprintf(&b, "listeners.ssl.default = 127.0.0.1:%d\n", n.ports.tls)
		for option, file := range map[string]string{"cacertfile": "ca.pem", "certfile": "server.pem", "keyfile": "server.key"} {
			fmt.Fprintf(&b, "ssl_options.%s = %s\n", option, filepath.Join(n.dir, "conf", file))
		}
		b.WriteString("ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = false\n")
		b.WriteString("ssl_cert_login_from = common_name\n")
	}
	for i, mechanism := range n.mechanisms() {
		fmt.Fprintf(&b, "auth_mechanisms.%d = %s\n", i+1, mechanism)
	}
	b.WriteString(n.opts.Config)
	return b.String()
}

// mechanisms are the SASL mechanisms that the node offers. EXTERNAL comes from
// a plugin that needs TLS.
func (n *Node) mechanisms() []string {
	if n.opts.TLS {
		return []string{"EXTERNAL", "PLAIN", "AMQPLAIN"}
	}
	return []string{"PLAIN", "AMQPLAIN"}
}

// enabledPlugins is the text of the file of that name, an Erlang list.
func (n *Node) enabledPlugins() string {
	plugins := append([]string(nil), n.opts.Plugins...)
	if n.opts.Management {
		plugins = append(plugins, "rabbitmq_management")
	}
	if n.opts.TLS {
		plugins = append(plugins, "rabbitmq_auth_mechanism_ssl")
	}
	return "[" + strings.Join(plugins, ",") + "].\n"
}

// environ is the whole environment of the node and of its tools: nothing of
// the caller's own leaks in.
func (n *Node) environ() []string {
	in := func(parts ...string) string { return filepath.Join(append([]string{n.dir}, parts...)...) }
	return []string{
		"PATH=" + n.installed.path,
		"HOME=" + in("home"),
		"LANG=C.UTF-8",
		"RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_NODENAME=" + n.name,
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		fmt.Sprintf("RABBITMQ_NODE_PORT=%d", n.ports.amqp),
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", n.ports.distribution),
		fmt.Sprintf("RABBITMQ_CTL_DIST_PORT_MIN=%d", firstToolPort),
		fmt.Sprintf("RABBITMQ_CTL_DIST_PORT_MAX=%d", lastToolPort),
		fmt.Sprintf("ERL_EPMD_PORT=%d", n.ports.epmd),
		"ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_MNESIA_BASE=" + in("mnesia"),
		"RABBITMQ_LOG_BASE=" + in("log"),
		"RABBITMQ_PID_FILE=" + in("pid"),
		"RABBITMQ_CONFIG_FILE=" + in("conf", "rabbitmq"),
		"RABBITMQ_ADVANCED_CONFIG_FILE=" + in("conf", "advanced.config"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + in("conf", "enabled_plugins"),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
		"RABBITMQ_CTL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
		// The script then becomes the Erlang machine instead of its parent, so
		// that signals and the process id are the broker's own.
		"RUNNING_UNDER_SYSTEMD=true",
	}
}
