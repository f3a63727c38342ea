"""Where the demo runs: a cluster of its own or, only when asked, the present kubeconfig context."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubernetes import config
from kubernetes.client import Configuration

from initpipeline.api import names
from tests.cluster.cluster import DEFAULT_NAME, Cluster
from tests.cluster.paths import Layout
from tests.cluster.progress import Progress
from tests.demo.api import Api
from tests.demo.errors import UsageError

NAMESPACE: Final = "demo"
PIPELINE: Final = "demo"
APP: Final = "app"

# Of the operator's process, where there is no folder of a cluster of ours.
CURRENT_STATE: Final = "demo-current"
PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True)
class Place:
    """A cluster that answers, and what can be done in it."""

    api: Api
    layout: Layout
    operator_arguments: Sequence[str]
    operator_environment: Mapping[str, str]
    patience: float
    """Seconds for any one thing to happen."""
    kill_app: Callable[[], object]
    kill_sandbox: Callable[[], None] | None
    """None: the node's processes are out of reach."""
    preparations: Sequence[str]
    """What to paste before kubectl works."""
    kubectl: str
    farewell: Callable[[int | None], Sequence[str]]
    """Given the operator's pid: how to take all of it down."""


def own(name: str, progress: Progress) -> Place:
    """The cluster of that name on this machine, brought up now. No kubeconfig but its own is read,
    and none is written."""
    cluster = Cluster(name, progress=progress)
    cluster.up()
    configuration = _configuration(str(cluster.kubeconfig))
    # The cluster is on this machine, where no proxy is in between. The websocket of an exec asks
    # the environment alone.
    configuration.proxy = None
    _bypass_proxies(cluster.server)
    down = "make cluster-down"
    if name != DEFAULT_NAME:
        down = f"{shlex.quote(sys.executable)} -m tests.cluster down --name {name}"
    return Place(
        api=Api(configuration),
        layout=cluster.layout,
        operator_arguments=(),
        operator_environment={"KUBECONFIG": str(cluster.kubeconfig)},
        patience=60,
        kill_app=lambda: cluster.kill_container(NAMESPACE, PIPELINE, APP),
        kill_sandbox=lambda: cluster.kill_sandbox(NAMESPACE, PIPELINE),
        preparations=[f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}"],
        kubectl=_kubectl(cluster.kubectl),
        farewell=lambda _pid: [f"{down}    # the cluster, the operator and all of it"],
    )


def current(progress: Progress) -> Place:
    """The cluster of the present kubeconfig context, whose name is said before it is used."""
    try:
        context = str(config.list_kube_config_contexts()[1]["name"])
        configuration = _configuration(None)
    except (config.ConfigException, OSError, TypeError) as error:
        raise UsageError(
            f"CLUSTER=current, and no kubeconfig context can be used ({error}): set one, or leave "
            "CLUSTER unset for a cluster on this machine"
        ) from None
    progress(f"using the kubeconfig context {context!r} ({configuration.host})")
    api, layout = Api(configuration), Layout.of(CURRENT_STATE)
    kubectl = f"kubectl --context {shlex.quote(context)}"
    layout.create()
    return Place(
        api=api,
        layout=layout,
        operator_arguments=("--namespace", NAMESPACE),
        operator_environment=_environment(layout, context),
        patience=300,  # images may have to be pulled, and a node to be added
        # The app's first process is a shell that ends by SIGTERM, so this needs no more than exec.
        kill_app=lambda: api.run(NAMESPACE, PIPELINE, APP, "kill 1"),
        kill_sandbox=None,
        preparations=[],
        kubectl=kubectl,
        farewell=lambda pid: _leave_current(kubectl, pid),
    )


def _leave_current(kubectl: str, pid: int | None) -> Sequence[str]:
    return [
        f"{kubectl} delete namespace {NAMESPACE}",
        *([f"kill {pid}    # the operator, a process on this machine"] if pid else []),
        f"{kubectl} delete crd {names.PLURAL}.{names.GROUP}    # with every InitPipeline there is",
    ]


def _configuration(kubeconfig: str | None) -> Any:
    configuration = Configuration()
    config.load_kube_config(
        config_file=kubeconfig, client_configuration=configuration, persist_config=False
    )
    return configuration


def _bypass_proxies(server: str) -> None:
    host = server.removeprefix("https://").partition(":")[0]
    before = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    os.environ["no_proxy"] = ",".join(filter(None, (before, host)))


def _environment(layout: Layout, context: str) -> Mapping[str, str]:
    """The user's kubeconfig, held to this context: another one may be chosen while the operator
    runs. The last file that names a context wins."""
    pin = layout.config / "context"
    pin.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": context}))
    files = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube/config")
    proxies = {key: value for key, value in os.environ.items() if key.lower() in PROXIES}
    return {"KUBECONFIG": f"{files}{os.pathsep}{pin}", **proxies}


def _kubectl(built: Path) -> str:
    return "kubectl" if shutil.which("kubectl") else shlex.quote(str(built))
