"""The effect of the Pod's restartPolicy on steps, sidecars and app containers that fail or end.

Each row has the complete trace of the pipeline.
"""

from collections.abc import Callable
from typing import Any

import pytest

from initpipeline.api.raw import Raw
from tests.e2e.e2e_env import E2EEnv
from tests.e2e.traces import assert_trace
from tests.operator_process import OperatorProcess
from tests.statuses import is_stalled, reason_of, run_number, status_of
from tests.templates import SHARED, WORK, container, sidecar, template

STARTED_BY_FILE: dict[str, Any] = {
    "startupProbe": {
        "exec": {"command": ["test", "-e", "/data/up"]},
        "periodSeconds": 1,
        "failureThreshold": 60,
    },
    **SHARED,
}


def succeeds_at(attempt: int) -> str:
    """Return a script that fails until it has been started that often."""
    return f"echo x >> /data/tries; [ $(wc -l < /data/tries) -ge {attempt} ]"


def exits_once(after: str) -> str:
    """Return a script that fails once, when the file exists, and runs forever the second time."""
    wait = f"until [ -e {after} ]; do sleep 0.1; done"
    return (
        f"echo x >> /data/starts; [ $(wc -l < /data/starts) -ge 2 ] || {{ {wait}; exit 3; }}; "
        + ("exec sleep 3600")
    )


def ready_is(reason: str) -> Callable[[Raw], bool]:
    return lambda state: reason_of(state, "Ready") == reason


def failed_twice(state: Raw) -> bool:
    step = state.get("status", {}).get("initContainerStatuses", [{}])[0]
    return step.get("restartCount") == 1 and "running" not in step["state"]


def second_run(state: Raw) -> bool:
    return run_number(state) == 2


def sidecar_is_back(state: Raw) -> bool:
    """Return whether the sidecar has restarted, and the Pod is Ready."""
    statuses = state.get("status", {}).get("initContainerStatuses", ())
    back = any(s["restartCount"] == 1 and "running" in s["state"] for s in statuses)
    return back and status_of(state, "Ready") == "True"


