"""Each trigger starts a run on a real kubelet, with the operator running and with it down."""

import copy
from collections.abc import Callable

import pytest

from tests.cluster.cluster import Cluster
from tests.e2e.e2e_env import E2EEnv
from tests.e2e.presence import BOTH, Presence
from tests.operator_process import OperatorProcess
from tests.statuses import reason_of, run_number, runs, status_of
from tests.templates import container, template, two_steps

Change = Callable[[E2EEnv, Cluster], None]


def kill_sandbox(env: E2EEnv, node: Cluster) -> None:
    """Kill the sandbox. The kubelet creates another and runs all init containers again."""
    pod = env.pod("demo")["metadata"]["uid"]
    node.kill_sandbox(env.namespace, "demo")
    env.pods.wait(
        "demo",
        "both init containers have run again in the same Pod",
        lambda state: (
            state["metadata"]["uid"] == pod
            and [s["restartCount"] for s in state["status"].get("initContainerStatuses", ())]
            == [1, 1]
            and status_of(state, "Ready") == "True"
        ),
    )


def kill_app(env: E2EEnv, node: Cluster) -> None:
    """Kill the app container. The kubelet restarts only that container."""
    node.kill_container(env.namespace, "demo", "app")
    env.pods.wait(
        "demo",
        "the app container has restarted, or its Pod is terminating",
        lambda state: (
            state["status"].get("containerStatuses", [{}])[0].get("restartCount", 0) > 0
            or "deletionTimestamp" in state["metadata"]
        ),
    )


def delete_pod(env: E2EEnv, node: Cluster) -> None:  # noqa: ARG001
    uid = env.pod("demo")["metadata"]["uid"]
    env.delete_pod("demo")
    env.pods.wait(
        "demo",
        "the Pod is gone",
        lambda state: state["event"] == "DELETED" and state["metadata"]["uid"] == uid,
    )


def change_template(env: E2EEnv, node: Cluster) -> None:  # noqa: ARG001
    changed = container("one", "echo changed")
    spec = {"template": {"spec": {"initContainers": [changed, container("two", "true")]}}}
    env.patch("demo", {"spec": spec})


def request_run(env: E2EEnv, node: Cluster) -> None:  # noqa: ARG001
    env.request_run("demo", "please")


def fail_step(env: E2EEnv, node: Cluster) -> None:
    """Kill the init container. A Pod of restartPolicy Never then fails."""
    uid = env.pod("demo")["metadata"]["uid"]
    node.kill_container(env.namespace, "demo", "one")
    env.pods.wait(
        "demo",
        "the Pod has failed",
        lambda state: state["metadata"]["uid"] == uid and state["status"]["phase"] == "Failed",
    )


ROWS = [
    pytest.param(kill_sandbox, "PodRestarted", "Initialized", id="sandbox-killed"),
    pytest.param(kill_app, "ContainerRestarted", "Initialized", id="app-container-killed"),
    pytest.param(delete_pod, "PodLost", "Lost", id="pod-deleted"),
    pytest.param(change_template, "SpecChanged", "Initialized", id="template-changed"),
    pytest.param(request_run, "Requested", "Initialized", id="rerun-requested"),
]


@pytest.mark.parametrize("presence", BOTH)
@pytest.mark.parametrize(("change", "trigger", "result"), ROWS)
def test_trigger_starts_a_run(
    env: E2EEnv,
    node: Cluster,
    operator: OperatorProcess,
    change: Change,
    trigger: str,
    result: str,
    presence: Presence,
) -> None:
    env.create_ready("demo", two_steps())

    with presence(operator):
        change(env, node)

    state = env.wait_ready("demo", run=2)
    assert runs(state) == [(1, "Created", result), (2, trigger, "")]


