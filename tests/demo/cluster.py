"""The cluster on which the demo runs: one of its own, or that of the current kubeconfig context."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from initpipeline.api import names
from tests.cluster.cluster import DEFAULT_NAME, Cluster
from tests.cluster.paths import Layout
from tests.cluster.progress import Progress
from tests.demo.errors import DemoError, UsageError
from tests.kubectl import Kubectl

NAMESPACE: Final = "demo"
PIPELINE: Final = "demo"
APP: Final = "app"

CURRENT_NAME: Final = "demo-current"
"""The name of the directory of the demo's state with CLUSTER=current."""
PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@dataclass(frozen=True)
class DemoCluster:
    """A running cluster, and what the demo can do to it."""

    kubeconfig: Path
    layout: Layout
    timeout: float
    """How many seconds a single step of the demo may take."""
    node: Cluster | None
    """The cluster, if the demo can access the processes of its node."""
    operator_arguments: Sequence[str]
    proxies: Mapping[str, str]
    """The proxy variables of the operator's environment."""
    exports: Sequence[str]
    """Commands that the user must run before kubectl."""
    kubectl_command: str
    """The user's kubectl command."""
    cleanup: Callable[[int | None], Sequence[str]]
    """Returns the commands that remove everything, given the operator's pid."""

    def kubectl(self, *arguments: str, stdin: object = None) -> str:
        """Run kubectl in the demo's namespace. Raise DemoError if it fails."""
        kubectl = Kubectl(self.kubeconfig, NAMESPACE, timeout=self.timeout)
        try:
            return kubectl(*arguments, stdin=stdin)
        except subprocess.CalledProcessError as error:
            message = " ".join(error.stderr.split())[:300]
            raise DemoError(f"kubectl {arguments[0]} failed: {message}") from None
        except subprocess.TimeoutExpired:
            raise DemoError(f"kubectl {arguments[0]}: no end after {self.timeout:.0f} s") from None

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return the result of kubectl get. Return {} if there is no such object."""
        text = self.kubectl("get", *arguments, "--ignore-not-found", "-o", "json")
        return dict(json.loads(text)) if text else {}

    def apply(self, objects: Sequence[Mapping[str, Any]]) -> None:
        """Apply these objects, in their order."""
        options = ("--server-side", "--force-conflicts", "--field-manager=initpipeline-demo")
        self.kubectl("apply", *options, "-f", "-", stdin=list(objects))

    def execute(self, script: str) -> str:
        """Return the output of a shell script in the app container."""
        return self.kubectl("exec", PIPELINE, "-c", APP, "--", "sh", "-c", script)

    def kill_app(self) -> None:
        """Kill the app container."""
        if self.node:
            self.node.kill_container(NAMESPACE, PIPELINE, APP)
        else:
            self._kill_by_exec()

    def _kill_by_exec(self) -> None:
        """Send SIGTERM to the first process, a shell. It ends, and the command with it."""
        try:
            self.execute("kill 1")
        except DemoError as error:
            if "exit code 137" not in str(error):
                raise


def own(name: str, progress: Progress) -> DemoCluster:
    """Start the cluster of that name on this machine, and return it."""
    cluster = Cluster(name, progress=progress)
    cluster.up()
    # The cluster is on this machine, and clients must not connect to it through a proxy.
    for variable in [key for key in os.environ if key.lower() in PROXIES]:
        del os.environ[variable]
    down = "make cluster-down"
    if name != DEFAULT_NAME:
        down = f"{shlex.quote(sys.executable)} -m tests.cluster down --name {name}"
    return DemoCluster(
        kubeconfig=cluster.kubeconfig,
        layout=cluster.layout,
        timeout=60,
        node=cluster,
        operator_arguments=(),
        proxies={},
        exports=[f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}"],
        kubectl_command="kubectl" if shutil.which("kubectl") else shlex.quote(str(cluster.kubectl)),
        cleanup=lambda _pid: [f"{down}    # the cluster with the operator"],
    )


def current(progress: Progress) -> DemoCluster:
    """Return the cluster of the current kubeconfig context, after printing the context's name."""
    context, content = _current_context()
    progress(f"using the kubeconfig context {context!r}")
    layout = Layout.of(CURRENT_NAME)
    layout.create()
    # A copy with this context only, since the user may select another one during the demo.
    kubeconfig = layout.kubeconfig
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(content)
    kubectl = f"kubectl --context {shlex.quote(context)}"
    return DemoCluster(
        kubeconfig=kubeconfig,
        layout=layout,
        timeout=300,  # the cluster may have to pull images and to add a node
        node=None,
        operator_arguments=("--namespace", NAMESPACE),
        proxies={key: value for key, value in os.environ.items() if key.lower() in PROXIES},
        exports=[],
        kubectl_command=kubectl,
        cleanup=lambda pid: [
            f"{kubectl} delete namespace {NAMESPACE}",
            *([f"kill {pid}    # the operator, a process on this machine"] if pid else []),
            f"{kubectl} delete crd {names.PLURAL}.{names.GROUP}    # deletes all InitPipelines",
        ],
    )


def _current_context() -> tuple[str, str]:
    """Return the name of the current context, and a kubeconfig that contains only this context."""
    if not shutil.which("kubectl"):
        raise UsageError("CLUSTER=current needs kubectl: install it")
    view = ["kubectl", "config", "view", "--raw", "--minify", "--flatten", "-o", "json"]
    answer = subprocess.run(view, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise UsageError(
            f"CLUSTER=current: there is no current context ({' '.join(answer.stderr.split())}): "
            "set one, or unset CLUSTER for a cluster on this machine"
        )
    return str(json.loads(answer.stdout)["current-context"]), answer.stdout
