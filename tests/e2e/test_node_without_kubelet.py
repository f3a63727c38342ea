"""Pods on a Node object without kubelet: the tests write the status that a kubelet would report.

The node can thus stop reporting, shut down, or set its clock back. The API server, the node
lifecycle controller and the operator are real.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes import client

from initpipeline.api.models import format_time
from initpipeline.api.raw import Raw
from tests.e2e.e2e_env import E2EEnv
from tests.operator_process import OperatorProcess
from tests.statuses import message_of, reason_of, run_number, runs, status_of
from tests.templates import container, template

SHUTDOWN = "Pod was terminated in response to imminent node shutdown."
DISRUPTED: Raw = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "TerminationByKubelet",
    "message": SHUTDOWN,
}
SILENT_SECONDS = 150.0
"""The node lifecycle controller waits 50 s by default."""


def now(ago: float = 0) -> str:
    return format_time(datetime.now(UTC) - timedelta(seconds=ago))


def status(name: str, state: dict[str, Any], *, ready: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "image": "busybox",
        "imageID": "x",
        "containerID": f"containerd://{name}",
        "restartCount": 0,
        "ready": ready,
        "started": "running" in state,
        "lastState": {},
        "state": state,
    }


def running(name: str, ago: float = 0, *, ready: bool = True) -> dict[str, Any]:
    return status(name, {"running": {"startedAt": now(ago)}}, ready=ready)


def ended(name: str, code: int = 0, ago: float = 0) -> dict[str, Any]:
    end = {
        "exitCode": code,
        "reason": "Error" if code else "Completed",
        "startedAt": now(ago),
        "finishedAt": now(ago),
        "containerID": f"containerd://{name}",
    }
    return status(name, {"terminated": end}, ready=code == 0)


def conditions(*others: Raw, ready: bool = False) -> list[Raw]:
    return [
        {"type": "PodScheduled", "status": "True"},
        {"type": "ContainersReady", "status": str(ready)},
        {"type": "Ready", "status": str(ready), "lastTransitionTime": now()},
        *others,
    ]


Kubelet = Callable[..., None]


@pytest.fixture
def node_name(env: E2EEnv) -> Iterator[str]:
    """Create a Node whose condition Ready is True, and return its name."""
    core = client.CoreV1Api(env.api)
    name = f"no-kubelet-{env.namespace}"
    core.create_node({"metadata": {"name": name}})
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ok"}
    times = {"lastHeartbeatTime": now(), "lastTransitionTime": now()}
    core.patch_node_status(name, {"status": {"conditions": [{**ready, **times}]}})
    yield name
    core.delete_collection_namespaced_pod(env.namespace, grace_period_seconds=0)
    core.delete_node(name)


@pytest.fixture
def writes(env: E2EEnv, node_name: str, operator: OperatorProcess) -> Kubelet:  # noqa: ARG001
    """Return a function that writes the status of the Pod in place of the kubelet."""
    core = client.CoreV1Api(env.api)

    def write(**fields: Any) -> None:
        core.patch_namespaced_pod_status("demo", env.namespace, {"status": fields})

    return write


def create(env: E2EEnv, node_name: str, **policies: Any) -> None:
    steps = container("one", "true"), container("two", "true")
    env.create("demo", template(*steps, nodeName=node_name), **policies)
    env.pods.wait("demo", "the Pod exists", lambda state: state["event"] == "ADDED")


def becomes_ready(env: E2EEnv, writes: Kubelet) -> None:
    writes(
        phase="Running",
        conditions=conditions(ready=True),
        initContainerStatuses=[ended("one"), ended("two")],
        containerStatuses=[running("app")],
    )
    env.wait_ready("demo", run=1)


def test_node_that_stops_reporting_is_named(env: E2EEnv, node_name: str, writes: Kubelet) -> None:
    create(env, node_name)
    becomes_ready(env, writes)

    state = env.pipelines.wait(
        "demo",
        "not Ready any more",
        lambda state: run_number(state) == 1 and reason_of(state, "Ready") == "NodeNotReady",
        seconds=SILENT_SECONDS,
    )

    assert f'node "{node_name}" has stopped reporting' in message_of(state, "Ready")
    assert status_of(state, "Initialized") == "True"


def test_shutdown_in_the_middle_of_a_step_is_a_loss(
    env: E2EEnv, node_name: str, writes: Kubelet
) -> None:
    create(env, node_name)
    writes(phase="Pending", initContainerStatuses=[running("one", ready=False)])
    env.wait_reason("demo", "StepRunning")

    writes(
        phase="Failed",
        reason="Terminated",
        message=SHUTDOWN,
        conditions=conditions(DISRUPTED),
        initContainerStatuses=[ended("one", 143)],
    )

    state = env.pipelines.wait("demo", "a second run", lambda state: run_number(state) == 2)
    assert runs(state)[:1] == [(1, "Created", "Lost")]
    assert "failedStep" not in state["status"]["history"][0]


def test_shutdown_with_app_exit_code_0_is_a_loss(
    env: E2EEnv, node_name: str, writes: Kubelet
) -> None:
    create(env, node_name)
    becomes_ready(env, writes)

    writes(
        phase="Succeeded",
        reason="Terminated",
        message=SHUTDOWN,
        conditions=conditions(DISRUPTED),
        containerStatuses=[ended("app")],
    )

    state = env.pipelines.wait("demo", "a second run", lambda state: run_number(state) == 2)
    assert runs(state) == [(1, "Created", "Lost"), (2, "PodLost", "")]


def test_clock_set_back_between_two_steps_does_not_prevent_initialized(
    env: E2EEnv, node_name: str, writes: Kubelet
) -> None:
    create(env, node_name, initDeadlineSeconds=600)

    writes(
        phase="Running",
        conditions=conditions(),
        initContainerStatuses=[ended("one"), ended("two", ago=3600)],
        containerStatuses=[running("app", ago=3600, ready=False)],
    )

    state = env.pipelines.wait(
        "demo", "it is initialized", lambda state: status_of(state, "Initialized") == "True"
    )
    assert state["status"]["initProgress"] == "2/2"
