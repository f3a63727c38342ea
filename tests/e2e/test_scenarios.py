"""Kubernetes' guarantees for init containers hold for InitPipelines while the operator is killed.

They cover order, restartPolicy, the loss of a sandbox, and sidecars. The containers write what they
do to a shared volume, and the pipeline's trace must agree. All scenarios run concurrently.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pytest
from kubernetes import client

from initpipeline.api.raw import Raw
from tests.cluster.cluster import Cluster
from tests.e2e.e2e_env import E2EEnv
from tests.e2e.presence import dying
from tests.e2e.traces import assert_trace
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.statuses import has_ready, is_stalled, reason_of
from tests.templates import SHARED, container, sidecar, template

RUNS_ON = "cat /data/log; exec sleep 3600"
CRASHES_ONCE_THE_APP_IS_UP = (
    "[ -e /data/again ] || "
    "{ until [ -e /data/app ]; do sleep 0.1; done; touch /data/again; exit 1; }"
)
PATIENCE: Final = 10.0


def step(name: str, script: str = "sleep 0.5") -> dict[str, Any]:
    """Return an init container that writes when it begins and, if it succeeds, when it ends."""
    logged = f"echo {name} begins >> /data/log; {script} && echo {name} ends >> /data/log"
    return container(name, logged, **SHARED)


def beside(name: str, script: str = "true") -> dict[str, Any]:
    """Return a sidecar that writes when it is started and when it receives SIGTERM.

    It finally prints everything that was written.
    """
    ends = f"echo {name} ends >> /data/log; cat /data/log; exit 0"
    up = {"exec": {"command": ["test", "-e", f"/data/{name}"]}, "periodSeconds": 1}
    return sidecar(
        name,
        f"trap '{ends}' TERM; echo {name} begins >> /data/log; touch /data/{name}; {script}; "
        "while :; do sleep 0.1; done",
        startupProbe={**up, "failureThreshold": 60},
        **SHARED,
    )


def pod(*init: dict[str, Any], app: str = RUNS_ON, **spec: Any) -> dict[str, Any]:
    apps = [container("app", f"echo app begins >> /data/log; {app}", **SHARED)]
    work = {"name": "work", "emptyDir": {}}
    spec = {"terminationGracePeriodSeconds": 5, "volumes": [work], **spec}
    return template(*init, containers=apps, **spec)


def has_succeeded(state: Raw) -> bool:
    return reason_of(state, "Ready") == "PodSucceeded"


def is_ready_again(state: Raw) -> bool:
    return has_ready(state) and state["status"]["run"]["number"] == 2


def has_failed_again_and_again(state: Raw) -> bool:
    statuses = state.get("status", {}).get("initContainerStatuses") or [{}]
    return bool(statuses[0].get("restartCount", 0) >= 2)


def sidecar_is_back(state: Raw) -> bool:
    statuses = state.get("status", {}).get("initContainerStatuses") or [{}]
    back = (statuses[0].get("restartCount"), statuses[0].get("started")) == (1, True)
    return has_ready(state) and back


@dataclass(frozen=True)
class Scenario:
    """A Pod, its last observed state, and what it and the pipeline must report until then."""

    template: dict[str, Any]
    end: Callable[[Raw], bool]
    trace: str
    wrote: str = ""
    """What the containers did, in order, separated by commas. Empty: no app container started."""
    printed_by: str = "app"


IN_ORDER = "one begins, one ends, two begins, two ends, app begins"
STEPS = """
    ?0/2 StepRunning: init container 1 of 2 "one" is running
    ?1/2 StepRunning: init container 2 of 2 "two" is running
"""
SIDECARS = """
    *0/3 StepRunning: sidecar 1 of 3 "first" is running, but its startupProbe has not succeeded yet
    *1/3 StepRunning: init container 2 of 3 "one" is running
    *2/3 StepRunning: sidecar 3 of 3 "second" is running, but its startupProbe has not succeeded yet
