"""The node: a mount and a network namespace, connected to this machine by a veth pair.

Because of its namespaces a node changes nothing of the machine: not its interfaces, its iptables
rules, its mounts, nor its /run and /var/lib. Several nodes can run beside each other, and each is
removed as a whole.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster import build
from tests.cluster.cgroups import ControlGroups
from tests.cluster.debian import Packages, packages
from tests.cluster.errors import ClusterError
from tests.cluster.paths import HERE, Layout, cache_root
from tests.cluster.plan import Network
from tests.cluster.processes import Daemon, run

PREPARE_SECONDS: Final = 15.0
# A machine loses these in a power failure: the runtime's sandboxes and containers, Pod networks.
CLEAR_MEMORY: Final = """\
for point in $(awk '$2 ~ "^/run/(containerd|netns)/" {print $2}' /proc/self/mounts | sort -r)
do umount --lazy "$point"; done
rm -rf /run/containerd /run/netns
"""


@dataclass(frozen=True)
class Node:
    """The namespaces, the veth pair and the control groups of one cluster's node."""

    name: str
    layout: Layout

    @property
    def interface(self) -> str:
        """The name of the interface on this machine: at most 15 characters, so a hash."""
        return f"ipl-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"

    @property
    def groups(self) -> ControlGroups:
        """Its control groups."""
        return ControlGroups(f"initpipeline-{self.name}")

    @property
    def holder(self) -> Daemon:
        """The process that holds its namespaces."""
        return Daemon("node", self.layout.pid_file("node"), self.layout.log("node"))

    @property
    def packages(self) -> Packages:
        """The container runtime, at its path inside the node."""
        return Packages(self.programs(packages().root))

    def programs(self, cached: Path) -> Path:
        """Return the path inside the node of a path in the cache, which /var may hide."""
        return self.layout.node / "programs" / cached.relative_to(cache_root())

    def exists(self) -> bool:
        """Return whether any part of the node exists, even if the cluster's files are lost."""
        return self._interface_exists() or self.groups.exist()

    def prepare(self, network: Network) -> None:
        """Create the namespaces and connect them, unless that was done before."""
        connected = self.layout.node / "connected"
        if not self.holder.running():
            connected.unlink(missing_ok=True)
            self._start_holder()
        if not connected.exists():
            self._connect(network)
            connected.touch()

    def remove(self) -> None:
        """Kill all processes of the node and remove it. Do nothing if it does not exist."""
        self._disconnect()
        self.groups.remove()
        self.holder.stop()

    def lose_power(self) -> None:
        """Kill all processes of Pods, and remove what a machine loses in a power failure.

        The kubelet and containerd must be stopped.
        """
        daemons = [Daemon(file.name, file, file) for file in self.layout.pid_files()]
        running = [process for process in (daemon.running() for daemon in daemons) if process]
        self.groups.end_all_but([process.pid for process in running])
        run(self.inside(["/bin/sh", "-c", CLEAR_MEMORY]), "removing the state in memory")

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return a command that executes the given one in the node, with the same pid."""
        holder = self.holder.running()
        if holder is None:
            raise self.holder.failure("it is not running")
        enter = ["nsenter", f"--target={holder.pid}", "--mount", "--net", "--wd=/"]
        path = f"PATH={self.packages.search_path}"
        return self.groups.joining([*enter, "--", "/usr/bin/env", path, *command])

    def _start_holder(self) -> None:
        self.groups.create()
        ready = self.layout.node / "ready"
        ready.unlink(missing_ok=True)
        pause = self.programs(build.PAUSE.cached()) / build.PAUSE.name
        script = ["/bin/sh", str(HERE / "node.sh"), str(self.layout.node), str(cache_root())]
        unshare = ["unshare", "--mount", "--net", "--propagation=private"]
        self.holder.start(self.groups.joining([*unshare, *script, str(pause)]))
        self.holder.wait(ready.exists, PREPARE_SECONDS, "it is ready")

    def _interface_exists(self) -> bool:
        return Path(f"/sys/class/net/{self.interface}").exists()

    def _disconnect(self) -> None:
        try:
            if self._interface_exists():
                run(["ip", "link", "delete", self.interface], "removing the node's interface")
        except ClusterError:
            if self._interface_exists():
                raise  # else the kernel removed it meanwhile, since its peer was gone

    def _connect(self, network: Network) -> None:
        """Connect the node by a veth pair, and add routes to its Pods and Services."""
        holder = self.holder.running()
        if holder is None:
            raise self.holder.failure("it has ended")
        self._disconnect()  # the node was killed, or an earlier call was interrupted
        link = f"link add {self.interface} type veth peer name eth0 netns {holder.pid}"
        for arguments in (
            link,
            f"address add {network.host}/30 dev {self.interface}",
            f"link set {self.interface} up",
        ):
            run(["ip", *arguments.split()], "connecting to the node")
        for arguments in (
            f"address add {network.node}/30 dev eth0",
            "link set eth0 up",
            f"route add default via {network.host}",
        ):
            run(self.inside(["ip", *arguments.split()]), "connecting the node")
        for destination in (network.services, network.pods):
            route = f"route add {destination} via {network.node} dev {self.interface}"
            run(["ip", *route.split()], "routing to the node")
