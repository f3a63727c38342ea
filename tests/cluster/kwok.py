"""Fake nodes, for scale: kwok plays the lives of thousands of Pods that no machine could run.

kwok/stages.yaml says how they live. Built when first used; nothing but benchmarks needs it.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from tests.cluster import build
from tests.cluster.cluster import Cluster
from tests.cluster.kubelet import ready
from tests.cluster.plan import Mode
from tests.cluster.processes import Daemon

KWOK: Final = build.GoProgram(
    "kwok", package="sigs.k8s.io/kwok/cmd/kwok", duration="2 minutes on two cores, once per machine"
)
STAGES: Final = KWOK.folder / "stages.yaml"
LABEL: Final = {"type": "kwok"}
MARK: Final = "kwok.x-k8s.io/node"
READY_SECONDS: Final = 120.0


@dataclass(frozen=True)
class FakeNodes:
    """A number of fake nodes of a cluster, which is up; they go when it goes down.

    The cluster needs its controller manager and its scheduler. Beside a real node they are
    tainted, so that only Pods that tolerate `kwok.x-k8s.io/node` land on them.
    """

    cluster: Cluster
    count: int = 1

    def __enter__(self) -> Self:
        """Start them."""
        self.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Stop them: their Pods stay as they are."""
        self.stop()

    @property
    def daemon(self) -> Daemon:
        """The process that plays them all."""
        layout = self.cluster.layout
        return Daemon("kwok", layout.pid_file("kwok"), layout.log("kwok"))

    def start(self) -> None:
        """Start them; return when all are ready."""
        program = build.built(KWOK, self.cluster.progress) / KWOK.name
        kubeconfig = self.cluster.kubeconfig_for("kwok", ["system:masters"])
        self.daemon.start(
            [
                str(program),
                f"--kubeconfig={kubeconfig}",
                f"--config={STAGES}",
                "--node-ip=127.0.0.1",
                "--v=WARN",
            ]
        )
        for number in range(self.count):
            self.cluster.api.create("/api/v1/nodes", self._node(number))
        self.daemon.wait(self._ready, READY_SECONDS, "not all fake nodes are ready")

    def stop(self) -> None:
        """Stop them: their Pods stay as they are."""
        self.daemon.stop()

    def _ready(self) -> bool:
        nodes = self.cluster.api.get("/api/v1/nodes?labelSelector=type%3Dkwok") or {"items": []}
        return sum(map(ready, nodes["items"])) >= self.count

    def _node(self, number: int) -> dict[str, Any]:
        metadata = {"name": f"fake-{number}", "labels": LABEL, "annotations": {MARK: "fake"}}
        taint = {"key": MARK, "value": "fake", "effect": "NoSchedule"}
        taints = [taint] if self.cluster.mode is Mode.NODE else []
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": metadata,
            "spec": {"taints": taints},
        }
