"""Fake nodes: kwok simulates thousands of Pods.

kwok/stages.yaml defines their life cycle. kwok is built when it is first used, by benchmarks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from tests.cluster import build
from tests.cluster.cluster import Cluster
from tests.cluster.kubelet import ready
from tests.cluster.plan import Mode
from tests.cluster.processes import Daemon
from tests.poll import poll_until

KWOK: Final = build.GoProgram(
    "kwok", package="sigs.k8s.io/kwok/cmd/kwok", duration="2 minutes on two cores, once per machine"
)
STAGES: Final = KWOK.folder / "stages.yaml"
LABEL: Final = {"type": "kwok"}
MARK: Final = "kwok.x-k8s.io/node"
READY_SECONDS: Final = 120.0


@dataclass(frozen=True)
class FakeNodes:
    """Fake nodes of a running cluster. They are removed with the cluster.

    The cluster needs its controller manager and its scheduler. If the cluster has a real node, the
    fake nodes are tainted: only Pods that tolerate `kwok.x-k8s.io/node` are scheduled to them.
    """

    cluster: Cluster
    count: int = 1
    more_stages: Sequence[Path] = ()
    """Files with more stages. A stage with a weight has precedence over one without."""

    def __enter__(self) -> Self:
        """Start the fake nodes."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop kwok. The Pods keep their last status."""
        self.stop()

    @property
    def daemon(self) -> Daemon:
        """The process of kwok, which simulates all fake nodes."""
        layout = self.cluster.layout
        return Daemon("kwok", layout.pid_file("kwok"), layout.log("kwok"))

    def start(self) -> None:
        """Start the fake nodes. Return when all are Ready."""
        self._run()
        for name in self._names:
            self.cluster.api.create("/api/v1/nodes", self._node(name))
        self.daemon.wait(self._ready, READY_SECONDS, "all fake nodes are Ready")

    def restart(self) -> None:
        """Restart kwok, which then continues with all Pods.

        If a change of a Pod fails in an outage of the API server, kwok never repeats it. A kubelet
        would.
        """
        self.stop()
        self._remove_deleted()
        self._run()

    def _remove_deleted(self) -> None:
        """Delete the Pods whose last deletion was interrupted.

        The API server writes a grace period of 0, and then removes the Pod. If it or kwok ends
        between the two, the Pod remains. The stage pod-delete ignores such a Pod.
        """
        api = self.cluster.api
        pods = poll_until(lambda: api.get("/api/v1/pods"), READY_SECONDS, "a list of all Pods")
        assert pods is not None
        for pod in pods["items"]:
            metadata, node = pod["metadata"], pod["spec"].get("nodeName", "")
            if node in self._names and metadata.get("deletionGracePeriodSeconds") == 0:
                path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
                api.delete(path, metadata["uid"])

    def _run(self) -> None:
        program = build.built(KWOK, self.cluster.progress) / KWOK.name
        kubeconfig = self.cluster.kubeconfig_for("kwok", ["system:masters"])
        self.daemon.start(
            [
                str(program),
                f"--kubeconfig={kubeconfig}",
                *(f"--config={file}" for file in (STAGES, *self.more_stages)),
                "--node-ip=127.0.0.1",
                "--v=WARN",
            ]
        )

    def stop(self) -> None:
        """Stop kwok. The Pods keep their last status."""
        self.daemon.stop()

    def _ready(self) -> bool:
        nodes = self.cluster.api.get("/api/v1/nodes?labelSelector=type%3Dkwok") or {"items": []}
        return sum(map(ready, nodes["items"])) >= self.count

    @property
    def _names(self) -> Sequence[str]:
        return [f"fake-{number}" for number in range(self.count)]

    def _node(self, name: str) -> dict[str, Any]:
        metadata = {"name": name, "labels": LABEL, "annotations": {MARK: "fake"}}
        taint = {"key": MARK, "value": "fake", "effect": "NoSchedule"}
        taints = [taint] if self.cluster.mode is Mode.NODE else []
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": metadata,
            "spec": {"taints": taints},
        }
