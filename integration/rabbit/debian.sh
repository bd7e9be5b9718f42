#!/bin/sh
# Runs a command with the RabbitMQ of a Debian release: debian.sh SUITE COMMAND ARG...
# As of November 2026, trixie has RabbitMQ 4.0 and sid 4.3. It needs Linux, root and debootstrap, and keeps the release,
# some 500 MB, in LEVERET_DEBIAN (by default /var/cache/leveret), from where the node's programs are run by chroot.
set -eu
suite=$1
shift
root=${LEVERET_DEBIAN:-/var/cache/leveret}/$suite

if [ ! -e "$root.complete" ]; then
	rm -rf "$root"
	mkdir -p "$root"
	debootstrap --variant=minbase --include=rabbitmq-server "$suite" "$root"
	# What is below root here is so there too, since a node is told where its files are.
	mkdir -p "$root$(dirname "$root")"
	ln -s / "$root$root"
	touch "$root.complete"
fi
cp /etc/hosts "$root/etc/hosts"
mkdir -p "$root/proc"
mount -t proc proc "$root/proc"
trap 'umount "$root/proc"' EXIT

home=$root.home
mkdir -p "$home/sbin"
for script in "$root"/usr/lib/rabbitmq/bin/*; do
	name=$(basename "$script")
	cat >"$home/sbin/$name" <<-END
		#!/bin/sh
		exec chroot "$root" /usr/bin/env PATH=/usr/lib/rabbitmq/bin:/usr/bin:/bin /usr/lib/rabbitmq/bin/$name "\$@"
	END
	chmod +x "$home/sbin/$name"
done
RABBITMQ_HOME=$home TMPDIR=$root/tmp AMQP_REQUIRED=1 "$@"
