"""Set up one measurement: a new control plane with the controller of one workload.

All workloads have the same setup: the CRD, the scheduler, and a controller manager with the Job
controller and the controllers that fake nodes need. About thirty other controllers would watch
every Pod, too. They are disabled, so that their CPU time is not attributed to the Job controller.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from initpipeline.api import names
from tests.bench.errors import BenchError
from tests.bench.peers import PEERS, Peer
from tests.bench.workloads import JOB, PIPELINE, Form, Workload
from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.kwok import FakeNodes
from tests.cluster.plan import Component, Mode
from tests.cluster.processes import Usage, last_line
from tests.cluster.progress import Progress
from tests.installation import CRDS
from tests.operator_process import OperatorProcess
from tests.poll import poll_until

CRD_PATH: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
STAGES: Final = Path(__file__).with_name("stages.yaml")
SERVED_SECONDS: Final = 30.0
FAKE_NODES: Final = 10
CONTROLLERS: Final = ("job-controller", "node-lifecycle-controller", "serviceaccount-controller")
FLAGS: Final = {
    Component.CONTROLLER_MANAGER: (
        "--kube-api-qps=1000",
        "--kube-api-burst=2000",
        "--concurrent-job-syncs=50",
        f"--controllers={','.join(CONTROLLERS)}",
    ),
    # At its default of 50 requests per second, the scheduler would limit all workloads.
    Component.SCHEDULER: ("--kube-api-qps=1000", "--kube-api-burst=2000"),
}


@dataclass(frozen=True)
class BenchEnv:
    """A cluster, and the processes to measure."""

    cluster: Cluster
    controller: Usage
    """The operator, the controller manager, or the controller of a peer."""
    api_server: Usage

    def all(self) -> list[Usage]:
        """Return all processes of the benchmark: the cluster's, the controller, and this one."""
        pids = {self.cluster.pid(component) for component in self.cluster.present()}
        kwok = FakeNodes(self.cluster).daemon.running()
        pids |= {kwok.pid if kwok else None, self.controller.pid, os.getpid()}
        return [Usage(pid) for pid in pids if pid is not None]


@contextmanager
def prepared(workload: Workload, form: Form, progress: Progress) -> Iterator[BenchEnv]:
    """Start a cluster with the workload's controller. Remove it at the end of the context."""
    components = frozenset({Component.CONTROLLER_MANAGER, Component.SCHEDULER})
    name = f"bench-{os.getpid()}"
    with Cluster(name, Mode.CONTROL_PLANE, components=components, flags=FLAGS) as cluster:
        _install_crd(cluster)
        if form is Form.LIFE:
            # They are removed with the cluster.
            FakeNodes(cluster, FAKE_NODES, (STAGES,)).start()
        with _controller(workload, cluster, progress) as env:
            yield env


def _controller(
    workload: Workload, cluster: Cluster, progress: Progress
) -> AbstractContextManager[BenchEnv]:
    if workload is PIPELINE:
        return _operator(cluster)
    if workload is JOB:
        return nullcontext(_env(cluster, _usage(cluster, Component.CONTROLLER_MANAGER)))
    (peer,) = (one for one in PEERS.values() if one.workload is workload)
    return _peer(peer, cluster, progress)


@contextmanager
def _peer(peer: Peer, cluster: Cluster, progress: Progress) -> Iterator[BenchEnv]:
    # It is stopped with the cluster.
    daemon = peer.start(cluster, progress)
    process = daemon.running()
    if process is None:
        raise daemon.failure("it has ended")
    try:
        yield _env(cluster, Usage(process.pid))
    except (BenchError, FileNotFoundError) as error:
        raise daemon.failure(str(error)) from error


@contextmanager
def storage() -> Iterator[Cluster]:
    """Start etcd and an API server with the CRD. Remove both at the end of the context."""
    with Cluster(f"bench-{os.getpid()}", Mode.CONTROL_PLANE) as cluster:
        _install_crd(cluster)
        yield cluster


def operator_process(cluster: Cluster) -> OperatorProcess:
    """Return an operator of this cluster, which is not started."""
    kubeconfig = cluster.kubeconfig_for(PIPELINE.user, ["system:masters"])
    log = cluster.layout.log("operator")
    return OperatorProcess(kubeconfig, log, environment={"NO_PROXY": "127.0.0.1"})


@contextmanager
def _operator(cluster: Cluster) -> Iterator[BenchEnv]:
    operator, log = operator_process(cluster), cluster.layout.log("operator")
    try:
        operator.start()
        yield _env(cluster, Usage(operator.pid))
    except AssertionError as error:
        raise BenchError(" ".join(str(error).split())[:400]) from error
    except BenchError as error:
        state = "is running" if operator.running else "has ended"
        last = last_line(log)
        raise BenchError(f"{error}; the operator {state}; last line of its log: {last}") from error
    finally:
        if operator.running:
            operator.kill()  # the cluster is deleted anyway


def _env(cluster: Cluster, controller: Usage) -> BenchEnv:
    return BenchEnv(cluster, controller, _usage(cluster, Component.API_SERVER))


def _usage(cluster: Cluster, component: Component) -> Usage:
    pid = cluster.pid(component)
    if pid is None:
        raise BenchError(f"{component} is not running: {last_line(cluster.log(component))}")
    return Usage(pid)


def _install_crd(cluster: Cluster) -> None:
    for file in sorted(CRDS.glob("*.yaml")):
        cluster.api.create(CRD_PATH, yaml.safe_load(file.read_text()))
    served = f"/apis/{names.API_VERSION}/{names.PLURAL}"
    poll_until(
        lambda: cluster.api.get(served) is not None,
        SERVED_SECONDS,
        f"the API server serves {names.PLURAL}",
        error=ClusterError,
    )