ROWS = [
    pytest.param(
        template(container("late", succeeds_at(3), **SHARED), container("next", "true"), **WORK),
        ready_is("PodReady"),
        """
        run 1 Created
        ?0/2 StepRunning: init container 1 of 2 "late" is running
        ?0/2 StepFailed: init container 1 of 2 "late" exited with 1
        ?0/2 StepRunning: init container 1 of 2 "late" is running; the previous attempt exited with 1, restarted 1 time
        ?0/2 StepFailed: init container 1 of 2 "late" exited with 1, restarted 1 time
        0/2 StepBackOff: init container 1 of 2 "late" exited with 1, restarted 1 time
        ?0/2 StepRunning: init container 1 of 2 "late" is running; the previous attempt exited with 1, restarted 2 times
        ?1/2 StepRunning: init container 2 of 2 "next" is running
        2/2 PodReady: the Pod is Ready
        """,  # noqa: E501
        id="always-step-succeeds-late",
    ),
    pytest.param(
        template(
            container("late", succeeds_at(2), **SHARED),
            app="true",
            restartPolicy="OnFailure",
            **WORK,
        ),
        ready_is("PodSucceeded"),
        """
        run 1 Created
        ?0/1 StepRunning: init container 1 of 1 "late" is running
        ?0/1 StepFailed: init container 1 of 1 "late" exited with 1
        ?0/1 StepRunning: init container 1 of 1 "late" is running; the previous attempt exited with 1, restarted 1 time
        ?1/1 PodReady: the Pod is Ready
        run 1 ended Succeeded
        1/1 PodSucceeded: all containers of the Pod succeeded
        """,  # noqa: E501
        id="on-failure-step-succeeds-late-and-the-app-ends",
    ),
    pytest.param(
        template(container("broken", "echo no table >&2; exit 3"), restartPolicy="OnFailure"),
        failed_twice,
        """
        run 1 Created
        ?0/1 StepRunning: init container 1 of 1 "broken" is running
        ?0/1 StepFailed: init container 1 of 1 "broken" exited with 3: no table
        ?0/1 StepRunning: init container 1 of 1 "broken" is running; the previous attempt exited with 3, restarted 1 time: no table
        ?0/1 StepFailed: init container 1 of 1 "broken" exited with 3, restarted 1 time: no table
        ?0/1 StepBackOff: init container 1 of 1 "broken" exited with 3, restarted 1 time: no table
        """,  # noqa: E501
        id="on-failure-step-never-succeeds",
    ),
    pytest.param(
        template(
            container("fine", "sleep 1"),
            container("broken", "sleep 1; exit 3"),
            container("unreached", "true"),
            restartPolicy="Never",
        ),
        is_stalled,
        """
        run 1 Created
        ?0/3 StepRunning: init container 1 of 3 "fine" is running
        ?1/3 StepRunning: init container 2 of 3 "broken" is running
        ?1/3 StepFailed: init container 2 of 3 "broken" exited with 3
        run 1 ended Failed, StepFailed: init container 2 of 3 "broken" exited with 3
        1/3 StepFailed: init container 2 of 3 "broken" exited with 3
        Stalled BackoffLimitExceeded
        """,
        id="never-step-fails",
    ),
    pytest.param(
        template(container("one", "sleep 1"), app="sleep 2"),
        second_run,
        """
        run 1 Created
        ?0/1 StepRunning: init container 1 of 1 "one" is running
        ?1/1 PodReady: the Pod is Ready
        run 1 ended Initialized
        run 2 ContainerRestarted
        ?0/1 PodTerminating: the Pod "demo" of an earlier run is being deleted
        """,
        id="always-app-exits-0",
    ),
    pytest.param(
        template(container("one", "sleep 1"), app="sleep 2; exit 7", restartPolicy="OnFailure"),
        second_run,
        """
        run 1 Created
        ?0/1 StepRunning: init container 1 of 1 "one" is running
        ?1/1 PodReady: the Pod is Ready
        ?1/1 ContainerFailed: container "app" exited with 7
        run 1 ended Initialized
        run 2 ContainerRestarted
        ?0/1 PodTerminating: the Pod "demo" of an earlier run is being deleted
        """,
        id="on-failure-app-crashes",
    ),
    pytest.param(
        template(container("one", "sleep 1"), app="sleep 2; exit 7", restartPolicy="Never"),
        is_stalled,
        """
        run 1 Created
        ?0/1 StepRunning: init container 1 of 1 "one" is running
        ?1/1 PodReady: the Pod is Ready
        ?1/1 ContainerFailed: container "app" exited with 7
        run 1 ended Failed, ContainerFailed: container "app" exited with 7
        1/1 ContainerFailed: container "app" exited with 7
        Stalled BackoffLimitExceeded
        """,
        id="never-app-crashes",
    ),
    pytest.param(
        template(
            sidecar("proxy", "exec sleep 3600"),
            container("one", "sleep 1"),
            app="sleep 2",
            restartPolicy="Never",
        ),
        ready_is("PodSucceeded"),
        """
        run 1 Created
        ?0/2 StepRunning: sidecar 1 of 2 "proxy" is running
        ?1/2 StepRunning: init container 2 of 2 "one" is running
        ?2/2 PodReady: the Pod is Ready
        run 1 ended Succeeded
        2/2 PodSucceeded: all containers of the Pod succeeded
        """,
        id="never-app-exits-0-and-its-sidecar-with-it",
    ),
    pytest.param(
        template(
            sidecar("first", "touch /data/up; exec sleep 3600", **STARTED_BY_FILE),
            container("one", "test -e /data/up && rm /data/up && sleep 1", **SHARED),
            sidecar("second", "touch /data/up; exec sleep 3600", **STARTED_BY_FILE),
            container("two", "test -e /data/up && rm /data/up && sleep 1", **SHARED),
            sidecar("third", "touch /data/up; exec sleep 3600", **STARTED_BY_FILE),
            **WORK,
        ),
        ready_is("PodReady"),
        """
        run 1 Created
        ?0/5 StepRunning: sidecar 1 of 5 "first" is running, but...
        ?1/5 StepRunning: init container 2 of 5 "one" is running
        ?2/5 StepRunning: sidecar 3 of 5 "second" is running, but...
        ?3/5 StepRunning: init container 4 of 5 "two" is running
        ?4/5 StepRunning: sidecar 5 of 5 "third" is running, but...
        5/5 PodReady: the Pod is Ready
        """,
        id="sidecars-before-between-and-after-steps",
    ),
    pytest.param(
        template(
            sidecar("proxy", exits_once(after="/data/begun"), **SHARED),
            container(
                "one",
                "touch /data/begun; until [ $(wc -l < /data/starts) -ge 2 ]; do sleep 0.1; done",
                **SHARED,
            ),
            **WORK,
        ),
        sidecar_is_back,
        """
        run 1 Created
        ?0/2 StepRunning: sidecar 1 of 2 "proxy" is running
        1/2 StepRunning: init container 2 of 2 "one" is running
        2/2 PodReady: the Pod is Ready
        """,
        id="sidecar-crashes-while-a-step-runs",
    ),
    pytest.param(
        template(
            sidecar("proxy", exits_once(after="/data/begun"), **SHARED),
            container("one", "sleep 1"),
            containers=[container("app", "touch /data/begun; exec sleep 3600", **SHARED)],
            **WORK,
        ),
        sidecar_is_back,
        """
        run 1 Created
        ?0/2 StepRunning: sidecar 1 of 2 "proxy" is running
        ?1/2 StepRunning: init container 2 of 2 "one" is running
        ?2/2 PodReady: the Pod is Ready
        ?2/2 ContainerFailed: sidecar "proxy" exited with 3
        2/2 PodReady: the Pod is Ready
        """,
        id="sidecar-crashes-beside-the-app",
    ),
]


