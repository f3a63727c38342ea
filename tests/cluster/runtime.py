"""The container runtime: the configuration of containerd, and its client ctr."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tests.cluster.images import PAUSE_IMAGE
from tests.cluster.node import Node
from tests.cluster.plan import Network
from tests.cluster.processes import run

# In the node's own /run and /var/lib.
SOCKET: Final = "/run/containerd/containerd.sock"
CONFIG: Final = """\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = "{socket}"

# The default is /opt/containerd, a directory of the machine.
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # To lower its OOM score, a process needs a capability that a container may lack.
  restrict_oom_score_adj = true
  # containerd would load a profile into the machine's kernel.
  disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "{snapshotter}"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{registries}"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{cni_programs}"
  conf_dir = "{cni_config}"
"""


# Replaces every registry by ours, without a fallback.
REGISTRY_PORT: Final = 5000
HOSTS: Final = """\
server = "{url}"

[host."{url}"]
  capabilities = ["pull", "resolve"]
"""


@dataclass(frozen=True)
class Image:
    """An image in containerd's store."""

    name: str
    media_type: str
    digest: str


@dataclass(frozen=True)
class Containerd:
    """The containerd of one node."""

    node: Node

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.node.layout.config / "containerd.toml"

    def prepare(self, network: Network) -> None:
        """Write the configurations of containerd and of the Pod network."""
        cni = self.node.layout.config / "cni"
        cni.mkdir(exist_ok=True)
        (cni / "pods.conflist").write_text(json.dumps(_pod_network(network), indent=2))
        registries = self.node.layout.config / "registries"
        (registries / "_default").mkdir(parents=True, exist_ok=True)
        url = f"http://{network.host}:{REGISTRY_PORT}"
        (registries / "_default" / "hosts.toml").write_text(HOSTS.format(url=url))
        text = CONFIG.format(
            socket=SOCKET,
            pause=PAUSE_IMAGE,
            snapshotter=_snapshotter(self.node.layout.node),
            cni_programs=self.node.packages.cni,
            cni_config=cni,
            registries=registries,
        )
        self.config.write_text(text)

    def command(self) -> list[str]:
        """Return the command line that runs containerd in the node."""
        return self.node.inside(["containerd", f"--config={self.config}"])

    def ready(self) -> bool:
        """Return whether containerd answers."""
        socket = self.node.layout.node / SOCKET.lstrip("/")
        return socket.exists() and bool(self.ctr(["version"], "asking containerd its version"))

    def import_image(self, file: Path) -> None:
        """Import the images in a docker-archive or OCI archive."""
        with file.open("rb") as content:  # by stdin: the file may be hidden inside the node
            self.ctr(["images", "import", "-"], f"importing {file}", content)

    def tag_image(self, name: str, other: str) -> None:
        """Give the image `name` another name as well."""
        self.ctr(["images", "tag", name, other], f"naming {name} {other}")

    def images(self) -> list[Image]:
        """Return all images that have a name."""
        table = self.ctr(["images", "list"], "listing images").splitlines()[1:]
        images = (Image(*line.split()[:3]) for line in table)
        return [image for image in images if not image.name.startswith("sha256:")]

    def blob(self, digest: str) -> Path:
        """Return the path, outside the node, of a blob in containerd's store."""
        store = self.node.layout.node / "lib/containerd/io.containerd.content.v1.content"
        return store / "blobs" / digest.replace(":", "/")

    def ctr(self, arguments: Sequence[str], what: str, stdin: IO[bytes] | None = None) -> str:
        """Run ctr in the namespace of the kubelet's containers and images."""
        command = ["ctr", f"--address={SOCKET}", "--namespace=k8s.io", *arguments]
        return run(self.node.inside(command), what, stdin)


def _pod_network(network: Network) -> dict[str, object]:
    """Return the CNI configuration: each Pod has a veth pair to the node, which routes.

    A bridge would need the kernel module br_netfilter. Without it, the response of a Service's Pod
    to another Pod would bypass iptables.
    """
    # A Pod needs a default route to reach Services.
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": str(network.pods)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugins = [{"type": "ptp", "ipMasq": False, "ipam": ipam}]
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": plugins}


def _snapshotter(folder: Path) -> str:
    """Return overlayfs, or native if the directory is itself on overlayfs, which does not stack."""
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    holding = [(len(point), kind) for point, kind in mounts if folder.is_relative_to(point)]
    return "native" if max(holding)[1] == "overlay" else "overlayfs"
