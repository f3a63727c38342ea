"""A pipeline beside a bare Pod of the same template: the same states, told in the same words."""

from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.e2e.conftest import E2EEnv, run_number, status_of
from tests.e2e.templates import IMAGE, container, sidecar, template, two_steps
from tests.operator_process import OperatorProcess
from tests.watching import Object

SHARED = {"volumeMounts": [{"name": "work", "mountPath": "/data"}]}
WORK: dict[str, Any] = {"volumes": [{"name": "work", "emptyDir": {}}]}
FLAKY = "echo x >> /data/tries; [ $(wc -l < /data/tries) -ge 2 ]"


# Shapes that public manifests have: what is in them, and what the bare Pod comes to.
TEMPLATES = [
    pytest.param(two_steps(), "ready", id="two-steps-in-order"),
    pytest.param(
        template(
            container("generate", "echo '<h1>hello</h1>' > /data/index.html", **SHARED),
            app="test -s /data/index.html && exec sleep 3600",
            **WORK,
        ),
        "ready",
        id="a-page-generated-into-a-volume",
    ),
    pytest.param(
        template(
            container(
                "permissions",
                "chown -R 1000:1000 /data && chmod 700 /data",
                securityContext={"runAsUser": 0},
                **SHARED,
            ),
            **WORK,
        ),
        "ready",
        id="permissions-of-a-volume",
    ),
    pytest.param(
        template(container("flaky", FLAKY, **SHARED), container("after", "true"), **WORK),
        "ready",
        id="a-step-that-fails-once",
    ),
    pytest.param(
        template(
            sidecar(
                "proxy",
                "touch /data/up; exec sleep 3600",
                startupProbe={"exec": {"command": ["test", "-e", "/data/up"]}, "periodSeconds": 1},
                **SHARED,
            ),
            container("fetch", "test -e /data/up", **SHARED),
            **WORK,
        ),
        "ready",
        id="a-sidecar-before-a-step",
    ),
    pytest.param(
        template(container("only", "true"), app="echo done", restartPolicy="OnFailure"),
        "succeeded",
        id="a-job-that-ends",
    ),
    pytest.param(
        template(
            container("fine", "true"),
            container("broken", "echo no such table >&2; exit 3"),
            container("never", "true"),
            restartPolicy="Never",
        ),
        "failed",
        id="a-step-that-fails-for-good",
    ),
    pytest.param(
        template({"name": "absent", "image": IMAGE, "command": ["/no/such/program"]}),
        "start-error",
        id="a-program-that-is-not-there",
    ),
]


def at_rest(pod: Object, state: str) -> bool:
    """Whether the Pod has come to where it stays, or in a loop that looks the same each time."""
    phase = pod["status"].get("phase")
    if state == "ready":
        return phase == "Running" and status_of(pod, "Ready") == "True"
    if state == "start-error":
        first = (pod["status"].get("initContainerStatuses") or [{}])[0]
        reason: str = first.get("state", {}).get("waiting", {}).get("reason", "")
        return bool(first.get("restartCount")) and reason == "CrashLoopBackOff"
    return bool(phase == state.capitalize())


def shape(pod: Object) -> dict[str, Any]:
    """What two Pods of one template have in common: all but identities and times."""

    def states(key: str) -> list[tuple[Any, ...]]:
        return [
            (
                status["name"],
                *status["state"],
                status["state"].get("terminated", {}).get("exitCode"),
                status["restartCount"],
                status["ready"],
            )
            for status in pod["status"].get(key, ())
        ]

    conditions = {c["type"]: c["status"] for c in pod["status"]["conditions"]}
    return {
        "phase": pod["status"]["phase"],
        "init": states("initContainerStatuses"),
        "app": states("containerStatuses"),
        "conditions": conditions,
    }


@pytest.mark.parametrize(("pod_template", "end"), TEMPLATES)
def test_reaches_the_states_of_the_bare_pod_beside_it(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
    pod_template: dict[str, Any],
    end: str,
) -> None:
    env.create("piped", pod_template)
    env.create_pod("bare", pod_template)

    bare = env.pods.wait("bare", end, lambda pod: at_rest(pod, end))
    piped = env.pods.wait("piped", end, lambda pod: at_rest(pod, end))
    assert shape(piped) == shape(bare)

    statuses = piped["status"]["initContainerStatuses"]
    pipeline = env.pipelines.wait(
        "piped",
        "the Pod's initContainerStatuses, field by field",
        lambda state: state.get("status", {}).get("initContainerStatuses") == statuses,
    )
    plain_all_succeeded = end in {"ready", "succeeded"}
    assert status_of(pipeline, "Initialized") == str(plain_all_succeeded)


def test_initialized_is_false_exactly_while_a_step_of_the_run_has_yet_to_succeed(
    env: E2EEnv,
    node: Cluster,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    env.create("demo", two_steps())
    env.wait_ready("demo", run=1)
    node.kill_sandbox(env.namespace, "demo")
    env.wait_ready("demo", run=2)

    used_up: set[str] = set()
    number = 0
    for state in env.pipelines.of("demo"):
        if run_number(state) == 0:
            continue
        shown = state["status"]["initContainerStatuses"]
        succeeded = {
            status["containerID"]
            for status in shown
            if status["state"].get("terminated", {}).get("exitCode") == 0
        }
        if run_number(state) != number:
            number, used_up = run_number(state), used_up_before(env, run_number(state))
        expected = len(succeeded - used_up) == len(shown)
        assert status_of(state, "Initialized") == str(expected), state["status"]


def used_up_before(env: E2EEnv, number: int) -> set[str]:
    """The containers that had succeeded in the runs before this one."""
    return {
        status["containerID"]
        for state in env.pipelines.of("demo")
        if 0 < run_number(state) < number
        for status in state["status"]["initContainerStatuses"]
        if status["state"].get("terminated", {}).get("exitCode") == 0
    }


def test_the_evidence_of_a_failure_is_in_status(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    broken = container("migrate", "echo 'relation users does not exist' >&2; exit 3")
    env.create("demo", template(container("wait", "true"), broken, restartPolicy="Never"))

    state = env.pipelines.wait(
        "demo", "it is given up", lambda state: status_of(state, "Stalled") == "True"
    )

    ready = next(c for c in state["status"]["conditions"] if c["type"] == "Ready")
    assert ready["reason"] == "StepFailed"
    assert ready["message"] == (
        'init container 2 of 2 "migrate" exited with 3: relation users does not exist'
    )
    [entry] = state["status"]["history"]
    assert entry["result"] == "Failed"
    assert entry["failedStep"] == {
        "name": "migrate",
        "exitCode": 3,
        "reason": "Error",
        "message": "relation users does not exist",
        "restartCount": 0,
    }
