"""The operator and other actors: deletions, a second operator, changes during its downtime."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubernetes import client

from initpipeline.api import names
from tests.builders import NAME, running_pod
from tests.cluster.cluster import Cluster
from tests.contract.contract_env import TIMEOUT_SECONDS, ContractEnv, RequestCounter
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.statuses import is_ready, runs_in

pytest_plugins = ["tests.contract.operator_fixtures"]

READY = running_pod()

Missed = dict[Callable[[ContractEnv], None], ContractEnv]
"""The environment in which each change was made during the downtime."""


def wait_for_first_run(env: ContractEnv) -> None:
    """Wait until the pipeline's first run is Ready."""
    env.create()
    env.run_pod(READY)
    env.wait("Ready", is_ready)


def wait_until_observed(api: client.ApiClient) -> None:
    """Wait until the operator has observed all changes of pipelines so far: it serves a pipeline
    that was created after them, and a watch reports events in order."""
    probe = ContractEnv.new(api)
    probe.create()
    poll_until(probe.pod, TIMEOUT_SECONDS, "the Pod of a later pipeline")


@pytest.mark.usefixtures("shared_operator")
class TestDeletion:
    """The test deletes the Pod before or after the pipeline, as the garbage collector would. The
    operator watches both kinds, in no order between them, so the test waits in between."""

    def test_foreground_deletion_causes_no_request(
        self, api: client.ApiClient, env: ContractEnv, shared_request_counter: RequestCounter
    ) -> None:
        wait_for_first_run(env)
        wait_for_events(shared_request_counter)
        env.delete("Foreground")
        wait_until_observed(api)
        env.delete_pod()
        shared_request_counter.reset()
        assert not shared_request_counter.counts_at_rest(), (
            "requests for a pipeline that is being deleted"
        )
        assert env.pod() is None
        env.patch({"metadata": {"finalizers": None}})
        assert not shared_request_counter.counts_at_rest()
        assert (env.pipeline(), env.pod()) == (None, None)

    def test_change_of_a_pipeline_in_deletion_starts_no_run(
        self, api: client.ApiClient, env: ContractEnv, shared_request_counter: RequestCounter
    ) -> None:
        """The policy `requester` does not check such changes: a user without the permission to
        create Pods could otherwise not remove a finalizer."""
        wait_for_first_run(env)
        wait_for_events(shared_request_counter)
        env.patch({"metadata": {"finalizers": ["example.com/wait"]}})
        env.delete("Background")
        env.patch({"metadata": {"annotations": {names.RERUN_ANNOTATION: "late"}}})
        env.patch({"spec": {"template": {"spec": {"hostNetwork": True}}, "suspend": True}})
        env.patch({"spec": {"suspend": None}})
        env.pipelines.patch_status(NAME, {"run": None})
        wait_until_observed(api)
        shared_request_counter.reset()
        env.delete_pod()
        assert not shared_request_counter.counts_at_rest(), "requests for a deleted pipeline"
        assert env.pod() is None
        env.patch({"metadata": {"finalizers": None}})

    @pytest.mark.parametrize("policy", ["Background", "Orphan"])
    def test_deletion_of_the_pipeline_before_its_pod_causes_no_request(
        self,
        api: client.ApiClient,
        env: ContractEnv,
        shared_request_counter: RequestCounter,
        policy: str,
    ) -> None:
        wait_for_first_run(env)
        wait_for_events(shared_request_counter)
        env.delete(policy)
        if policy == "Orphan":
            env.patch({"metadata": {"finalizers": None}})
        wait_until_observed(api)
        shared_request_counter.reset()
        env.delete_pod()
        assert not shared_request_counter.counts_at_rest(), "requests for a deleted pipeline"
        assert (env.pipeline(), env.pod()) == (None, None)

    def test_new_pipeline_of_the_same_name_starts_with_run_1(self, env: ContractEnv) -> None:
        wait_for_first_run(env)
        env.delete("Background")
        env.create()
        env.wait("status of the new pipeline", lambda s: runs_in(s) == [(1, "Created", "")])
        env.delete_pod()
        pod = env.wait_for_pod(run=1)
        pipeline = env.pipeline()
        assert pipeline is not None
        assert pod["metadata"]["ownerReferences"][0]["uid"] == pipeline["metadata"]["uid"]


