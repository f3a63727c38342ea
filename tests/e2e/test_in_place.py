"""rerunStrategy InPlace on a kubelet that can restart all containers of a Pod (KEP-5532)."""

import pytest

from tests.cluster.cluster import Cluster
from tests.e2e.conftest import E2EEnv, reason_of, run_number, runs, status_of
from tests.e2e.presence import BOTH, Presence, gone
from tests.e2e.templates import two_steps
from tests.operator_process import OperatorProcess
from tests.watching import Object


def uid(state: Object) -> str:
    return str(state["metadata"]["uid"])


def kill_app(env: E2EEnv, node: Cluster, passes: int) -> None:
    """The app container dies, and the kubelet restarts all containers for the so-manieth time."""
    pod = uid(env.pod("demo"))
    node.kill_container(env.namespace, "demo", "app")
    env.pods.wait(
        "demo",
        "all containers have been restarted, or the Pod is on the way out",
        lambda state: uid(state) == pod and (going(state) or restarted(state, passes)),
    )


def going(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def restarted(pod: Object, passes: int) -> bool:
    counts = [
        status["restartCount"]
        for kind in ("initContainerStatuses", "containerStatuses")
        for status in pod["status"].get(kind, ())
    ]
    return counts == [passes] * 3 and status_of(pod, "Ready") == "True"


def test_the_kubelet_runs_all_steps_again_in_the_same_pod(
    env: E2EEnv,
    node: Cluster,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    env.create("demo", two_steps(), rerunStrategy="InPlace")
    before = env.wait_ready("demo", run=1)

    kill_app(env, node, passes=1)

    after = env.wait_ready("demo", run=2)
    assert runs(after) == [(1, "Created", "Initialized"), (2, "RestartedInPlace", "")]
    assert after["status"]["podUID"] == before["status"]["podUID"]
    assert status_of(after, "RerunInPlace") == "", "it is supported"
    assert_initialized_is_false_while_steps_run_again(env)


def assert_initialized_is_false_while_steps_run_again(env: E2EEnv) -> None:
    """Although the Pod's own condition stays True."""
    of_two = [state for state in env.pipelines.of("demo") if run_number(state) == 2]
    told = [(s["status"]["initProgress"], status_of(s, "Initialized")) for s in of_two]
    assert told[0] == ("0/2", "False")
    assert set(told) <= {("0/2", "False"), ("1/2", "False"), ("2/2", "True")}
    assert told == sorted(told), "a step came undone"
    pods = [state for state in env.pods.of("demo") if status_of(state, "Initialized") == "True"]
    again = [step["state"] for pod in pods for step in pod["status"]["initContainerStatuses"]]
    assert any("running" in step for step in again), "the Pod's condition is right these days"


def test_what_the_kubelet_ran_again_while_the_operator_was_gone_is_found(
    env: E2EEnv, node: Cluster, operator: OperatorProcess
) -> None:
    env.create("demo", two_steps(), rerunStrategy="InPlace")
    before = env.wait_ready("demo", run=1)

    with gone(operator):
        kill_app(env, node, passes=1)

    after = env.wait_ready("demo", run=2)
    assert runs(after) == [(1, "Created", "Initialized"), (2, "RestartedInPlace", "")]
    assert after["status"]["podUID"] == before["status"]["podUID"]


@pytest.mark.parametrize("presence", BOTH)
def test_a_second_time_soon_after_replaces_the_pod_by_one_that_does_not_go_on_so(
    env: E2EEnv, node: Cluster, operator: OperatorProcess, presence: Presence
) -> None:
    env.create("demo", two_steps(), rerunStrategy="InPlace")
    before = env.wait_ready("demo", run=1)
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
    assert reason_of(state, "RerunInPlace") == "InPlaceTooOften"
    assert "restartPolicyRules" not in env.pod("demo")["spec"]["containers"][0]
