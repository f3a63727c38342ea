"""All parts of one cluster behind one face: prepare, command line, health."""

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
    """The parts of a cluster whose plan is settled."""

    plan: Plan
    layout: Layout

    @property
    def control_plane(self) -> ControlPlane:
        """Its control plane."""
        return ControlPlane(self.plan, self.layout, build.KUBERNETES.cached())

    @property
    def node(self) -> Node:
        """Its node's namespaces."""
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
        """Whether Pods run."""
        return self.plan.network is not None

    def prepare(self) -> None:
        """Make all that the components need: files, and the node's namespaces and cable."""
        self.control_plane.prepare()
        if self.has_node:
            self.node.prepare(self._network())
            self.containerd.prepare(self._network())
            self.agents.prepare()

    def command(self, component: Component) -> list[str]:
        """The command line of a component; all of them end with the node, where there is one."""
        if component is Component.CONTAINERD:
            return self.containerd.command()
        if component in AGENTS:
            return self.agents.command(component)
        if component is Component.REGISTRY:
            return self.node.groups.joining(registry.command(self.plan.name))
        command = self.control_plane.command(component)
        return self.node.groups.joining(command) if self.has_node else command

    def ready(self, component: Component) -> bool:
        """Whether a component says that it is ready."""
        if component is Component.CONTAINERD:
            return self.containerd.ready()
        if component is Component.REGISTRY:
            return answers(f"http://{self._network().host}:{REGISTRY_PORT}/v2/")
        part = self.agents if component in AGENTS else self.control_plane
        return part.ready(component)

    def import_image(self, file: Path) -> None:
        """Give the node the images in a docker-archive or OCI archive."""
        self._network()
        if not file.is_file():
            raise ClusterError(f"there is no image file {file}")
        self.containerd.import_image(file)

    def _network(self) -> Network:
        if self.plan.network is None:
            raise ClusterError(f"cluster {self.plan.name} is a control plane only: it has no node")
        return self.plan.network