@pytest.mark.parametrize("presence", BOTH)
def test_equivalent_template_starts_no_run_and_a_changed_one_names_the_fields(
    env: E2EEnv, operator: OperatorProcess, presence: Presence
) -> None:
    before = two_steps()
    steps = before["spec"]["initContainers"]
    amounts = {"cpu": "100m", "memory": "64Mi"}
    steps[0]["resources"] = {"requests": amounts}
    env.create("demo", before)
    pod = env.wait_ready("demo", run=1)["status"]["podUID"]

    spelled = copy.deepcopy(before)
    first = spelled["spec"]["initContainers"][0]
    first["resources"] = {"requests": {"cpu": 0.1, "memory": "65536Ki"}, "limits": {}}
    first |= {"imagePullPolicy": "IfNotPresent", "env": []}
    spelled["spec"] |= {"dnsPolicy": "ClusterFirst", "hostNetwork": False}
    with presence(operator):
        env.set("demo", template=spelled)
    state = env.pipelines.wait(
        "demo",
        "the other spelling is observed",
        lambda s: s["status"]["observedGeneration"] == s["metadata"]["generation"] > 1,
    )
    assert runs(state) == [(1, "Created", "")]
    assert state["status"]["podUID"] == pod

    changed = copy.deepcopy(spelled)
    changed["spec"]["initContainers"][0]["resources"]["requests"]["cpu"] = "101m"
    with presence(operator):
        env.set("demo", template=changed)
    state = env.wait_ready("demo", run=2)
    assert runs(state) == [(1, "Created", "Initialized"), (2, "SpecChanged", "")]
    path = "spec.initContainers[0].resources.requests.cpu"
    assert state["status"]["run"]["cause"] == {"changedPaths": [path], "changedPathCount": 1}


@pytest.mark.parametrize("presence", BOTH)
def test_resumption_starts_a_run(
    env: E2EEnv, operator: OperatorProcess, presence: Presence
) -> None:
    env.create_ready("demo", two_steps())
    env.set("demo", suspend=True)
    env.pipelines.wait("demo", "suspended", lambda s: status_of(s, "Suspended") == "True")

    with presence(operator):
        env.set("demo", suspend=False)

    state = env.wait_ready("demo", run=2)
    assert runs(state) == [(1, "Created", "Initialized"), (2, "Resumed", "")]


@pytest.mark.parametrize("presence", BOTH)
def test_failed_run_is_followed_by_a_retry_if_allowed(
    env: E2EEnv, node: Cluster, operator: OperatorProcess, presence: Presence
) -> None:
    waiting = template(container("one", "exec sleep 3600"), restartPolicy="Never")
    env.create("demo", waiting, backoffLimit=1)
    env.pipelines.wait("demo", "a step", lambda s: reason_of(s, "Ready") == "StepRunning")

    with presence(operator):
        fail_step(env, node)

    state = env.pipelines.wait(
        "demo",
        "the step runs in the second run",
        lambda s: run_number(s) == 2 and reason_of(s, "Ready") == "StepRunning",
    )
    assert runs(state) == [(1, "Created", "Failed"), (2, "Retry", "")]


def test_cause_of_a_restart_is_recorded(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    env.create("demo", template(container("one", "true"), app="sleep 1; exit 7"))

    state = env.pipelines.wait("demo", "a second run", lambda state: run_number(state) == 2)

    assert state["status"]["run"]["trigger"] == "ContainerRestarted"
    assert state["status"]["run"]["cause"] == {"container": "app", "exitCode": 7, "reason": "Error"}


def test_rerun_token_starts_one_run_only(env: E2EEnv, operator: OperatorProcess) -> None:
    env.create_ready("demo", two_steps())
    token = {"metadata": {"annotations": {"initpipeline.dev/rerun": "token-1"}}}
    env.patch("demo", token)
    env.wait_ready("demo", run=2)

    operator.kill()
    operator.start()
    env.patch("demo", {"metadata": {"annotations": {"initpipeline.dev/rerun": None}}})
    env.patch("demo", token)
    env.request_run("demo", "token-2")

    state = env.wait_ready("demo", run=3)
    assert state["status"]["run"]["token"] == "token-2"
    assert runs(state) == [
        (1, "Created", "Initialized"),
        (2, "Requested", "Initialized"),
        (3, "Requested", ""),
    ]