"""
KEEPS_FAILING = """
    run 1 Created
    *0/2 Step..."""

SCENARIOS = {
    "order-always": Scenario(
        pod(step("one"), step("two")),
        has_ready,
        f"run 1 Created{STEPS}2/2 PodReady: the Pod is Ready",
        wrote=IN_ORDER,
    ),
    "order-never": Scenario(
        pod(step("one"), step("two"), app="cat /data/log", restartPolicy="Never"),
        has_succeeded,
        f"""run 1 Created{STEPS}?2/2 PodReady: the Pod is Ready
        run 1 ended Succeeded
        2/2 PodSucceeded: all containers of the Pod succeeded""",
        wrote=IN_ORDER,
    ),
    "fails-never": Scenario(
        pod(step("one", "exit 1"), step("two"), restartPolicy="Never"),
        is_stalled,
        """run 1 Created
        ?0/2 StepRunning: init container 1 of 2 "one" is running
        ?0/2 StepFailed: init container 1 of 2 "one" exited with 1
        run 1 ended Failed, StepFailed: init container 1 of 2 "one" exited with 1
        0/2 StepFailed: init container 1 of 2 "one" exited with 1
        Stalled BackoffLimitExceeded""",
    ),
    "fails-always": Scenario(
        pod(step("one", "exit 1"), step("two")), has_failed_again_and_again, KEEPS_FAILING
    ),
    "fails-on-failure": Scenario(
        pod(step("one", "exit 1"), step("two"), restartPolicy="OnFailure"),
        has_failed_again_and_again,
        KEEPS_FAILING,
    ),
    "sandbox": Scenario(
        pod(step("one"), step("two")),
        is_ready_again,
        f"""run 1 Created{STEPS}2/2 PodReady: the Pod is Ready
        *2/2 Con...
        run 1 ended Initialized
        run 2 PodRestarted
        *0/2 Step...
        *1/2 Step...
        *2/2 Con...
        2/2 PodReady: the Pod is Ready""",
        wrote=f"{IN_ORDER}, {IN_ORDER}",
    ),
    "sidecars": Scenario(
        pod(beside("first"), step("one"), beside("second"), app="sleep 0.5", restartPolicy="Never"),
        has_succeeded,
        f"""run 1 Created{SIDECARS}?3/3 PodReady: the Pod is Ready
        run 1 ended Succeeded
        3/3 PodSucceeded: all containers of the Pod succeeded""",
        wrote="first begins, one begins, one ends, second begins, app begins, second ends, "
        "first ends",
        printed_by="first",
    ),
    "sidecar-crashes": Scenario(
        pod(
            beside("first", CRASHES_ONCE_THE_APP_IS_UP),
            step("one"),
            app=f"touch /data/app; {RUNS_ON}",
        ),
        sidecar_is_back,
        """run 1 Created
        ?0/2 StepRunning: sidecar 1 of 2 "first" is running, but its startupProbe has not ...
        ?1/2 StepRunning: init container 2 of 2 "one" is running
        ?2/2 PodReady: the Pod is Ready
        *2/2 Con...
        2/2 PodReady: the Pod is Ready""",
        wrote="first begins, one begins, one ends, app begins",
    ),
}


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_guarantees_hold_while_the_operator_is_killed(
    env: E2EEnv, node: Cluster, operator: OperatorProcess, seed: int
) -> None:
    with dying(operator, seed):
        for name, scenario in SCENARIOS.items():
            env.create(name, scenario.template)
        env.wait_ready("sandbox", run=1)
        node.kill_sandbox(env.namespace, "sandbox")
        last = {
            name: env.pipelines.wait(name, "its end", scenario.end, 90)
            for name, scenario in SCENARIOS.items()
        }

    for name, scenario in SCENARIOS.items():
        assert_trace(env.pipelines.until(name, last[name]), scenario.trace)
        assert len({state["metadata"]["uid"] for state in env.pods.of(name)}) == 1, name
        if scenario.wrote:
            lines = scenario.wrote.count(",") + 1
            assert written(env, name, scenario.printed_by, lines) == scenario.wrote, name
        else:
            assert_never_started(env.pods.of(name), after="one")


def written(env: E2EEnv, pod: str, container: str, lines: int) -> str:
    """Return the lines that the container has printed, once it has printed that many."""
    core = client.CoreV1Api(env.api)

    def log() -> list[str]:
        answer = core.read_namespaced_pod_log(
            pod, env.namespace, container=container, _preload_content=False
        )
        return list(answer.data.decode().splitlines())

    what = f"container {container} of Pod {pod} has printed {lines} lines"
    poll_until(lambda: len(log()) >= lines, PATIENCE, what, state=log)
    return ", ".join(log())


def assert_never_started(pods: list[Raw], after: str) -> None:
    """Assert that neither app containers nor init containers after the given one have started."""
    for state in pods:
        every = [
            *state["status"].get("initContainerStatuses", ()),
            *state["status"].get("containerStatuses", ()),
        ]
        for status in every:
            waits = "waiting" in status["state"] and status["restartCount"] == 0
            assert waits or status["name"] == after, state["status"]