@pytest.mark.parametrize(("pod_template", "end", "expected"), ROWS)
def test_trace_of_the_pipeline_matches_the_pod(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
    pod_template: dict[str, Any],
    end: Callable[[Raw], bool],
    expected: str,
) -> None:
    env.create("demo", pod_template)

    last = env.pipelines.wait("demo", "the last state", end)

    assert_trace(env.pipelines.until("demo", last), expected)


def delete_pod(env: E2EEnv, name: str) -> None:
    uid = env.pod(name)["metadata"]["uid"]
    env.delete_pod(name)
    env.pods.wait(
        name,
        "the Pod is gone",
        lambda pod: pod["event"] == "DELETED" and pod["metadata"]["uid"] == uid,
    )


def ask(env: E2EEnv) -> None:
    env.request_run("done", "please")


def change(env: E2EEnv) -> None:
    changed = [container("one", "echo changed")]
    env.patch("done", {"spec": {"template": {"spec": {"initContainers": changed}}}})


@pytest.mark.parametrize(
    ("operator_down", "act", "trigger"),
    [
        pytest.param(False, ask, "Requested", id="operator-running-then-request"),
        pytest.param(True, change, "SpecChanged", id="operator-down-then-template-change"),
    ],
)
def test_deletion_of_a_succeeded_pod_starts_no_run_but_a_user_does(
    env: E2EEnv,
    operator: OperatorProcess,
    operator_down: bool,
    act: Callable[[E2EEnv], None],
    trigger: str,
) -> None:
    """The garbage collector deletes succeeded Pods, too.

    A second pipeline, whose Pod is deleted afterwards, shows that the operator has observed both
    deletions.
    """
    env.create("done", template(container("one", "true"), app="true", restartPolicy="Never"))
    env.create("other", template(container("one", "true")))
    env.pipelines.wait("done", "its Pod has succeeded", ready_is("PodSucceeded"))
    env.wait_ready("other", run=1)

    if operator_down:
        operator.kill()
    delete_pod(env, "done")
    delete_pod(env, "other")
    if operator_down:
        operator.start()
    env.wait_ready("other", run=2)
    act(env)

    last = env.pipelines.wait(
        "done",
        "its second run has ended",
        lambda state: run_number(state) == 2 and status_of(state, "Ready") == "True",
    )
    assert_trace(
        env.pipelines.until("done", last),
        f"""
        run 1 Created
        ?0/1 StepRunning: init container 1 of 1 "one" is running
        ?1/1 PodReady: the Pod is Ready
        run 1 ended Succeeded
        1/1 PodSucceeded: all containers of the Pod succeeded
        run 2 {trigger}
        ?0/1 StepRunning: init container 1 of 1 "one" is running
        ?1/1 PodReady: the Pod is Ready
        ?run 2 ended Succeeded
        ?1/1 PodSucceeded: all containers of the Pod succeeded
        """,
    )
