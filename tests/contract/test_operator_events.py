"""What happens around the operator: deletions, a second operator, what it missed while away."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubernetes import client

from tests.builders import running_pod
from tests.cluster.cluster import Cluster
from tests.contract.operator_world import Ledger, World, ready, runs, until
from tests.operator_process import OperatorProcess

pytest_plugins = ["tests.contract.operator_fixtures"]

READY = running_pod()

Missed = dict[Callable[[World], None], World]


def started(world: World) -> None:
    """The pipeline's first run is Ready."""
    world.create()
    world.live(READY)
    world.wait("Ready", ready)


@pytest.mark.usefixtures("shared_operator")
class TestDeletion:
    """The garbage collector is the test: it deletes the Pod, before the pipeline or after it."""

    def test_foreground(self, world: World, shared_ledger: Ledger) -> None:
        started(world)
        wait_for_events(shared_ledger)
        world.delete("Foreground")
        world.delete_pod()
        shared_ledger.forget()
        assert not shared_ledger.at_rest(), "something was asked for a pipeline that is going"
        assert world.pod() is None
        world.patch({"metadata": {"finalizers": None}})
        assert not shared_ledger.at_rest()
        assert (world.pipeline(), world.pod()) == (None, None)

    @pytest.mark.parametrize("policy", ["Background", "Orphan"])
    def test_pipeline_first(self, world: World, shared_ledger: Ledger, policy: str) -> None:
        started(world)
        wait_for_events(shared_ledger)
        world.delete(policy)
        if policy == "Orphan":
            world.patch({"metadata": {"finalizers": None}})
        shared_ledger.forget()
        world.delete_pod()
        assert not shared_ledger.at_rest(), "something was asked for a pipeline that is gone"
        assert (world.pipeline(), world.pod()) == (None, None)

    def test_one_of_the_same_name_starts_anew(self, world: World) -> None:
        started(world)
        world.delete("Background")
        world.create()
        world.wait("word of the old Pod", lambda s: runs(s) == [(1, "Created", "")])
        world.delete_pod()
        pod = world.wait_for_pod(run=1)
        pipeline = world.pipeline()
        assert pipeline is not None
        assert pod["metadata"]["ownerReferences"][0]["uid"] == pipeline["metadata"]["uid"]


class TestTwoOperators:
    """No lease keeps them apart: the API server does, write by write."""

    @pytest.fixture
    def other(
        self, control_plane: Cluster, namespace: str, tmp_path: Path
    ) -> Iterator[OperatorProcess]:
        kubeconfig = control_plane.kubeconfig_for(f"other-{namespace}", ["system:masters"])
        log = tmp_path / "other.log"
        with OperatorProcess(kubeconfig, log, ["--namespace", namespace]) as process:
            yield process

    def test_make_one_pod_and_one_run_of_each_cause(
        self, shared_operator: OperatorProcess, other: OperatorProcess, world: World
    ) -> None:
        started(world)
        world.patch({"metadata": {"annotations": {"initpipeline.dev/rerun": "now"}}})
        world.wait("the second run", lambda s: len(runs(s)) == 2)
        wait_for_deletion(world)
        world.delete_pod()
        world.live(READY, run=2)
        world.wait("Ready", ready)
        assert runs(world.status()) == [(1, "Created", "Initialized"), (2, "Requested", "")]
        for process in (shared_operator, other):
            assert process.running
            ours = [e for e in process.lines() if e.get("pipeline") == f"{world.namespace}/demo"]
            trouble = [line for line in ours if line["level"] != "INFO"]
            assert not trouble, "a conflict is no trouble"


def lose_pod(world: World) -> None:
    world.delete_pod()


def lose_all(world: World) -> None:
    world.delete("Background")


def edit(world: World) -> None:
    containers = [{"name": "app", "image": "nginx:2"}]
    world.patch({"spec": {"template": {"spec": {"containers": containers}}}})


@pytest.fixture(scope="class")
def missed(shared_operator: OperatorProcess, api: client.ApiClient) -> Missed:
    """For each thing that happens, the world that it happens to."""
    worlds: Missed = {happens: World.new(api) for happens in (lose_pod, lose_all, edit)}
    for world in worlds.values():
        started(world)
    shared_operator.kill()
    for happens, world in worlds.items():
        happens(world)
    shared_operator.start()
    return worlds


class TestMissed:
    """What happens while the operator is down, it finds when it starts, from the API alone."""

    def test_a_deleted_pod(self, missed: Missed) -> None:
        world = missed[lose_pod]
        world.wait_for_pod(run=2)
        assert runs(world.status()) == [(1, "Created", "Lost"), (2, "PodLost", "")]

    def test_a_deleted_pipeline(
        self, missed: Missed, control_plane: Cluster, shared_user: str
    ) -> None:
        world = missed[lose_all]
        ledger = Ledger(control_plane.audit_log, shared_user, world.namespace)
        world.delete_pod()
        assert not ledger.at_rest(), "something was asked for a pipeline that is gone"

    def test_a_changed_template(self, missed: Missed) -> None:
        world = missed[edit]
        wait_for_deletion(world)
        assert runs(world.status()) == [(1, "Created", "Initialized"), (2, "SpecChanged", "")]


def wait_for_deletion(world: World) -> None:
    """Until somebody has asked for that of the Pod."""

    def deleting() -> bool:
        pod = world.pod()
        return pod is not None and "deletionTimestamp" in pod["metadata"]

    until(deleting, "the deletion of the Pod", world.pod)


def wait_for_events(ledger: Ledger) -> None:
    """Until it is told that the first run started, and that it is initialized."""
    posted = "create events 201"
    until(lambda: ledger.counts()[posted] == 2, "two events", ledger.counts)
