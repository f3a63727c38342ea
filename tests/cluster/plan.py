"""What a cluster is set up as: its addresses, its ports, its components.

Decided once, when the cluster comes up, recorded in its folder, and kept until it goes down. Many
clusters can be up at once, so each takes what no other has recorded and nothing on the machine
uses; a lock makes that one step.
"""

import json
import os
import random
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from tests.cluster.errors import ClusterError
from tests.cluster.locks import locked
from tests.cluster.paths import STATE_ROOT, Layout

# RFC 2544 keeps these for tests of networks: no home, office, cloud or VPN should use them.
ADDRESSES: Final = IPv4Network("198.18.0.0/15")
BLOCK_PREFIX: Final = 22
NETWORK_VARIABLE: Final = "INITPIPELINE_CLUSTER_NETWORK"
# Below the kernel's range for outgoing connections and below Kubernetes' node ports.
PORTS: Final = range(20000, 30000)


class Mode(StrEnum):
    """How much of a cluster."""

    NODE = "node"  # a control plane and one real node: Pods run
    CONTROL_PLANE = "control-plane"  # the API: what is created is stored, nothing runs
    OLDEST = "oldest"  # the API of the oldest Kubernetes that serves InitPipelines, and no more


class Component(StrEnum):
    """A process of a cluster, by the name it has everywhere."""

    ETCD = "etcd"
    API_SERVER = "kube-apiserver"
    CONTROLLER_MANAGER = "kube-controller-manager"
    SCHEDULER = "kube-scheduler"
    REGISTRY = "registry"  # of images: answers for all registries from what the node has
    CONTAINERD = "containerd"
    KUBELET = "kubelet"
    PROXY = "kube-proxy"


STORAGE_AND_API: Final = frozenset({Component.ETCD, Component.API_SERVER})
NODE_ONLY: Final = frozenset(
    {Component.REGISTRY, Component.CONTAINERD, Component.KUBELET, Component.PROXY}
)
WITH_PORTS: Final = (Component.CONTROLLER_MANAGER, Component.SCHEDULER)


@dataclass(frozen=True)
class Network:
    """A node's block of addresses, cut up."""

    block: IPv4Network

    @property
    def host(self) -> IPv4Address:
        """This machine's end of the cable to the node; the API server listens there."""
        return self.block[1]

    @property
    def node(self) -> IPv4Address:
        """The node's end."""
        return self.block[2]

    @property
    def services(self) -> IPv4Network:
        """The addresses of Services."""
        return list(self.block.subnets(new_prefix=24))[1]

    @property
    def pods(self) -> IPv4Network:
        """The addresses of Pods."""
        return list(self.block.subnets(new_prefix=23))[1]


@dataclass(frozen=True)
class Plan:
    """One cluster's decisions."""

    name: str
    mode: Mode
    components: frozenset[Component]
    ports: Mapping[str, int]
    network: Network | None = None
    flags: Mapping[Component, tuple[str, ...]] = field(default_factory=dict)

    @property
    def api_address(self) -> IPv4Address:
        """Where the API server listens."""
        return self.network.host if self.network else IPv4Address("127.0.0.1")

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.api_address}:{self.ports[Component.API_SERVER]}"

    @property
    def services(self) -> IPv4Network:
        """The addresses of Services; no one can reach those of a control plane without a node."""
        return self.network.services if self.network else IPv4Network("198.18.0.0/24")

    def to_json(self) -> str:
        """As recorded in the cluster's folder."""
        return json.dumps(
            {
                "name": self.name,
                "mode": self.mode,
                "components": sorted(self.components),
                "ports": dict(self.ports),
                "network": str(self.network.block) if self.network else None,
                "flags": {component: list(flags) for component, flags in self.flags.items()},
            },
            indent=2,
        )

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """The reverse."""
        data: dict[str, Any] = json.loads(text)
        return cls(
            name=data["name"],
            mode=Mode(data["mode"]),
            components=frozenset(map(Component, data["components"])),
            ports=data["ports"],
            network=Network(IPv4Network(data["network"])) if data["network"] else None,
            flags={Component(key): tuple(value) for key, value in data["flags"].items()},
        )


