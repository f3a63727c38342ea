#!/bin/sh
# Become the node: runs in a mount and a network namespace of its own and ends as the process that
# keeps them. All that the node's programs mount, write to /run, /var/lib and /var/log, or set up
# as interfaces, routes and iptables rules stays in here, and is gone when the last of them ends.
#
#   node.sh FOLDER CACHE PAUSE
#
# FOLDER holds the node's state, CACHE the programs, PAUSE is what waits at the end.
set -eu
node=$1 cache=$2 pause=$3
mkdir -p "$node/programs" "$node/run" "$node/lib" "$node/log" "$node/tunables"

# Volumes of Pods may ask for mount propagation, for which the root has to be shared: shared among
# the namespaces of Pods, that is, and not with the machine's, from which unshare has parted us.
mount --make-rshared /

# The cache may be in a folder that the next lines hide.
mount --bind "$cache" "$node/programs"
mount --bind "$node/run" /run
mount --bind "$node/lib" /var/lib
mount --bind "$node/log" /var/log

# The kubelet insists on these settings of the kernel, which belong to the machine: let it find
# what it wants to, and write where it changes nothing.
while read -r name value; do
	file=$node/tunables/$(echo "$name" | tr / .)
	echo "$value" >"$file"
	mount --bind "$file" "/proc/sys/$name"
done <<-END
	vm/overcommit_memory 1
	vm/panic_on_oom 0
	kernel/panic 10
	kernel/panic_on_oops 1
	kernel/keys/root_maxkeys 1000000
	kernel/keys/root_maxbytes 25000000
END

ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
touch "$node/ready"
exec "$pause"
