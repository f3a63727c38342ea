"""rerunStrategy InPlace on a kubelet that can restart all containers of a Pod (KEP-5532)."""

import pytest

from initpipeline.api.raw import Raw
from tests.cluster.cluster import Cluster
from tests.e2e.e2e_env import E2EEnv
from tests.e2e.presence import BOTH, Presence, down
from tests.operator_process import OperatorProcess
from tests.statuses import reason_of, run_number, runs, status_of
from tests.templates import two_steps


def uid(state: Raw) -> str:
    return str(state["metadata"]["uid"])


def kill_app(env: E2EEnv, node: Cluster, passes: int) -> None:
    """Kill the app container, and wait until the kubelet has restarted all containers.

    `passes` is the total number of restarts of all containers.
    """
    pod = uid(env.pod("demo"))
    node.kill_container(env.namespace, "demo", "app")
    env.pods.wait(
        "demo",
        "all containers have been restarted, or the Pod is terminating",
        lambda state: uid(state) == pod and (terminating(state) or restarted(state, passes)),
    )


def terminating(pod: Raw) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def restarted(pod: Raw, passes: int) -> bool:
    counts = [
        status["restartCount"]
        for kind in ("initContainerStatuses", "containerStatuses")
        for status in pod["status"].get(kind, ())
    ]
    return counts == [passes] * 3 and status_of(pod, "Ready") == "True"


def test_app_crash_runs_all_steps_again_in_the_same_pod(
    env: E2EEnv,
    node: Cluster,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    before = env.create_ready("demo", two_steps(), rerunStrategy="InPlace")

    kill_app(env, node, passes=1)

    after = env.wait_ready("demo", run=2)
    assert runs(after) == [(1, "Created", "Initialized"), (2, "RestartedInPlace", "")]
    assert after["status"]["podUID"] == before["status"]["podUID"]
    assert status_of(after, "InPlaceUnavailable") == "", "it is supported"
    assert_initialized_is_false_while_steps_run_again(env)


def assert_initialized_is_false_while_steps_run_again(env: E2EEnv) -> None:
    """Assert it of the pipeline. The Pod's own condition Initialized stays True."""
    of_two = [state for state in env.pipelines.of("demo") if run_number(state) == 2]
    progress = [(s["status"]["initProgress"], status_of(s, "Initialized")) for s in of_two]
    assert progress[0] == ("0/2", "False")
    assert set(progress) <= {("0/2", "False"), ("1/2", "False"), ("2/2", "True")}
    assert progress == sorted(progress), "the progress decreased"
    pods = [state for state in env.pods.of("demo") if status_of(state, "Initialized") == "True"]
    again = [step["state"] for pod in pods for step in pod["status"]["initContainerStatuses"]]
    assert any("running" in step for step in again), "the Pod's own condition became False"


def test_restart_while_the_operator_is_down_is_recorded(
    env: E2EEnv, node: Cluster, operator: OperatorProcess
) -> None:
    before = env.create_ready("demo", two_steps(), rerunStrategy="InPlace")

    with down(operator):
        kill_app(env, node, passes=1)

    after = env.wait_ready("demo", run=2)
    assert runs(after) == [(1, "Created", "Initialized"), (2, "RestartedInPlace", "")]
    assert after["status"]["podUID"] == before["status"]["podUID"]


@pytest.mark.parametrize("presence", BOTH)
def test_second_restart_within_ten_minutes_recreates_the_pod_without_rules(
    env: E2EEnv, node: Cluster, operator: OperatorProcess, presence: Presence
) -> None:
    before = env.create_ready("demo", two_steps(), rerunStrategy="InPlace")
    kill_app(env, node, passes=1)
    env.wait_ready("demo", run=2)

    with presence(operator):
        kill_app(env, node, passes=2)

    state = env.wait_ready("demo", run=4)
    assert [(number, trigger) for number, trigger, _ in runs(state)] == [
        (1, "Created"),
        (2, "RestartedInPlace"),
        (3, "RestartedInPlace"),
        (4, "ContainerRestarted"),
    ]
    assert state["status"]["podUID"] != before["status"]["podUID"]
    assert reason_of(state, "InPlaceUnavailable") == "InPlaceTooOften"
    assert "restartPolicyRules" not in env.pod("demo")["spec"]["containers"][0]