class TestTwoOperators:
    """They have different Leases. The API server refuses conflicting writes."""

    @pytest.fixture
    def other(
        self, control_plane: Cluster, namespace: str, tmp_path: Path
    ) -> Iterator[OperatorProcess]:
        kubeconfig = control_plane.kubeconfig_for(f"other-{namespace}", ["system:masters"])
        log = tmp_path / "other.log"
        with OperatorProcess(kubeconfig, log, ["--namespace", namespace]) as process:
            yield process

    def test_two_operators_create_one_pod_and_one_run_per_cause(
        self, shared_operator: OperatorProcess, other: OperatorProcess, env: ContractEnv
    ) -> None:
        wait_for_first_run(env)
        env.patch({"metadata": {"annotations": {"initpipeline.dev/rerun": "now"}}})
        env.wait("the second run", lambda s: len(runs_in(s)) == 2)
        wait_for_deletion(env)
        env.delete_pod()
        env.run_pod(READY, run=2)
        env.wait("Ready", is_ready)
        assert runs_in(env.status()) == [(1, "Created", "Initialized"), (2, "Requested", "")]
        for process in (shared_operator, other):
            assert process.running
            key = f"{env.namespace}/demo"
            lines = [line for line in process.lines() if line.get("pipeline") == key]
            problems = [line for line in lines if line["level"] not in ("DEBUG", "INFO")]
            assert not problems, "a conflict is logged as a problem"


def delete_pod(env: ContractEnv) -> None:
    env.delete_pod()


def delete_pipeline(env: ContractEnv) -> None:
    env.delete("Background")


def change_template(env: ContractEnv) -> None:
    containers = [{"name": "app", "image": "nginx:2"}]
    env.patch({"spec": {"template": {"spec": {"containers": containers}}}})


@pytest.fixture(scope="class")
def missed(shared_operator: OperatorProcess, api: client.ApiClient) -> Missed:
    """Makes each change in an environment of its own while the operator is down."""
    envs: Missed = {
        change: ContractEnv.new(api) for change in (delete_pod, delete_pipeline, change_template)
    }
    for env in envs.values():
        wait_for_first_run(env)
    shared_operator.kill()
    for change, env in envs.items():
        change(env)
    shared_operator.start()
    return envs


class TestDowntime:
    """After its start, the operator finds changes that were made during its downtime."""

    def test_deleted_pod_is_recorded_as_lost_after_downtime(self, missed: Missed) -> None:
        env = missed[delete_pod]
        env.wait_for_pod(run=2)
        assert runs_in(env.status()) == [(1, "Created", "Lost"), (2, "PodLost", "")]

    def test_deleted_pipeline_causes_no_request_after_downtime(
        self, missed: Missed, control_plane: Cluster, shared_user: str
    ) -> None:
        env = missed[delete_pipeline]
        request_counter = RequestCounter(control_plane.audit_log, shared_user, env.namespace)
        env.delete_pod()
        assert not request_counter.counts_at_rest(), "requests for a deleted pipeline"

    def test_changed_template_starts_a_run_after_downtime(self, missed: Missed) -> None:
        env = missed[change_template]
        wait_for_deletion(env)
        assert runs_in(env.status()) == [(1, "Created", "Initialized"), (2, "SpecChanged", "")]


def wait_for_deletion(env: ContractEnv) -> None:
    """Wait until the Pod is being deleted."""

    def deleting() -> bool:
        pod = env.pod()
        return pod is not None and "deletionTimestamp" in pod["metadata"]

    poll_until(deleting, TIMEOUT_SECONDS, "the deletion of the Pod", state=env.pod)


def wait_for_events(request_counter: RequestCounter) -> None:
    """Wait for the events that the first run started and is initialized."""
    created = "create events 201"
    poll_until(
        lambda: request_counter.counts()[created] == 2,
        TIMEOUT_SECONDS,
        "two events",
        state=request_counter.counts,
    )
