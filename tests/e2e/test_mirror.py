"""A pipeline's Pod behaves like a bare Pod of the same template, and the status mirrors it."""

from typing import Any

import pytest

from initpipeline.api.raw import Raw
from tests.cluster.cluster import Cluster
from tests.e2e.e2e_env import E2EEnv
from tests.operator_process import OperatorProcess
from tests.statuses import run_number, status_of
from tests.templates import IMAGE, SHARED, WORK, container, sidecar, template, two_steps

FLAKY = "echo x >> /data/tries; [ $(wc -l < /data/tries) -ge 2 ]"


# Templates as in public manifests, and the final state of the bare Pod.
TEMPLATES = [
    pytest.param(two_steps(), "ready", id="two-steps-in-order"),
    pytest.param(
        template(
            container("generate", "echo '<h1>hello</h1>' > /data/index.html", **SHARED),
            app="test -s /data/index.html && exec sleep 3600",
            **WORK,
        ),
        "ready",
        id="page-generated-into-a-volume",
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
        id="step-fails-once",
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
        id="sidecar-before-a-step",
    ),
    pytest.param(
        template(container("only", "true"), app="echo done", restartPolicy="OnFailure"),
        "succeeded",
        id="job-completes",
    ),
    pytest.param(
        template(
            container("fine", "true"),
            container("broken", "echo no such table >&2; exit 3"),
            container("never", "true"),
            restartPolicy="Never",
        ),
        "failed",
        id="step-fails-permanently",
    ),
    pytest.param(
        template({"name": "absent", "image": IMAGE, "command": ["/no/such/program"]}),
        "start-error",
        id="missing-program",
    ),
]


def settled(pod: Raw, state: str) -> bool:
    """Return whether the Pod is in its final state, or repeats the same failure."""
    phase = pod["status"].get("phase")
    if state == "ready":
        return phase == "Running" and status_of(pod, "Ready") == "True"
    if state == "start-error":
        first = (pod["status"].get("initContainerStatuses") or [{}])[0]
        reason: str = first.get("state", {}).get("waiting", {}).get("reason", "")
        return bool(first.get("restartCount")) and reason == "CrashLoopBackOff"
    return bool(phase == state.capitalize())


def shape(pod: Raw) -> dict[str, Any]:
    """Return the parts of the status that two Pods of one template have in common."""

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
def test_pod_of_a_pipeline_reaches_the_state_of_a_bare_pod(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
    pod_template: dict[str, Any],
    end: str,
) -> None:
    env.create("piped", pod_template)
    env.create_pod("bare", pod_template)

    bare = env.pods.wait("bare", end, lambda pod: settled(pod, end))
    piped = env.pods.wait("piped", end, lambda pod: settled(pod, end))
    assert shape(piped) == shape(bare)

    statuses = piped["status"]["initContainerStatuses"]
    pipeline = env.pipelines.wait(
        "piped",
        "the Pod's initContainerStatuses, field by field",
        lambda state: state.get("status", {}).get("initContainerStatuses") == statuses,
    )
    all_steps_succeed = end in {"ready", "succeeded"}
    assert status_of(pipeline, "Initialized") == str(all_steps_succeed)


def test_initialized_is_true_exactly_if_all_steps_of_the_run_have_succeeded(
    env: E2EEnv,
    node: Cluster,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    env.create_ready("demo", two_steps())
    node.kill_sandbox(env.namespace, "demo")
    env.wait_ready("demo", run=2)

    used_up: set[str] = set()
    number = 0
    for state in env.pipelines.of("demo"):
        if run_number(state) == 0:
            continue
        statuses = state["status"]["initContainerStatuses"]
        succeeded = {
            status["containerID"]
            for status in statuses
            if status["state"].get("terminated", {}).get("exitCode") == 0
        }
        if run_number(state) != number:
            number, used_up = run_number(state), used_up_before(env, run_number(state))
        expected = len(succeeded - used_up) == len(statuses)
        assert status_of(state, "Initialized") == str(expected), state["status"]


def used_up_before(env: E2EEnv, number: int) -> set[str]:
    """Return the IDs of the containers that had succeeded in earlier runs."""
    return {
        status["containerID"]
        for state in env.pipelines.of("demo")
        if 0 < run_number(state) < number
        for status in state["status"]["initContainerStatuses"]
        if status["state"].get("terminated", {}).get("exitCode") == 0
    }


def test_failure_of_a_step_is_recorded_in_status(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    broken = container("migrate", "echo 'relation users does not exist' >&2; exit 3")
    env.create("demo", template(container("wait", "true"), broken, restartPolicy="Never"))

    state = env.pipelines.wait(
        "demo", "it is Stalled", lambda state: status_of(state, "Stalled") == "True"
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
