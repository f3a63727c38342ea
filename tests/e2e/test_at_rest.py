"""A pipeline whose state does not change causes no requests and uses no CPU time.

One test observes all such states for one minute.
"""

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
from tests.cluster.processes import Usage
from tests.e2e.e2e_env import E2EEnv
from tests.operator_process import OperatorProcess
from tests.poll import poll_until_stable
from tests.templates import container, template

STATUS_WRITE: Final = "patch initpipelines"
USER: Final = "operator-at-rest"
MINUTE: Final = 60.0
QUIET: Final = 3.0
"""After so many seconds without a request, a pipeline is at rest."""
PAUSE: Final = 0.5
"""After so many seconds without a request and a reconcile, none is in progress."""
CPU_MS: Final = 500.0
"""The watches need a fifth of that. A busy loop would use all CPU time."""
RETRIES: Final = 7
"""The number of retries in a minute if the delay starts at 0.25 s and doubles."""

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
"""States that do not change, each with the reason of the condition Ready."""
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
"""States in which the kubelet retries. It reports ErrImagePull, ImagePullBackOff, a new attempt,
its end, and CrashLoopBackOff. The operator may write once for each of these reports."""


@pytest.fixture
def operator(env: E2EEnv, node: Cluster, tmp_path: Path) -> Iterator[OperatorProcess]:
    """Run an operator with a user name of its own, by which the audit log identifies it."""
    kubeconfig = node.kubeconfig_for(USER, ["system:masters"])
    arguments = ["--namespace", env.namespace, "--log-format", "json", "--log-level", "debug"]
    with OperatorProcess(kubeconfig, tmp_path / "operator.log", arguments) as operator:
        yield operator


class Requests:
    """Counts the operator's API requests from now on, by object name and kind of request. The
    renewals of the Lease are left out."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._since = log.stat().st_size

    def counts(self) -> Counter[tuple[str, str]]:
        return Counter(
            (one.name, f"{one.verb} {one.resource}")
            for one in requests(self._log, self._since)
            if one.user == USER and one.verb != "watch" and one.resource != "leases"
        )


def test_unchanged_pipelines_cause_no_requests(
    env: E2EEnv, node: Cluster, operator: OperatorProcess
) -> None:
    core = client.CoreV1Api(env.api)
    core.create_namespaced_resource_quota(
        env.namespace,
        {"metadata": {"name": "scarce"}, "spec": {"hard": {"requests.example.com/scarce": "0"}}},
    )
    env.create_pod("name-taken", template(ONE))
    all_requests = Requests(node.audit_log)
    with kept("terminating", env, core):
        reach_all_states(env, core)
        wait_for_rest(node)
        events_before, cpu_before = watch_events(env), Usage(operator.pid).cpu_ms()
        sent_before, reconciles_before = between_reconciles(all_requests, operator)
        time.sleep(MINUTE)
        sent, reconciles = between_reconciles(all_requests, operator)
        sent, reconciles = sent - sent_before, reconciles - reconciles_before
        cpu_ms = Usage(operator.pid).cpu_ms() - cpu_before
        events = watch_events(env) - events_before

    for name in STILL:
        assert reconciles[name] <= events[name], f"reconciles {name} without a watch event"
    for name in RETRIED:
        assert sent.pop((name, "create pods"), 0) == reconciles[name] <= RETRIES, name
    # One read for each change of the foreign Pod. Only a read shows the Pod's owner.
    assert sent.pop(("name-taken", "get pods"), 0) == reconciles["name-taken"]
    for name in DRIVEN:
        assert all_requests.counts()[name, STATUS_WRITE] <= len(env.pods.of(name)), name
    assert without(sent, DRIVEN) == Counter()
    assert cpu_ms < CPU_MS


def watch_events(env: E2EEnv) -> Counter[str]:
    """Return the number of watch events of each pipeline and its Pod."""
    states = [*env.pipelines.all(), *env.pods.all()]
    return Counter(state["metadata"]["name"] for state in states)


def without(counts: Counter[tuple[str, str]], names: Collection[str]) -> Counter[tuple[str, str]]:
    """Return the counts without those of these pipelines and of their events."""
    return Counter({k: n for k, n in counts.items() if k[0].partition(".")[0] not in names})


def reconciles_of(operator: OperatorProcess) -> Counter[str]:
    """Return the number of reconciles of each pipeline."""
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
    it has ended. During a reconcile, its first requests would count, but not the reconcile itself.
    """
    return poll_until_stable(
        lambda: (requests.counts(), reconciles_of(operator)),
        PAUSE,
        MINUTE,
        "the operator is idle",
    )


def reach_all_states(env: E2EEnv, core: client.CoreV1Api) -> None:
    """Create all pipelines, and wait until each has reached its state."""
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
    """Remove the Pod's finalizers at the end, since they would block the namespace's deletion."""
    try:
        yield
    finally:
        with suppress(client.ApiException):  # the Pod does not exist yet
            keep(pod, core, env.namespace, [])


def keep(pod: str, core: client.CoreV1Api, namespace: str, finalizers: list[str]) -> None:
    core.patch_namespaced_pod(pod, namespace, {"metadata": {"finalizers": finalizers}})


def wait_for_rest(node: Cluster) -> None:
    """Wait until the operator sends no more requests about the pipelines in STILL."""
    requests = Requests(node.audit_log)

    def counts() -> dict[tuple[str, str], int]:
        return {key: count for key, count in requests.counts().items() if key[0] in STILL}

    poll_until_stable(counts, QUIET, MINUTE, "no request about an unchanged pipeline")
