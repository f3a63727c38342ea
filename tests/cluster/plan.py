"""The plan of a cluster: its addresses, its ports, its components.

The plan is made when the cluster starts, recorded in its directory, and kept until the cluster is
removed. Several clusters can run at once. Each uses ports and addresses that no other cluster has
recorded and that the machine does not use. A lock makes the choice atomic.
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

# RFC 2544 reserves these for network tests: no home, office, cloud or VPN should use them.
ADDRESSES: Final = IPv4Network("198.18.0.0/15")
BLOCK_PREFIX: Final = 22
NETWORK_VARIABLE: Final = "INITPIPELINE_CLUSTER_NETWORK"
# Below the kernel's ephemeral ports and below Kubernetes' node ports.
PORTS: Final = range(20000, 30000)


OWNER_REFERENCES_ENFORCED: Final = "--enable-admission-plugins=OwnerReferencesPermissionEnforcement"
"""A flag of the API server. It adds the plugin to those that are enabled."""


class Mode(StrEnum):
    """Which parts a cluster has."""

    NODE = "node"  # a control plane and one real node: Pods run
    CONTROL_PLANE = "control-plane"  # the API server: objects are stored, no Pod runs
    OLDEST = "oldest"  # the API server of the oldest supported Kubernetes


class Component(StrEnum):
    """A process of a cluster."""

    ETCD = "etcd"
    API_SERVER = "kube-apiserver"
    CONTROLLER_MANAGER = "kube-controller-manager"
    SCHEDULER = "kube-scheduler"
    REGISTRY = "registry"  # of images: serves the node's images in place of all registries
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
    """A node's block of addresses, divided into subnets."""

    block: IPv4Network

    @property
    def host(self) -> IPv4Address:
        """The address of this machine on the connection to the node. The API server uses it."""
        return self.block[1]

    @property
    def node(self) -> IPv4Address:
        """The address of the node on the connection to this machine."""
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
    """The plan of one cluster."""

    name: str
    mode: Mode
    components: frozenset[Component]
    ports: Mapping[str, int]
    network: Network | None = None
    flags: Mapping[Component, tuple[str, ...]] = field(default_factory=dict)

    @property
    def api_address(self) -> IPv4Address:
        """The address on which the API server listens."""
        return self.network.host if self.network else IPv4Address("127.0.0.1")

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.api_address}:{self.ports[Component.API_SERVER]}"

    @property
    def services(self) -> IPv4Network:
        """The addresses of Services. Without a node they are unreachable."""
        return self.network.services if self.network else IPv4Network("198.18.0.0/24")

    def to_json(self) -> str:
        """Return the content of the file in the cluster's directory."""
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
        """Return the plan with this content."""
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
    """Return the plan of a cluster that has been started. None if there is no such cluster."""
    try:
        return Plan.from_json(layout.record.read_text())
    except FileNotFoundError:
        return None
    except (ValueError, KeyError) as error:
        raise ClusterError(
            f"{layout.record} is unreadable ({error}): take the cluster down and start it again"
        ) from None


def create(
    layout: Layout,
    mode: Mode,
    components: frozenset[Component],
    flags: Mapping[Component, tuple[str, ...]],
) -> Plan:
    """Make and record a plan that shares no port or address with the machine's other clusters."""
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
    # With a node, the API server has an address of its own, whose usual port is free.
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
    """Return the first block that overlaps neither another cluster nor a route of this machine."""
    used = [plan.network.block for plan in others if plan.network] + routed()
    chosen = os.environ.get(NETWORK_VARIABLE)
    if chosen:
        return _chosen(chosen, used)
    for block in ADDRESSES.subnets(new_prefix=BLOCK_PREFIX):
        if not any(block.overlaps(other) for other in used):
            return Network(block)
    raise ClusterError(
        f"all of {ADDRESSES} is in use on this machine: "
        f"set {NETWORK_VARIABLE} to a free /{BLOCK_PREFIX}"
    )


def _chosen(text: str, used: Sequence[IPv4Network]) -> Network:
    try:
        block = IPv4Network(text)
    except ValueError as error:
        raise ClusterError(f"{NETWORK_VARIABLE}={text}: {error}") from None
    if block.prefixlen != BLOCK_PREFIX:
        raise ClusterError(f"{NETWORK_VARIABLE}={text}: set it to a /{BLOCK_PREFIX}")
    clash = next((other for other in used if block.overlaps(other)), None)
    if clash:
        raise ClusterError(f"{NETWORK_VARIABLE}={text}: {clash} is in use on this machine")
    return Network(block)


def routed() -> list[IPv4Network]:
    """Return the networks of this machine's addresses and routes, without the default route."""
    try:
        answer = subprocess.run(
            ["ip", "-json", "-4", "route", "show", "table", "all"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        raise ClusterError(
            "cannot list this machine's routes: install the program ip (package iproute2)"
        ) from None
    destinations = (route["dst"] for route in json.loads(answer.stdout or "[]"))
    return [IPv4Network(one) for one in destinations if one != "default"]


def valid_name(name: str) -> str:
    """Return the name. Raise ClusterError if it cannot be the name of a cluster and a directory."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise ClusterError(f"invalid cluster name {name!r}: use 1 to 32 of a-z, 0-9 and -")
    return name
