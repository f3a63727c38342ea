"""A pipeline whose state does not change by itself costs nothing: no request, no processor time.

All such states side by side, for one minute.
"""

import os
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from kubernetes import client

from tests.cluster.audit import requests
from tests.cluster.cluster import Cluster
from tests.e2e.conftest import E2EEnv
from tests.e2e.templates import container, template
from tests.operator_process import OperatorProcess

STATUS_WRITE: Final = "patch initpipelines"
USER: Final = "operator-at-rest"
MINUTE: Final = 60.0
QUIET: Final = 3.0
"""Seconds without a request after which a pipeline is taken to have come to rest."""
PAUSE: Final = 0.5
"""Seconds without a request and without a reconcile after which none is in progress."""
PROCESSOR_SECONDS: Final = 0.5
"""Watching alone takes a fifth of that. A loop takes all that there is."""
RETRIES: Final = 7
"""As many as a delay that doubles from a quarter of a second leaves room for in a minute."""

ONE = container("one", "true")
HANGS = container("one", "exec sleep 3600")
FAILS = container("one", "exit 3")
SCARCE = {"resources": {"limits": {"example.com/scarce": "1"}}}

Rows = dict[str, tuple[str, dict[str, Any], dict[str, Any]]]

STILL: Rows = {
    "ready": ("PodReady", template(ONE), {}),
    "step-running": ("StepRunning", template(HANGS), {}),
    "succeeded": ("PodSucceeded", template(ONE, app="true", restartPolicy="Never"), {}),
    "given-up-with-pod": ("StepFailed", template(FAILS, restartPolicy="Never"), {}),
    "given-up-without-pod": ("InitDeadlineExceeded", template(HANGS), {"initDeadlineSeconds": 1}),
    "suspended": ("Suspended", template(ONE), {"suspend": True}),
    "lost": ("PodLost", template(ONE), {"rerunPolicy": "Never"}),
    "terminating": ("PodTerminating", template(ONE), {}),
    "name-taken": ("NameConflict", template(ONE), {}),
    "unschedulable": ("PodUnschedulable", template(ONE, nodeSelector={"no": "where"}), {}),
}
"""Each with the reason by which it is known to have come there. Nothing happens to them."""
RETRIED: Rows = {
    "over-quota": ("QuotaExceeded", template({**ONE, **SCARCE}), {}),
    "invalid": ("InvalidTemplate", template(ONE, nodeName="NOT/A/NAME"), {}),
}
"""Retried with growing delays, since nothing reports when the API server would accept the Pod."""
DRIVEN: Rows = {
    "no-image": (
        "ImagePullFailed",
        template({"name": "one", "image": "registry.example/absent:1"}),
        {},
    ),
    "crash-loop": ("StepBackOff", template(FAILS), {}),
}
"""The kubelet tries again and says so: ErrImagePull and ImagePullBackOff, a new attempt, its end,
CrashLoopBackOff. One write for each of its words is what the mirror is for, and no more."""


@pytest.fixture
def operator(env: E2EEnv, node: Cluster, tmp_path: Path) -> Iterator[OperatorProcess]:
    """One that the audit log tells from everybody else."""
    kubeconfig = node.kubeconfig_for(USER, ["system:masters"])
    arguments = ["--namespace", env.namespace, "--log-format", "json", "--log-level", "debug"]
    with OperatorProcess(kubeconfig, tmp_path / "operator.log", arguments) as operator:
        yield operator


