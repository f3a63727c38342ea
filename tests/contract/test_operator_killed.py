"""The operator's process is killed before and after its writes, and restarted each time.

tests/unit/runtime/test_deaths.py does the same in memory, for each write of many lives.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web

from initpipeline.api import names
from tests.builders import running_pod
from tests.cluster.cluster import Cluster
from tests.contract.contract_env import ContractEnv, RequestCounter
from tests.faultproxy import Fault, FaultProxy
from tests.faultproxy.faults import Exchange
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.statuses import condition, is_ready, runs_in

pytest_plugins = ["tests.contract.operator_fixtures"]

LONG: Final = bool(os.environ.get("INITPIPELINE_DEATHS"))
SECONDS: Final = 60
"""Longer than several starts of the operator."""

WRITES: Final = {
    "POST pods": ("POST", r"/pods\?"),
    "PATCH status": ("PATCH", r"/status\?"),
    "DELETE pods": ("DELETE", r"/pods/"),
    "POST events": ("POST", r"/events\?"),
}


class Kill(Fault):
    """Kills the operator before the API server receives the request, or after its response."""

    def __init__(self, process: OperatorProcess, carried_out: bool) -> None:
        self._process, self._carried_out = process, carried_out

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        if self._carried_out:
            await exchange.body()
        os.kill(self._process.pid, signal.SIGKILL)
        return exchange.reset()


@contextlib.contextmanager
def restarted(process: OperatorProcess) -> Iterator[None]:
    """Starts the process whenever it has ended, as the kubelet does."""
    over = threading.Event()

    def start() -> None:
        while not over.wait(0.02):
            if not process.running:
                # It may be killed while it starts.
                with contextlib.suppress(AssertionError):
                    process.start()

    thread = threading.Thread(target=start)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def process(
    control_plane: Cluster, user: str, namespace: str, tmp_path: Path
) -> Iterator[OperatorProcess]:
    """Returns an operator behind a proxy that kills it at its writes."""
    kubeconfig = control_plane.kubeconfig_for(user, ["system:masters"])
    with FaultProxy(tmp_path) as proxy, contextlib.ExitStack() as kills:
        process = OperatorProcess(
            proxy.kubeconfig(kubeconfig),
            tmp_path / "operator.log",
            ["--namespace", namespace, "--sweep-seconds", "99999"],
        )
        for method, path in WRITES.values():
            for carried_out, times in ((False, 1), (True, 100 if LONG else 1)):
                kill = Kill(process, carried_out)
                kills.enter_context(proxy.inject(kill, method=method, path=path, times=times))
        process.start()
        with restarted(process):
            yield process
        if process.running:
            process.kill()


def test_operator_killed_at_its_writes_neither_loses_nor_repeats_a_run(
    env: ContractEnv, process: OperatorProcess, request_counter: RequestCounter
) -> None:
    env.create()
    ready(env, 1)
    env.patch({"metadata": {"annotations": {names.RERUN_ANNOTATION: "again"}}})
    replaced(env)
    ready(env, 2)
    expected = [(1, "Created", "Initialized"), (2, "Requested", "")]
    if LONG:
        env.delete_pod()
        ready(env, 3)
        env.patch({"spec": {"suspend": True}})
        replaced(env)
        env.wait("Suspended", lambda status: condition(status, "Suspended")["status"] == "True")
        env.patch({"spec": {"suspend": False}})
        ready(env, 4)
        expected[1:] = [
            (2, "Requested", "Lost"),
            (3, "PodLost", "Initialized"),
            (4, "Resumed", ""),
        ]
    assert runs_in(env.status()) == expected
    created = request_counter.counts()["create pods 201"]
    assert created == len(expected), "one Pod for each run"
    starts = sum(line["message"] == "operator started" for line in process.lines())
    assert starts > 6, "the operator was killed"


def ready(env: ContractEnv, run: int) -> None:
    """Report as the kubelet that the Pod of the run is Ready, and wait for the status."""
    poll_until(lambda: _pod_of(env, run), SECONDS, f"the Pod of run {run}", state=env.status)
    env.bind()
    env.report(running_pod(run=run))
    what = f"run {run} is Ready"
    env.wait(what, lambda status: is_ready(status) and status["run"]["number"] == run, SECONDS)


def _pod_of(env: ContractEnv, run: int) -> bool:
    pod = env.pod()
    return pod is not None and pod["metadata"]["annotations"][names.RUN_ANNOTATION] == str(run)


def replaced(env: ContractEnv) -> None:
    """Wait until the operator deletes the Pod. Then remove it as the kubelet."""

    def terminating() -> bool:
        pod = env.pod()
        return pod is not None and "deletionTimestamp" in pod["metadata"]

    poll_until(terminating, SECONDS, "the Pod is terminating", state=env.status)
    env.delete_pod()
