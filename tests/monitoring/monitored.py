"""A cluster with a kubelet, Prometheus with the rules of the manifests, and installations."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from kubernetes import client

from tests.api_client import connected
from tests.cluster.cluster import Cluster
from tests.cluster.progress import Progress
from tests.faultproxy import FaultProxy
from tests.installation import install_crd
from tests.monitoring.dashboard import Query
from tests.monitoring.faults import FAULTS, scaled
from tests.monitoring.installation import Installation
from tests.monitoring.load import load, share
from tests.monitoring.prometheus import Prometheus

RULES: Final = Path(__file__).parents[2] / "manifests" / "monitoring" / "alerts.yaml"
HEALTHY: Final = "healthy"
"""The namespace of the installation without a fault."""
SHARDED: Final = "sharded"
"""The namespace of an installation without a fault whose replicas share the work."""
WINDOW: Final = "1m"
"""The value of $__rate_interval."""
STEP_SECONDS: Final = 5


@dataclass
class MonitoredCluster:
    """The cluster, Prometheus, and the installations with their faults."""

    cluster: Cluster
    api: client.ApiClient
    prometheus: Prometheus
    folder: Path
    progress: Progress
    installations: dict[str, Installation] = field(default_factory=dict)
    faults: dict[str, AbstractContextManager[None]] = field(default_factory=dict)
    began: float = field(default_factory=time.time)
    healthy_since: float = 0.0
    """When the healthy installations had started. With the shorter ``for`` of these rules, a start
    on a busy machine is an alert."""

    def install(self, name: str, stack: ExitStack) -> Installation:
        """Create the namespace of an installation, and its proxy. No replica runs."""
        client.CoreV1Api(self.api).create_namespace({"metadata": {"name": name}})
        folder = self.folder / name
        folder.mkdir()
        proxy = stack.enter_context(FaultProxy(folder))
        made = Installation(self.cluster, self.api, self.prometheus, name, folder, proxy)
        stack.callback(made.end)
        self.installations[name] = made
        return made

    def firing(self, name: str, alert: str) -> bool:
        return f"InitPipeline{alert}" in self.prometheus.firing(name)

    def begin(self, name: str) -> None:
        """Begin the fault of an installation."""
        fault = FAULTS[name][0](self.installations[name])
        fault.__enter__()
        self.faults[name] = fault
        self.progress(f"{name}: the fault has begun")

    def end(self, name: str) -> None:
        """End the fault of an installation."""
        self.faults.pop(name).__exit__(None, None, None)
        self.progress(f"{name}: the fault has ended")

    def range(self, query: Query, namespace: str = ".*") -> list[Any]:
        """Returns what a query of the dashboard returns from the start until now."""
        expression = query.filled(WINDOW, namespace)
        return self.prometheus.range(expression, self.began, time.time(), STEP_SECONDS)


@contextmanager
def started(
    folder: Path, progress: Progress, faulty: Sequence[str] = ()
) -> Iterator[MonitoredCluster]:
    """Start the cluster, Prometheus, the healthy installations with their load, and those of
    these faults, which do not begin."""
    home = folder / "prometheus"
    home.mkdir()
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(f"alerts-{os.getpid()}", progress=progress))
        install_crd(cluster)
        api = stack.enter_context(connected(cluster.kubeconfig))
        rules = scaled(yaml.safe_load(RULES.read_text()))
        prometheus = stack.enter_context(Prometheus(home, rules))
        monitored = MonitoredCluster(cluster, api, prometheus, folder, progress)
        for name in (HEALTHY, SHARDED, *faulty):
            monitored.install(name, stack)
        share(monitored.installations[SHARDED])
        stack.enter_context(load(monitored.installations[HEALTHY]))
        monitored.healthy_since = time.time()
        yield monitored
