#!/bin/sh
# Set up the node. The script runs in a mount and a network namespace of its own, and finally
# executes the process that holds them. Mounts, interfaces, routes and iptables rules of the node's
# programs, and their files in /run, /var/lib and /var/log, stay inside the namespaces. The kernel
# removes them when the last process ends.
#
#   node.sh FOLDER CACHE PAUSE
#
# FOLDER holds the node's state, CACHE the programs. PAUSE is the program to execute finally.
set -eu
node=$1 cache=$2 pause=$3
mkdir -p "$node/programs" "$node/run" "$node/lib" "$node/log" "$node/tunables"

# Mount propagation of Pods' volumes needs a shared root. It is shared among the namespaces of Pods.
# It is not shared with the machine, since unshare made the mounts of this namespace private.
mount --make-rshared /

# The cache may be in a directory that the next lines hide.
mount --bind "$cache" "$node/programs"
mount --bind "$node/run" /run
mount --bind "$node/lib" /var/lib
mount --bind "$node/log" /var/log

# The kubelet requires these kernel settings, which are global to the machine. It reads and writes
# these files instead of the machine's settings.
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
