"""Pods that the operator's watch of labelled Pods does not deliver: a Pod of another owner has the
name of the pipeline, or the pipeline's Pod loses the label.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from kubernetes import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from initpipeline.api.reasons import Reason
from initpipeline.api.times import parse_time
from tests.api_client import manifest
from tests.builders import NAME, fresh_pod, pipeline, running_pod
from tests.contract.contract_env import TIMEOUT_SECONDS, ContractEnv, RequestCounter
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.statuses import condition, is_ready, runs_in

pytest_plugins = ["tests.contract.operator_fixtures"]

MANY: Final = 50
FOREIGN: Final = {"containers": [{"name": "app", "image": "none.test/none"}]}


def take(env: ContractEnv, name: str = NAME, **metadata: Any) -> None:
    """Create a Pod of this name that has no owner."""
    body = {"metadata": {"name": name, **metadata}, "spec": FOREIGN}
    client.CoreV1Api(env.api).create_namespaced_pod(env.namespace, body)


def free(env: ContractEnv, name: str = NAME) -> None:
    """Delete the Pod of this name."""
    delete = client.CoreV1Api(env.api).delete_namespaced_pod
    delete(name, env.namespace, grace_period_seconds=0)


def wait_for_conflict(env: ContractEnv) -> Raw:
    status: Raw = env.wait(
        "the conflict", lambda s: condition(s, "Ready")["reason"] == Reason.NAME_CONFLICT and s
    )
    return status


def relabel(env: ContractEnv, value: str | None) -> None:
    body = {"metadata": {"labels": {names.NAME_LABEL: value}}}
    client.CoreV1Api(env.api).patch_namespaced_pod(NAME, env.namespace, body)


@pytest.mark.usefixtures("shared_operator")
class TestNameTaken:
    @pytest.mark.parametrize(
        "labels",
        [
            pytest.param({}, id="by a bare Pod"),
            pytest.param({names.NAME_LABEL: NAME}, id="by a Pod with our label"),
        ],
    )
    def test_pod_is_created_when_the_name_becomes_free(
        self, env: ContractEnv, labels: dict[str, str]
    ) -> None:
        take(env, labels=labels)
        env.create()
        wait_for_conflict(env)
        free(env)
        env.wait_for_pod(run=1)
        assert runs_in(env.status()) == [(1, "Created", "")]

    def test_terminating_foreign_pod_is_waited_for(self, env: ContractEnv) -> None:
        take(env)
        env.bind()
        env.create()
        wait_for_conflict(env)
        env.delete_pod(grace_seconds=30)
        env.wait(
            "the message that it is being deleted",
            lambda s: (
                "that does not belong to this InitPipeline is being deleted"
                in condition(s, "Ready")["message"]
            ),
        )
        env.delete_pod()
        env.wait_for_pod(run=1)

    def test_pod_of_a_deleted_pipeline_of_the_name_is_replaced(self, env: ContractEnv) -> None:
        """No garbage collector runs. In a cluster it misses the deletion if the API server restarts
        while the InitPipeline is deleted and created again."""
        env.create()
        old = env.wait_for_pod(run=1)["metadata"]
        created = parse_time(old["creationTimestamp"])
        assert created is not None
        env.pipelines.delete(NAME, "Background")
        later = created + timedelta(seconds=1)
        poll_until(lambda: datetime.now(UTC) >= later, TIMEOUT_SECONDS, "a later second")
        env.create()
        poll_until(
            lambda: (found := env.pod()) and found["metadata"]["uid"] != old["uid"],
            TIMEOUT_SECONDS,
            "the Pod of the new InitPipeline",
            state=env.status,
        )
        env.wait_for_pod(run=1)

    def test_name_that_is_taken_again_is_a_conflict_again(self, env: ContractEnv) -> None:
        take(env)
        env.create()
        wait_for_conflict(env)
        env.patch({"spec": {"suspend": True}})
        env.wait("Suspended", lambda s: condition(s, "Suspended")["status"] == "True")
        free(env)
        take(env)
        env.patch({"spec": {"suspend": False}})
        wait_for_conflict(env)
        free(env)
        env.wait_for_pod(run=2)

    def test_orphaned_pod_is_not_adopted(self, env: ContractEnv) -> None:
        """kubectl delete --cascade=orphan: no status records the run of its init containers."""
        env.create()
        env.run_pod(running_pod())
        env.delete("Orphan")
        env.patch({"metadata": {"finalizers": None}})
        body = {"metadata": {"ownerReferences": None}}
        client.CoreV1Api(env.api).patch_namespaced_pod(NAME, env.namespace, body)
        env.create()
        wait_for_conflict(env)
        free(env)
        env.wait_for_pod(run=1)

    def test_many_taken_names_in_a_namespace_cost_one_watch(
        self, env: ContractEnv, shared_request_counter: RequestCounter
    ) -> None:
        """Each pipeline costs one refused creation, two reads of the Pod (before and after the
        start of the watch), one write (run with conflict) and two events. A third read is possible
        if the watch delivers the write before its response arrives. Then there are no requests
        while the Pod remains."""
        pipelines = [f"demo-{number}" for number in range(MANY)]
        for name in pipelines:
            take(env, name)
        for name in pipelines:
            env.pipelines.create(manifest(name, pipeline().raw()["spec"]))
        counts = shared_request_counter.counts_at_rest(quiet=3)
        assert 2 * MANY <= counts.pop("get pods 200") <= 3 * MANY
        assert counts == Counter(
            {
                "create pods 409": MANY,
                "patch initpipelines/status 200": MANY,
                "create events 201": 2 * MANY,
                "list pods 200": 1,
            }
        )

        shared_request_counter.reset()
        for name in pipelines:
            free(env, name)
        core = client.CoreV1Api(env.api)

        def created() -> int:
            pods = core.list_namespaced_pod(env.namespace, label_selector=names.NAME_LABEL)
            return len(pods.items)

        poll_until(lambda: created() == MANY, TIMEOUT_SECONDS, "all Pods", state=created)
        counts = shared_request_counter.counts_at_rest()
        assert counts["create pods 201"] == MANY
        assert counts["get pods 404"] == MANY
        assert not counts["create pods 409"]


def test_name_freed_during_downtime_is_used_after_the_start(
    env: ContractEnv, operator: OperatorProcess
) -> None:
    take(env)
    env.create()
    wait_for_conflict(env)
    operator.kill()
    free(env)
    operator.start()
    env.wait_for_pod(run=1)
    assert runs_in(env.status()) == [(1, "Created", "")]


def test_operator_stops_while_a_watch_is_open(env: ContractEnv, operator: OperatorProcess) -> None:
    take(env)
    env.create()
    wait_for_conflict(env)
    assert operator.stop() == 0
    assert [line["message"] for line in operator.lines()][-1] == "operator stopped"


@pytest.mark.usefixtures("shared_operator")
class TestLabel:
    @pytest.fixture
    def unlabelled(self, env: ContractEnv) -> ContractEnv:
        """Returns an environment in which the Pod has lost the operator's label."""
        env.create()
        env.run_pod(fresh_pod().init("one", running=True))
        relabel(env, None)
        return env

    def test_pod_without_the_label_is_mirrored(self, unlabelled: ContractEnv) -> None:
        unlabelled.report(running_pod())
        unlabelled.wait("Ready", is_ready)

    def test_deleted_pod_without_the_label_is_lost(self, unlabelled: ContractEnv) -> None:
        unlabelled.delete_pod()
        unlabelled.wait_for_pod(run=2)
        assert runs_in(unlabelled.status()) == [(1, "Created", "Lost"), (2, "PodLost", "")]

    def test_pod_with_a_restored_label_is_mirrored(self, unlabelled: ContractEnv) -> None:
        relabel(unlabelled, NAME)
        unlabelled.report(running_pod())
        unlabelled.wait("Ready", is_ready)