class Requests:
    """What the operator asks of the API server from now on: about whom, and what."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._since = log.stat().st_size

    def counts(self) -> Counter[tuple[str, str]]:
        return Counter(
            (one.name, f"{one.verb} {one.resource}")
            for one in requests(self._log, self._since)
            if one.user == USER and one.verb != "watch"
        )


def test_what_does_not_change_costs_nothing(
    env: E2EEnv, node: Cluster, operator: OperatorProcess
) -> None:
    core = client.CoreV1Api(env.api)
    core.create_namespaced_resource_quota(
        env.namespace,
        {"metadata": {"name": "scarce"}, "spec": {"hard": {"requests.example.com/scarce": "0"}}},
    )
    env.create_pod("name-taken", template(ONE))
    ever = Requests(node.audit_log)
    with kept("terminating", env, core):
        bring_there(env, core)
        let_come_to_rest(node)
        told, spent = words(env), processor_seconds(operator.pid)
        asked, looked = between_reconciles(ever, operator)
        time.sleep(MINUTE)
        asked_of, looked_at = between_reconciles(ever, operator)
        asked_of, looked_at = asked_of - asked, looked_at - looked
        spent = processor_seconds(operator.pid) - spent
        told = words(env) - told

    for name in STILL:
        assert looked_at[name] <= told[name], f"looks at {name}, of which nothing is told"
    for name in RETRIED:
        assert asked_of.pop((name, "create pods"), 0) == looked_at[name] <= RETRIES, name
    # One read for each change of the Pod that is in the way: only a read shows whose it is.
    assert asked_of.pop(("name-taken", "get pods"), 0) == looked_at["name-taken"]
    for name in DRIVEN:
        assert ever.counts()[name, STATUS_WRITE] <= len(env.pods.of(name)), name
    assert without(asked_of, DRIVEN) == Counter()
    assert spent < PROCESSOR_SECONDS


def words(env: E2EEnv) -> Counter[str]:
    """How often the API has told something of each pipeline or of its Pod."""
    states = [*env.pipelines.all(), *env.pods.all()]
    return Counter(state["metadata"]["name"] for state in states)


def without(counts: Counter[tuple[str, str]], names: Collection[str]) -> Counter[tuple[str, str]]:
    """The requests about other pipelines than these, and other events than theirs."""
    return Counter({k: n for k, n in counts.items() if k[0].partition(".")[0] not in names})


def looks(operator: OperatorProcess) -> Counter[str]:
    """How often the operator has looked at each pipeline to decide about it."""
    return Counter(
        line["pipeline"].partition("/")[2]
        for line in operator.lines()
        if line["message"] == "reconciled"
    )


def between_reconciles(
    requests: Requests, operator: OperatorProcess
) -> tuple[Counter[tuple[str, str]], Counter[str]]:
    """Returns the requests and the reconciles so far, read when none is in progress.

    The API server logs a request when it has answered it, and the operator logs a reconcile when
    it has ended. Read during a reconcile, one of the two would lack its half.
    """
    deadline = time.monotonic() + MINUTE
    before = requests.counts(), looks(operator)
    while True:
        time.sleep(PAUSE)
        now = requests.counts(), looks(operator)
        if now == before:
            return now
        assert time.monotonic() < deadline, "the operator never pauses"
        before = now


def bring_there(env: E2EEnv, core: client.CoreV1Api) -> None:
    """Every pipeline into its state."""
    every = STILL | RETRIED | DRIVEN
    for name, (_, pod, policies) in every.items():
        env.create(name, pod, **policies)
    for name in ("lost", "terminating"):
        env.wait_ready(name, run=1)
    keep("terminating", core, env.namespace, ["example.com/kept"])
    for name in ("lost", "terminating"):
        env.delete_pod(name)
    for name, (reason, _, _) in every.items():
        run = 0 if name == "suspended" else 1
        env.wait_reason(name, reason, run)


@contextmanager
def kept(pod: str, env: E2EEnv, core: client.CoreV1Api) -> Iterator[None]:
    """At the end of the block the Pod has no finalizers: its namespace would never end."""
    try:
        yield
    finally:
        with suppress(client.ApiException):  # There is no such Pod yet.
            keep(pod, core, env.namespace, [])


def keep(pod: str, core: client.CoreV1Api, namespace: str, finalizers: list[str]) -> None:
    core.patch_namespaced_pod(pod, namespace, {"metadata": {"finalizers": finalizers}})


def let_come_to_rest(node: Cluster) -> None:
    """Until nothing was asked about any of the still ones for a while."""
    asked, deadline = Requests(node.audit_log), time.monotonic() + MINUTE
    before, since = 0, time.monotonic()
    while time.monotonic() - since < QUIET:
        assert time.monotonic() < deadline, f"never comes to rest: {asked.counts()}"
        time.sleep(0.2)
        now = sum(count for (name, _), count in asked.counts().items() if name in STILL)
        if now != before:
            before, since = now, time.monotonic()


def processor_seconds(pid: int) -> float:
    """What the process has used of the processor so far, proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
