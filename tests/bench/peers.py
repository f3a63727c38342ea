"""The controllers of Tekton and Argo Workflows, built from their Go modules at fixed versions.

They run as one process each, without leader election. Their client-side limits are raised. Their
webhooks do not run, so the manifests in workloads.py set what these would set.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, Final

import yaml

from tests.bench.errors import BenchError
from tests.bench.workloads import TASK_RUN, WORKFLOW, Workload
from tests.cluster.build import GoProgram, built, module_folder
from tests.cluster.cluster import Cluster
from tests.cluster.processes import Daemon
from tests.cluster.progress import Progress
from tests.kubectl import Kubectl

WAIT: Final = "--timeout=60s"
_GO: Final = Path(__file__).parent / "go"
_DURATION: Final = "3 minutes on two cores, once per machine"
_IMAGE: Final = "registry.test/bench/executor:1.0"
"""Nodes are simulated, so no image is ever pulled."""


@dataclass(frozen=True)
class Peer:
    """One controller, and what it needs in the cluster."""

    workload: Workload
    program: GoProgram
    module: str
    """The path of its Go module, which also has its manifests."""
    manifests: Sequence[str]
    """Patterns of the module's files to create, in this order."""
    more: Sequence[Mapping[str, Any]]
    """Objects to create besides."""
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """The version of its module."""
        text = (self.program.folder / "go.mod").read_text()
        found = re.search(rf"^(?:require)?\s*{re.escape(self.module)} (\S+)", text, re.MULTILINE)
        assert found, f"{self.module} is not in go.mod"
        return found[1]

    def start(self, cluster: Cluster, progress: Progress) -> Daemon:
        """Install and start it. Return before it is ready.

        Raise BenchError if it cannot be installed.
        """
        program = built(self.program, progress) / self.program.name
        self._install(cluster, module_folder(self.program, self.module, progress))
        kubeconfig = cluster.kubeconfig_for(self.workload.user, ["system:masters"])
        layout = cluster.layout
        daemon = Daemon(
            self.program.name, layout.pid_file(self.program.name), layout.log(self.program.name)
        )
        settings = {"KUBECONFIG": str(kubeconfig), "NO_PROXY": "127.0.0.1", **self.environment}
        daemon.start([str(program), "--kubeconfig", str(kubeconfig), *self.arguments], settings)
        return daemon

    def _install(self, cluster: Cluster, folder: Path) -> None:
        kubectl = Kubectl(cluster.kubeconfig)
        try:
            kubectl("create", "-f", "-", stdin=[*map(dict, self.more), *self._objects(folder)])
            kubectl("wait", "crd", "--all", "--for=condition=Established", WAIT)
        except CalledProcessError as error:
            message = " ".join(error.stderr.split())[:400]
            raise BenchError(f"cannot install {self.workload.name}: {message}") from error

    def _objects(self, folder: Path) -> Iterator[dict[str, Any]]:
        for pattern in self.manifests:
            for file in sorted(folder.glob(pattern)):
                for document in yaml.safe_load_all(file.read_text()):
                    yield without_webhook(document)


def without_webhook(document: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest. A CRD is returned without its conversion webhook."""
    if "conversion" not in document.get("spec", {}):
        return document
    return document | {"spec": document["spec"] | {"conversion": {"strategy": "None"}}}


def _namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


TEKTON: Final = Peer(
    TASK_RUN,
    GoProgram(
        "tekton-controller",
        package="github.com/tektoncd/pipeline/cmd/controller",
        module=_GO / "tekton",
        duration=_DURATION,
    ),
    module="github.com/tektoncd/pipeline",
    manifests=("config/300-crds/*.yaml", "config/config-*.yaml"),
    more=[_namespace("tekton-pipelines")],
    arguments=(
        "--kube-api-qps=1000",
        "--kube-api-burst=2000",
        "--threads-per-controller=32",
        "--disable-ha",
        *(
            f"--{name}-image={_IMAGE}"
            for name in ("entrypoint", "nop", "shell", "sidecarlogresults", "workingdirinit")
        ),
        f"--shell-image-win={_IMAGE}",
    ),
    environment={
        "SYSTEM_NAMESPACE": "tekton-pipelines",
        "METRICS_DOMAIN": "tekton.dev/pipeline",
        "CONFIG_FEATURE_FLAGS_NAME": "feature-flags",
        "CONFIG_LEADERELECTION_NAME": "config-leader-election-controller",
    },
)

ARGO: Final = Peer(
    WORKFLOW,
    GoProgram(
        "argo-workflow-controller",
        package="github.com/argoproj/argo-workflows/v3/cmd/workflow-controller",
        module=_GO / "argo",
        duration=_DURATION,
    ),
    module="github.com/argoproj/argo-workflows/v3",
    manifests=("manifests/base/crds/minimal/argoproj.io_*.yaml",),
    more=[
        _namespace("argo"),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "workflow-controller-configmap", "namespace": "argo"},
        },
    ],
    arguments=(
        "--namespace=argo",
        f"--executor-image={_IMAGE}",
        "--qps=1000",
        "--burst=2000",
        "--workflow-workers=32",
    ),
    environment={
        "LEADER_ELECTION_DISABLE": "true",
        # By default it reconciles a workflow every 10 s. Its source recommends at least 2 s.
        "DEFAULT_REQUEUE_TIME": "2s",
    },
)

PEERS: Final[Mapping[str, Peer]] = {"tekton": TEKTON, "argo": ARGO}
"""The peers by the name of the command line."""
