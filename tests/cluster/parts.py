"""A single interface to all components of a cluster: prepare, command line, health."""

from dataclasses import dataclass
from pathlib import Path

from tests.cluster import build, registry
from tests.cluster.api import answers
from tests.cluster.control_plane import ControlPlane
from tests.cluster.errors import ClusterError
from tests.cluster.kubelet import AGENTS, NodeAgents
from tests.cluster.node import Node
from tests.cluster.paths import Layout
from tests.cluster.plan import Component, Network, Plan
from tests.cluster.runtime import REGISTRY_PORT, Containerd


@dataclass(frozen=True)
class Parts:
    """The parts of a cluster with this plan."""

    plan: Plan
    layout: Layout

    @property
    def control_plane(self) -> ControlPlane:
        """Its control plane."""
        return ControlPlane(self.plan, self.layout, build.KUBERNETES.cached())

    @property
    def node(self) -> Node:
        """The namespaces of its node."""
        return Node(self.plan.name, self.layout)

    @property
    def containerd(self) -> Containerd:
        """Its container runtime."""
        return Containerd(self.node)

    @property
    def agents(self) -> NodeAgents:
        """Its kubelet and kube-proxy."""
        return NodeAgents(self.control_plane, self.node, self._network())

    @property
    def has_node(self) -> bool:
        """Whether the cluster has a node, on which Pods run."""
        return self.plan.network is not None

    def prepare(self) -> None:
        """Create what the components need: files, and the node's namespaces and connection."""
        self.control_plane.prepare()
        if self.has_node:
            self.node.prepare(self._network())
            self.containerd.prepare(self._network())
            self.agents.prepare()

    def command(self, component: Component) -> list[str]:
        """Return the command line of a component. If there is a node, it ends with the node."""
        if component is Component.CONTAINERD:
            return self.containerd.command()
        if component in AGENTS:
            return self.agents.command(component)
        if component is Component.REGISTRY:
            return self.node.groups.joining(registry.command(self.plan.name))
        command = self.control_plane.command(component)
        return self.node.groups.joining(command) if self.has_node else command

    def ready(self, component: Component) -> bool:
        """Return whether a component reports that it is ready."""
        if component is Component.CONTAINERD:
            return self.containerd.ready()
        if component is Component.REGISTRY:
            return answers(f"http://{self._network().host}:{REGISTRY_PORT}/v2/")
        part = self.agents if component in AGENTS else self.control_plane
        return part.ready(component)

    def import_image(self, file: Path) -> None:
        """Import into the node the images of a docker-archive or OCI archive."""
        self._network()
        if not file.is_file():
            raise ClusterError(f"the image file {file} does not exist")
        self.containerd.import_image(file)

    def _network(self) -> Network:
        if self.plan.network is None:
            raise ClusterError(f"cluster {self.plan.name} has no node: start one with another name")
        return self.plan.network