def recorded(layout: Layout) -> Plan | None:
    """The plan of a cluster that is up, or was not taken down."""
    try:
        return Plan.from_json(layout.record.read_text())
    except FileNotFoundError:
        return None
    except (ValueError, KeyError) as error:
        raise ClusterError(
            f"{layout.record} is unreadable ({error}): take the cluster down and up again"
        ) from None


def settled(
    layout: Layout,
    mode: Mode,
    components: frozenset[Component],
    flags: Mapping[Component, tuple[str, ...]],
) -> Plan:
    """Decide and record a plan that shares nothing with any other cluster of this machine."""
    with locked(STATE_ROOT / ".plans.lock"):
        others = [plan for plan in map(recorded, _layouts()) if plan]
        plan = Plan(
            name=layout.root.name,
            mode=mode,
            components=components,
            ports=_ports(others, mode),
            network=_network(others) if mode is Mode.NODE else None,
            flags=flags,
        )
        layout.create()
        temporary = layout.record.with_suffix(".new")
        temporary.write_text(plan.to_json())
        temporary.rename(layout.record)
    return plan


def _layouts() -> Iterator[Layout]:
    return (Layout(path.parent) for path in STATE_ROOT.glob("*/cluster.json"))


def _ports(others: Sequence[Plan], mode: Mode) -> dict[str, int]:
    taken = {port for plan in others for port in plan.ports.values()}
    free = (port for port in random.sample(PORTS, len(PORTS)) if port not in taken and _free(port))
    wanted: list[str] = [Component.ETCD, "etcd-peer", *WITH_PORTS]
    ports = {name: next(free) for name in wanted}
    # On the node's cable the address is the cluster's own, so that the usual port is free.
    ports[Component.API_SERVER] = 6443 if mode is Mode.NODE else next(free)
    return ports


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _network(others: Sequence[Plan]) -> Network:
    """The first block that neither another cluster nor a route of this machine touches."""
    used = [plan.network.block for plan in others if plan.network] + routed()
    chosen = os.environ.get(NETWORK_VARIABLE)
    if chosen:
        return _chosen(chosen, used)
    for block in ADDRESSES.subnets(new_prefix=BLOCK_PREFIX):
        if not any(block.overlaps(other) for other in used):
            return Network(block)
    raise ClusterError(
        f"all of {ADDRESSES} is in use here: set {NETWORK_VARIABLE} to a free /{BLOCK_PREFIX}"
    )


def _chosen(text: str, used: Sequence[IPv4Network]) -> Network:
    try:
        block = IPv4Network(text)
    except ValueError as error:
        raise ClusterError(f"{NETWORK_VARIABLE}={text}: {error}") from None
    if block.prefixlen != BLOCK_PREFIX:
        raise ClusterError(f"{NETWORK_VARIABLE}={text}: a /{BLOCK_PREFIX} is needed")
    clash = next((other for other in used if block.overlaps(other)), None)
    if clash:
        raise ClusterError(f"{NETWORK_VARIABLE}={text}: {clash} is in use here")
    return Network(block)


def routed() -> list[IPv4Network]:
    """The networks that this machine has addresses in or routes to, the default route aside."""
    try:
        answer = subprocess.run(
            ["ip", "-json", "-4", "route", "show", "table", "all"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        raise ClusterError(
            "cannot list this machine's routes: the program ip (package iproute2) is needed"
        ) from None
    destinations = (route["dst"] for route in json.loads(answer.stdout or "[]"))
    return [IPv4Network(one) for one in destinations if one != "default"]


def valid_name(name: str) -> str:
    """The name of a cluster, checked: it becomes part of paths."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise ClusterError(f"{name!r} can't name a cluster: up to 32 of a-z, 0-9 and - are needed")
    return name
