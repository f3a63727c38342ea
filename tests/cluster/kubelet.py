"""The Kubernetes components of the node: the kubelet and kube-proxy."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.cluster.api import answers
from tests.cluster.control_plane import ControlPlane
from tests.cluster.node import Node
from tests.cluster.plan import Component, Network
from tests.cluster.runtime import SOCKET

AGENTS: Final = frozenset({Component.KUBELET, Component.PROXY})
NODE_NAME: Final = "node"
KUBELET_HEALTH: Final = 10248
PROXY_HEALTH: Final = 10256


@dataclass(frozen=True)
class NodeAgents:
    """The kubelet and kube-proxy of one node."""

    control_plane: ControlPlane
    node: Node
    network: Network

    def prepare(self) -> None:
        """Write their certificates, kubeconfigs and configurations."""
        plane = self.control_plane
        plane.authority.server("kubelet", [self.network.node, NODE_NAME])
        plane.write_kubeconfig(Component.KUBELET, f"system:node:{NODE_NAME}", ("system:nodes",))
        plane.write_kubeconfig(Component.PROXY, "system:kube-proxy")
        self._config(Component.KUBELET).write_text(json.dumps(self._kubelet(), indent=2))
        self._config(Component.PROXY).write_text(json.dumps(self._proxy(), indent=2))

    def command(self, component: Component) -> list[str]:
        """Return the command line that runs a component in the node."""
        flags = [f"--config={self._config(component)}", f"--hostname-override={NODE_NAME}"]
        if component is Component.KUBELET:
            kubeconfig = self.control_plane.layout.config / f"{component}.kubeconfig"
            flags += [f"--kubeconfig={kubeconfig}", f"--node-ip={self.network.node}"]
        program = self.node.programs(self.control_plane.programs) / component
        given = self.control_plane.plan.flags.get(component, ())
        return self.node.inside([str(program), *flags, *given])

    def ready(self, component: Component) -> bool:
        """Return whether a component reports that it is healthy."""
        port = KUBELET_HEALTH if component is Component.KUBELET else PROXY_HEALTH
        return answers(f"http://{self.network.node}:{port}/healthz")

    def node_ready(self) -> bool:
        """Return whether the node is Ready."""
        return ready(self.control_plane.api.get(f"/api/v1/nodes/{NODE_NAME}") or {})

    def _config(self, component: Component) -> Path:
        return self.control_plane.layout.config / f"{component}.json"

    def _kubelet(self) -> dict[str, Any]:
        pki = self.control_plane.layout.pki
        authority = str(self.control_plane.authority.pair.certificate)
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": authority},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki / "kubelet.crt"),
            "tlsPrivateKeyFile": str(pki / "kubelet.key"),
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.node.groups.path,
            "failCgroupV1": False,
            "failSwapOn": False,
            "healthzBindAddress": str(self.network.node),
            "healthzPort": KUBELET_HEALTH,
            # No DNS server runs. But without an address of one, each Pod gets a Warning event.
            "clusterDNS": [str(self.network.services[10])],
            "clusterDomain": "cluster.local",
            "resolvConf": "",
            "maxPods": 250,
            # A fifth of the default: a test can have the loss of the node detected within 10 s.
            "nodeLeaseDurationSeconds": 8,
            # The default is a minute. A test waits for the eviction of a Pod that fills a volume.
            "volumeStatsAggPeriod": "5s",
            "serializeImagePulls": False,
            # By default, the kubelet refuses a pulled image to Pods that refer to it by another
            # name and have the pull policy Never, since they lack the credentials. The images of
            # this cluster need no credentials.
            "imagePullCredentialsVerificationPolicy": "NeverVerify",
            "kubeAPIQPS": 200,
            "kubeAPIBurst": 400,
            "eventRecordQPS": 0,
            # The default is a directory in the machine's /usr/libexec.
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            # Pods must run even if the machine's disk is nearly full.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {
                "memory.available": "50Mi",
                "nodefs.available": "0%",
                "nodefs.inodesFree": "0%",
                "imagefs.available": "0%",
                "imagefs.inodesFree": "0%",
            },
        }

    def _proxy(self) -> dict[str, Any]:
        kubeconfig = self.control_plane.layout.config / f"{Component.PROXY}.kubeconfig"
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "mode": "iptables",
            "clusterCIDR": str(self.network.pods),
            "healthzBindAddress": f"{self.network.node}:{PROXY_HEALTH}",
            # kube-proxy must not change the machine's connection tracking limits.
            "conntrack": {"maxPerCore": 0},
            "iptables": {"minSyncPeriod": "100ms"},
        }


def ready(node: dict[str, Any]) -> bool:
    """Return whether a node's condition Ready is True."""
    conditions = node.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
