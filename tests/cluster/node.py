"""The node: a mount and a network namespace, a cable to this machine, and what runs inside.

A node in namespaces of its own touches nothing of the machine's: not its interfaces' addresses,
its iptables rules, its mounts, nor its /run and /var/lib. Any number of them fit beside each other
and beside whatever else runs here, and each goes away as a whole.
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
# What is in a machine's memory alone: the runtime's sandboxes and containers, networks of Pods.
FORGET: Final = """\
for point in $(awk '$2 ~ "^/run/(containerd|netns)/" {print $2}' /proc/self/mounts | sort -r)
do umount --lazy "$point"; done
rm -rf /run/containerd /run/netns
"""


@dataclass(frozen=True)
class Node:
    """The namespaces, the cable and the control groups of one cluster's node."""

    name: str
    layout: Layout

    @property
    def cable(self) -> str:
        """The interface on this machine's side; 15 characters at most, so a hash of the name."""
        return f"ipl-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"

    @property
    def groups(self) -> ControlGroups:
        """Its control groups."""
        return ControlGroups(f"initpipeline-{self.name}")

    @property
    def holder(self) -> Daemon:
        """The process that keeps its namespaces."""
        return Daemon("node", self.layout.pid_file("node"), self.layout.log("node"))

    @property
    def packages(self) -> Packages:
        """The container runtime, where the node finds it."""
        return Packages(self.programs(packages().root))

    def programs(self, cached: Path) -> Path:
        """Where the node finds what is in the cache: its own /var may hide the cache."""
        return self.layout.node / "programs" / cached.relative_to(cache_root())

    def there(self) -> bool:
        """Whether anything of it is there, whatever its cluster's files say."""
        return self._cable_there() or self.groups.exist()

    def prepare(self, network: Network) -> None:
        """Make the namespaces and lay the cable, unless they are there."""
        cabled = self.layout.node / "cabled"
        if not self.holder.running():
            cabled.unlink(missing_ok=True)
            self._start_holder()
        if not cabled.exists():
            self._lay_cable(network)
            cabled.touch()

    def remove(self) -> None:
        """End all that runs in the node and remove it; nothing happens where there is none."""
        self._remove_cable()
        self.groups.remove()
        self.holder.stop()

    def lose_power(self) -> None:
        """End all of its Pods' processes and forget what a machine forgets when it is rebooted. To
        be done while the kubelet and containerd are stopped."""
        daemons = [Daemon(file.name, file, file) for file in self.layout.pid_files()]
        running = [process for process in (daemon.running() for daemon in daemons) if process]
        self.groups.end_all_but([process.pid for process in running])
        run(self.inside(["/bin/sh", "-c", FORGET]), "forgetting what was in memory")

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command that runs this one in the node, as its own process with its own pid."""
        holder = self.holder.running()
        if holder is None:
            raise self.holder.failure("is not running")
        enter = ["nsenter", f"--target={holder.pid}", "--mount", "--net", "--wd=/"]
        path = f"PATH={self.packages.search_path}"
        return self.groups.joining([*enter, "--", "/usr/bin/env", path, *command])

    def _start_holder(self) -> None:
        self.groups.create()
        ready = self.layout.node / "ready"
        ready.unlink(missing_ok=True)
        pause = self.programs(build.PAUSE.cached()) / build.PAUSE.name
        script = ["/bin/sh", str(HERE / "node.sh"), str(self.layout.node), str(cache_root())]
        apart = ["unshare", "--mount", "--net", "--propagation=private"]
        self.holder.start(self.groups.joining([*apart, *script, str(pause)]))
        self.holder.wait(ready.exists, PREPARE_SECONDS, "not ready")

    def _cable_there(self) -> bool:
        return Path(f"/sys/class/net/{self.cable}").exists()

    def _remove_cable(self) -> None:
        try:
            if self._cable_there():
                run(["ip", "link", "delete", self.cable], "removing the cable to the node")
        except ClusterError:
            if self._cable_there():
                raise  # else the kernel removed it just then, for its other end was gone

    def _lay_cable(self, network: Network) -> None:
        """Connect the node, and route to its Pods and Services by way of it."""
        holder = self.holder.running()
        if holder is None:
            raise self.holder.failure("ended")
        self._remove_cable()  # of a node that was killed, or one that was laid only in part
        link = f"link add {self.cable} type veth peer name eth0 netns {holder.pid}"
        for arguments in (
            link,
            f"address add {network.host}/30 dev {self.cable}",
            f"link set {self.cable} up",
        ):
            run(["ip", *arguments.split()], "laying the cable to the node")
        for arguments in (
            f"address add {network.node}/30 dev eth0",
            "link set eth0 up",
            f"route add default via {network.host}",
        ):
            run(self.inside(["ip", *arguments.split()]), "laying the cable in the node")
        for destination in (network.services, network.pods):
            route = f"route add {destination} via {network.node} dev {self.cable}"
            run(["ip", *route.split()], "routing to the node")
