"""Pipelines whose name a Pod of another owner has, or whose own Pod loses the label: what the
operator observes although its watch of labelled Pods does not show it, and what that costs.
"""

from collections import Counter
from typing import Any, Final

import pytest
from kubernetes import client

from initpipeline.api import names
from initpipeline.api.reasons import Reason
from tests.builders import NAME, fresh_pod, pipeline, running_pod
from tests.contract.operator_world import Ledger, World, condition, ready, runs, until
from tests.operator_process import OperatorProcess

pytest_plugins = ["tests.contract.operator_fixtures"]

Object = dict[str, Any]
MANY: Final = 50
FOREIGN: Final = {"containers": [{"name": "app", "image": "none.test/none"}]}


def take(world: World, name: str = NAME, **metadata: Any) -> None:
    """Somebody creates a Pod of this name."""
    body = {"metadata": {"name": name, **metadata}, "spec": FOREIGN}
    client.CoreV1Api(world.api).create_namespaced_pod(world.namespace, body)


def free(world: World, name: str = NAME) -> None:
    """And deletes it."""
    delete = client.CoreV1Api(world.api).delete_namespaced_pod
    delete(name, world.namespace, grace_period_seconds=0)


def wait_conflict(world: World) -> Object:
    status: Object = world.wait(
        "the conflict", lambda s: condition(s, "Ready")["reason"] == Reason.NAME_CONFLICT and s
    )
    return status


def relabel(world: World, value: str | None) -> None:
    body = {"metadata": {"labels": {names.NAME_LABEL: value}}}
    client.CoreV1Api(world.api).patch_namespaced_pod(NAME, world.namespace, body)


@pytest.mark.usefixtures("shared_operator")
class TestNameTaken:
    @pytest.mark.parametrize(
        "labels",
        [
            pytest.param({}, id="by a bare Pod"),
            pytest.param({names.NAME_LABEL: NAME}, id="by a Pod with our label"),
        ],
    )
    def test_free_name_is_used(self, world: World, labels: dict[str, str]) -> None:
        take(world, labels=labels)
        world.create()
        wait_conflict(world)
        free(world)
        world.wait_for_pod(run=1)
        assert runs(world.status()) == [(1, "Created", "")]

    def test_pod_that_takes_its_time_to_go_is_waited_for(self, world: World) -> None:
        take(world)
        world.bind()
        world.create()
        wait_conflict(world)
        world.delete_pod(grace_seconds=30)
        world.wait(
            "word of it",
            lambda s: (
                "that does not belong to this InitPipeline is being deleted"
                in condition(s, "Ready")["message"]
            ),
        )
        world.delete_pod()
        world.wait_for_pod(run=1)

    def test_pod_that_takes_the_name_again_is_noticed(self, world: World) -> None:
        take(world)
        world.create()
        wait_conflict(world)
        world.patch({"spec": {"suspend": True}})
        world.wait("Suspended", lambda s: condition(s, "Suspended")["status"] == "True")
        free(world)
        take(world)
        world.patch({"spec": {"suspend": False}})
        wait_conflict(world)
        free(world)
        world.wait_for_pod(run=2)

    def test_orphaned_pod_is_not_adopted(self, world: World) -> None:
        """kubectl delete --cascade=orphan: its init containers ran for a run that is not known."""
        world.create()
        world.live(running_pod())
        world.delete("Orphan")
        world.patch({"metadata": {"finalizers": None}})
        body = {"metadata": {"ownerReferences": None}}
        client.CoreV1Api(world.api).patch_namespaced_pod(NAME, world.namespace, body)
        world.create()
        wait_conflict(world)
        free(world)
        world.wait_for_pod(run=1)

    def test_many_names_in_a_namespace_cost_one_watch(
        self, world: World, shared_ledger: Ledger
    ) -> None:
        """Of each pipeline: one creation that is refused, two reads of the Pod, before and after it
        is looked out for, the writes for run and conflict, and an event for each of these. One
        more read, if the watch is faster than the answer to the write. Then nothing for as long as
        the Pod stays."""
        every = [f"demo-{number}" for number in range(MANY)]
        for name in every:
            take(world, name)
        custom = client.CustomObjectsApi(world.api)
        place = (names.GROUP, names.VERSION, world.namespace, names.PLURAL)
        raw = pipeline().raw()
        for name in every:
            body = {key: raw[key] for key in ("apiVersion", "kind", "spec")}
            body["metadata"] = {"name": name}
            custom.create_namespaced_custom_object(*place, body)
        counts = shared_ledger.at_rest(quiet=3)
        assert 2 * MANY <= counts.pop("get pods 200") <= 3 * MANY
        assert counts == Counter(
            {
                "create pods 409": MANY,
                "patch initpipelines/status 200": 2 * MANY,
                "create events 201": 2 * MANY,
                "list pods 200": 1,
            }
        )

        shared_ledger.forget()
        for name in every:
            free(world, name)
        core = client.CoreV1Api(world.api)

        def made() -> int:
            found = core.list_namespaced_pod(world.namespace, label_selector=names.NAME_LABEL)
            return len(found.items)

        until(lambda: made() == MANY, "all Pods", made)
        counts = shared_ledger.at_rest()
        assert counts["create pods 201"] == MANY
        assert counts["get pods 404"] == MANY
        assert not counts["create pods 409"]


def test_name_that_is_freed_while_the_operator_is_away_is_used(
    world: World, operator: OperatorProcess
) -> None:
    take(world)
    world.create()
    wait_conflict(world)
    operator.kill()
    free(world)
    operator.start()
    world.wait_for_pod(run=1)
    assert runs(world.status()) == [(1, "Created", "")]


def test_open_watch_does_not_keep_the_operator_from_ending(
    world: World, operator: OperatorProcess
) -> None:
    take(world)
    world.create()
    wait_conflict(world)
    assert operator.stop() == 0
    assert [line["message"] for line in operator.lines()][-1] == "operator stopped"


@pytest.mark.usefixtures("shared_operator")
class TestLabel:
    @pytest.fixture
    def unlabelled(self, world: World) -> World:
        """The pipeline's first step runs in a Pod without our label."""
        world.create()
        world.live(fresh_pod().init("one", running=True))
        relabel(world, None)
        return world

    def test_pod_that_loses_it_is_mirrored(self, unlabelled: World) -> None:
        unlabelled.report(running_pod())
        unlabelled.wait("Ready", ready)

    def test_pod_that_loses_it_and_goes_is_lost(self, unlabelled: World) -> None:
        unlabelled.delete_pod()
        unlabelled.wait_for_pod(run=2)
        assert runs(unlabelled.status()) == [(1, "Created", "Lost"), (2, "PodLost", "")]

    def test_pod_that_gets_it_back_is_mirrored(self, unlabelled: World) -> None:
        relabel(unlabelled, NAME)
        unlabelled.report(running_pod())
        unlabelled.wait("Ready", ready)
