"""Several replicas share the pipelines of a namespace, on a real API server.

Each pipeline has a token that requests a run. If two replicas served it, or none, the number of its
run would show that.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from kubernetes import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from initpipeline.runtime.buckets import BUCKETS
from tests.api_client import Pipelines, manifest
from tests.builders import pipeline
from tests.cluster.cluster import Cluster
from tests.image.source import PROJECT
from tests.kubectl import Kubectl
from tests.operator_process import OperatorProcess
from tests.poll import poll_until

LEASE: Final = "sharing"
SECONDS: Final = 60
"""Longer than anything takes, because machines are slow at times."""
FAST: Final = ("--lease-seconds=10", "--renew-seconds=7", "--retry-seconds=1")
"""Periods of the Leases, so that the test need not wait for long."""


class Group:
    """Replicas that share the pipelines of a namespace: one of each bucket and one without."""

    def __init__(self, kubeconfig: Path, api: client.ApiClient, namespace: str, logs: Path) -> None:
        self._kubeconfig, self.namespace, self._logs = kubeconfig, namespace, logs
        self._leases = client.CoordinationV1Api(api)
        self.core = client.CoreV1Api(api)
        self.pipelines = Pipelines(api, namespace)
        self.names: list[str] = []
        self.runs = 0
        """The run that each pipeline must have."""
        self.started: dict[str, OperatorProcess] = {}

    def create(self) -> None:
        """Create the pipelines."""
        self.runs = 1
        for bucket in (*BUCKETS, ""):
            body = manifest(f"in-{bucket or 'none'}", pipeline().raw()["spec"])
            if bucket:
                body["metadata"]["labels"] = {names.BUCKET_LABEL: bucket}
            self.pipelines.create(body)
            self.names.append(body["metadata"]["name"])

    def start(self, identity: str, shards: int = 4) -> OperatorProcess:
        """Start a replica, or start it again."""
        if identity not in self.started:
            self.started[identity] = OperatorProcess(
                self._kubeconfig,
                self._logs / f"{identity}.log",
                [
                    f"--namespace={self.namespace}",
                    "--sweep-seconds=99999",
                    f"--shards={shards}",
                    *FAST,
                ],
                {"INITPIPELINE_LEASE_NAME": LEASE, "INITPIPELINE_IDENTITY": identity},
            )
        self.started[identity].start()
        return self.started[identity]

    def request_run(self) -> None:
        """Request a run of each pipeline."""
        self.runs += 1
        token = {"metadata": {"annotations": {names.RERUN_ANNOTATION: f"token-{self.runs}"}}}
        for name in self.names:
            self.pipelines.patch(name, token)

    def holders(self) -> dict[str, str]:
        """Returns the holder of each Lease by the end of its name."""
        leases = self._leases.list_namespaced_lease(self.namespace).items
        return {
            one.metadata.name.removeprefix(LEASE): one.spec.holder_identity or "" for one in leases
        }

    def holder(self) -> str:
        """Returns the holder of the common Lease."""
        return self.holders().get("", "")

    def wait_for_holder(self, holder: str) -> None:
        """Wait until the common Lease has this holder."""
        self._poll(lambda: self.holder() == holder, f"{holder} has the Lease")

    def wait_for_holders(self, *identities: str, shards: int = 4) -> None:
        """Wait until these replicas hold all shards, each at least one."""

        def held() -> bool:
            of_shards = [holder for end, holder in self.holders().items() if end]
            return len(of_shards) == shards and set(of_shards) == set(identities)

        self._poll(held, f"{identities} hold all shards")

    def wait_for_runs(self) -> None:
        """Wait until each pipeline has its run, in a Pod of that run with the label of its
        pipeline."""
        self._poll(lambda: not self._wrong(), f"run {self.runs} of all pipelines")

    def _wrong(self) -> list[tuple[str, Any]]:
        pods = {
            pod.metadata.name: pod.metadata
            for pod in self.core.list_namespaced_pod(self.namespace).items
        }
        wrong = []
        for raw in self.pipelines.list():
            name = raw["metadata"]["name"]
            run, pod = raw.get("status", {}).get("run", {}).get("number"), pods.get(name)
            found = (
                run,
                pod and int(pod.annotations[names.RUN_ANNOTATION]),
                pod and pod.labels.get(names.BUCKET_LABEL),
            )
            if found != (
                self.runs,
                self.runs,
                raw["metadata"].get("labels", {}).get(names.BUCKET_LABEL),
            ):
                wrong.append((name, found))
        return wrong

    def _poll(self, condition: Any, what: str) -> None:
        poll_until(
            condition,
            SECONDS,
            what,
            state=lambda: "\n".join(
                [str(self.holders()), str(self._wrong())]
                + [process.tail()[-500:] for process in self.started.values()]
            ),
        )

    def stop(self) -> None:
        for process in self.started.values():
            if process.running:
                os.kill(process.pid, signal.SIGCONT)
                process.kill()


@pytest.fixture
def group(
    control_plane: Cluster, api: client.ApiClient, user: str, namespace: str, tmp_path: Path
) -> Iterator[Group]:
    kubeconfig = control_plane.kubeconfig_for(user, ["system:masters"])
    group = Group(kubeconfig, api, namespace, tmp_path)
    yield group
    group.stop()


@pytest.fixture
def user(namespace: str) -> str:
    return f"operator-{namespace}"


def test_shards_move_when_replicas_come_and_go(group: Group) -> None:
    """Two replicas, then four. One of them is paused, one is stopped, and the paused one continues.
    It serves nothing that has moved meanwhile."""
    group.create()
    paused = group.start("a")
    group.start("b")
    group.wait_for_holders("a", "b")
    group.wait_for_runs()
    group.request_run()
    group.start("c")
    group.start("d")
    group.wait_for_holders("a", "b", "c", "d")
    group.wait_for_runs()
    os.kill(paused.pid, signal.SIGSTOP)
    group.request_run()
    assert group.started["b"].stop() == 0
    group.wait_for_holders("c", "d")
    group.wait_for_runs()
    group.request_run()
    group.wait_for_runs()
    os.kill(paused.pid, signal.SIGCONT)
    group.wait_for_holders("a", "c", "d")
    group.request_run()
    group.wait_for_runs()
    assert paused.running
    assert group.holder() == "replicas with 4 shards"


def test_number_of_shards_changes_when_all_other_replicas_have_ended(group: Group) -> None:
    """A rollout starts a replica with the new number before it ends the last one with the old."""
    group.create()
    for shards, identity, holder in (
        (1, "one", "one"),
        (4, "four", "replicas with 4 shards"),
        (2, "two", "replicas with 2 shards"),
    ):
        before = [process for process in group.started.values() if process.running]
        group.start(identity, shards)
        for process in before:
            assert group.holder() != holder
            assert process.stop() == 0
        group.wait_for_holder(holder)
        group.wait_for_runs()
        group.request_run()
        group.wait_for_runs()


def test_pipeline_whose_bucket_changes_is_served_by_the_other_replica(group: Group) -> None:
    """Its Pod keeps the old label until the next run. Its loss is noticed nevertheless."""
    group.create()
    group.start("a")
    group.start("b")
    group.wait_for_holders("a", "b")
    group.wait_for_runs()
    for index, name in enumerate(group.names):
        bucket = None if index % 3 == 0 else BUCKETS[(7 * index + 1) % 16]
        group.pipelines.patch(name, {"metadata": {"labels": {names.BUCKET_LABEL: bucket}}})
    for name in group.names:
        group.core.delete_namespaced_pod(name, group.namespace, grace_period_seconds=0)
    group.runs += 1
    group.wait_for_runs()
    group.request_run()
    group.wait_for_runs()


@pytest.mark.newest
def test_policy_gives_each_pipeline_a_bucket_for_its_life(
    kubectl: Kubectl, group: Group, tmp_path: Path
) -> None:
    documents = list(
        yaml.safe_load_all((PROJECT / "manifests" / "sharding" / "bucket.yaml").read_text())
    )
    names_ = {"kubernetes.io/metadata.name": group.namespace}
    # Without this, it would change the pipelines of other tests.
    documents[1]["spec"]["matchResources"] = {"namespaceSelector": {"matchLabels": names_}}
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump_all(documents))
    kubectl("apply", "-f", str(tmp_path / "policy.yaml"))

    def bucket(name: str) -> str | None:
        labels: Raw = group.pipelines.get(name)["metadata"].get("labels", {})
        value: str | None = labels.get(names.BUCKET_LABEL)
        return value

    def created(name: str) -> str | None:
        group.pipelines.create(manifest(name, pipeline().raw()["spec"]))
        return bucket(name)

    probes = iter(range(10**6))
    poll_until(lambda: created(f"probe-{next(probes)}"), SECONDS, "the policy is in force")
    found = [created(f"shop-{number}") for number in range(32)]
    assert set(found) <= set(BUCKETS)
    assert len(set(found)) > 8
    for value in ("zz", None):
        group.pipelines.patch("shop-0", {"metadata": {"labels": {names.BUCKET_LABEL: value}}})
        assert bucket("shop-0") == found[0]
