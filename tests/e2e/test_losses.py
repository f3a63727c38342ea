"""The Pod is lost, at each stage and for each cause that the API reports.

The history records the cause, the next run starts, and there are never two Pods at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from kubernetes import client
from kubernetes.utils.quantity import parse_quantity

from initpipeline.api import names
from initpipeline.api.raw import Raw
from tests.builders import outage_tolerations
from tests.cluster.cluster import Cluster
from tests.cluster.kubelet import NODE_NAME
from tests.e2e import node_faults
from tests.e2e.e2e_env import E2EEnv
from tests.e2e.traces import assert_trace
from tests.operator_process import OperatorProcess
from tests.statuses import has_ready, reason_of, run_number
from tests.templates import container, template

HANGS = container("hangs", "exec sleep 3600")
NEVER_COMES = {"name": "absent", "image": "registry.example/absent:1"}
# Long enough that watches receive the Pod's termination before its deletion.
GRACE: dict[str, Any] = {"terminationGracePeriodSeconds": 1}

DELETED = "the Pod was deleted"
EVICTED = "the Pod was lost: Eviction API: evicting"
PREEMPTED = "the Pod was lost: default-scheduler: preempting to accommodate a higher priority pod"
DRAINED = "the Pod was lost: Taint manager: deleting due to NoExecute taint"
NODE_GONE = "the Pod was lost: PodGC: node no longer exists"


def pod_is_unschedulable(pod: Raw) -> bool:
    return reason_of(pod, "PodScheduled") == "Unschedulable"


def step_runs(pod: Raw) -> bool:
    return any("running" in s["state"] for s in pod["status"].get("initContainerStatuses", ()))


def image_never_comes(pod: Raw) -> bool:
    waiting = [s["state"].get("waiting") for s in pod["status"].get("initContainerStatuses", ())]
    return any(state and "ImagePull" in state.get("reason", "") for state in waiting)


def first_step_is_done(pod: Raw) -> bool:
    first = pod["status"].get("initContainerStatuses", [{"state": {}}])[0]
    return bool(first["state"].get("terminated", {}).get("exitCode") == 0)


@dataclass(frozen=True)
class Stage:
    """The progress of a Pod before it is lost."""

    template: dict[str, Any]
    reached: Callable[[Raw], bool]
    """Returns whether the Pod has reached the stage."""
    reason: str
    """The reason of the pipeline's condition Ready."""
    progress: str
    trace: str
    """The expected trace after the start of the run."""


UNSCHEDULABLE = Stage(
    template(HANGS, nodeSelector={"e2e.test/no": "such-node"}, **GRACE),
    pod_is_unschedulable,
    "PodUnschedulable",
    "0/1",
    "*0/1 PodUnschedulable: ...",
)
PULLING = Stage(
    template(NEVER_COMES, **GRACE),
    image_never_comes,
    "ImagePullFailed",
    "0/1",
    '*0/1 ImagePullFailed: init container 1 of 1 "absent": ...',
)
PULLING_NEVER = Stage(
    template(NEVER_COMES, restartPolicy="Never", **GRACE),
    image_never_comes,
    "ImagePullFailed",
    "0/1",
    '*0/1 ImagePullFailed: init container 1 of 1 "absent": ...',
)
MID_INIT = Stage(
    template(HANGS, **GRACE),
    step_runs,
    "StepRunning",
    "0/1",
    '?0/1 StepRunning: init container 1 of 1 "hangs" is running',
)
BETWEEN_STEPS = Stage(
    template(container("one", "sleep 0.5"), NEVER_COMES, **GRACE),
    first_step_is_done,
    "StepPending",
    "1/2",
    """?0/2 StepRunning: init container 1 of 2 "one" is running
    *1/2 ImagePullFailed: init container 2 of 2 "absent": ...""",
)
RUNNING = Stage(
    template(container("one", "true"), **GRACE),
    has_ready,
    "PodReady",
    "1/1",
    """?0/1 StepRunning: init container 1 of 1 "one" is running
    ?1/1 PodReady: the Pod is Ready""",
)


def delete(env: E2EEnv) -> None:
    env.delete_pod("demo")


def evict(env: E2EEnv) -> None:
    """Evict the Pod as kubectl drain does."""
    metadata = {"name": "demo", "namespace": env.namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    core = client.CoreV1Api(env.api)
    core.create_namespaced_pod_eviction("demo", env.namespace, eviction)


ROWS = [
    pytest.param(UNSCHEDULABLE, delete, DELETED, id="unschedulable-deleted"),
    pytest.param(PULLING, delete, DELETED, id="pulling-deleted"),
    pytest.param(PULLING_NEVER, evict, EVICTED, id="pulling-with-restart-policy-never-evicted"),
    pytest.param(MID_INIT, delete, DELETED, id="mid-init-deleted"),
    pytest.param(MID_INIT, evict, EVICTED, id="mid-init-evicted"),
    pytest.param(BETWEEN_STEPS, delete, DELETED, id="between-steps-deleted"),
    pytest.param(RUNNING, evict, EVICTED, id="running-evicted"),
]


@pytest.mark.parametrize(("stage", "lose", "cause"), ROWS)
def test_loss_of_the_pod_ends_the_run_and_starts_another(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
    stage: Stage,
    lose: Callable[[E2EEnv], None],
    cause: str,
) -> None:
    env.create("demo", stage.template)
    wait_until_reached(env, "demo", stage)

    lose(env)

    assert_lost(env, "demo", stage, cause)


def test_eviction_while_the_operator_is_down_is_recorded_as_deletion(
    env: E2EEnv, operator: OperatorProcess
) -> None:
    """Only the deleted Pod's status had the cause."""
    env.create("demo", MID_INIT.template)
    wait_until_reached(env, "demo", MID_INIT)

    operator.kill()
    evict(env)
    env.pods.wait("demo", "the Pod is gone", lambda pod: bool(pod["event"] == "DELETED"))
    operator.start()

    assert_lost(env, "demo", MID_INIT, DELETED)


@pytest.mark.parametrize(
    "stage", [pytest.param(PULLING, id="pulling"), pytest.param(RUNNING, id="running")]
)
def test_preemption_by_a_pod_of_higher_priority_is_a_loss(
    env: E2EEnv,
    node: Cluster,  # noqa: ARG001
    operator: OperatorProcess,  # noqa: ARG001
    first_class: str,
    stage: Stage,
) -> None:
    most = {"requests": {"cpu": most_of_the_cpu(env)}}
    env.create("demo", with_resources(stage.template, most))
    wait_until_reached(env, "demo", stage)

    rival = template(container("one", "true"), priorityClassName=first_class)
    env.create_pod("rival", with_resources(rival, most))

    # The resources of the previous test's Pods may not be free yet.
    delayed = replace(stage, trace=f"*0/1 PodUnschedulable: ...\n{stage.trace}")
    assert_lost(env, "demo", delayed, PREEMPTED)


@pytest.fixture
def first_class(env: E2EEnv) -> Iterator[str]:
    """Create a PriorityClass above all other Pods, and return its name."""
    scheduling = client.SchedulingV1Api(env.api)
    name = env.namespace
    scheduling.create_priority_class({"metadata": {"name": name}, "value": 1000})
    yield name
    scheduling.delete_priority_class(name)


def most_of_the_cpu(env: E2EEnv) -> str:
    """Return an amount that the node can provide to one Pod, but not to two."""
    node = client.CoreV1Api(env.api).read_node(NODE_NAME)
    return f"{int(parse_quantity(node.status.allocatable['cpu']) * 600)}m"


def with_resources(pod: dict[str, Any], resources: dict[str, Any]) -> dict[str, Any]:
    [app] = pod["spec"]["containers"]
    return {**pod, "spec": {**pod["spec"], "containers": [{**app, "resources": resources}]}}


TOGETHER = {"pulling": PULLING, "mid-init": MID_INIT, "between": BETWEEN_STEPS, "running": RUNNING}


def test_drain_of_the_node_by_a_taint_is_a_loss(
    env: E2EEnv,
    node: Cluster,  # noqa: ARG001
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    for name, stage in TOGETHER.items():
        env.create(name, stage.template)
    for name, stage in TOGETHER.items():
        wait_until_reached(env, name, stage)

    with node_faults.tainted(env.api):
        for name, stage in TOGETHER.items():
            assert_lost(env, name, stage, DRAINED)

    env.wait_ready("running", run=2)


def test_deletion_of_the_node_is_a_loss(
    env: E2EEnv,
    node: Cluster,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    for name, stage in TOGETHER.items():
        env.create(name, stage.template)
    for name, stage in TOGETHER.items():
        wait_until_reached(env, name, stage)

    with node_faults.deleted(env.api, node):
        for name, stage in TOGETHER.items():
            assert_lost(env, name, stage, NODE_GONE, seconds=120)

    env.wait_ready("running", run=2)


def test_eviction_from_an_unreachable_node_is_a_loss_once_the_kubelet_is_back(
    env: E2EEnv,
    node: Cluster,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    """Until the kubelet reports that the containers have ended, no other Pod is created."""
    stages = {"mid-init": MID_INIT, "running": RUNNING}
    with node_faults.another_node(env.api, node):
        for name, stage in stages.items():
            env.create(name, tolerating(stage.template))
        for name, stage in stages.items():
            wait_until_reached(env, name, stage)

        with node_faults.kubelet_stopped(env.api, node):
            for name in stages:
                env.pipelines.wait(name, "its Pod is evicted", terminating)

        for name, stage in stages.items():
            assert_lost(env, name, stage, DRAINED)


def tolerating(pod: dict[str, Any]) -> dict[str, Any]:
    """Return the template with a toleration of one second, in place of the default five minutes."""
    return {**pod, "spec": {**pod["spec"], "tolerations": outage_tolerations(1)}}


def terminating(state: Raw) -> bool:
    return reason_of(state, "Ready") == "PodTerminating"


def test_deletion_while_the_kubelet_is_down_is_a_loss_once_it_is_back(
    env: E2EEnv,
    node: Cluster,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    env.create("demo", RUNNING.template)
    wait_until_reached(env, "demo", RUNNING)

    with node_faults.kubelet_stopped(env.api, node):
        env.delete_pod("demo")
        env.pipelines.wait("demo", "its Pod is terminating", terminating)

    assert_lost(env, "demo", RUNNING, DELETED)


def test_template_change_while_the_kubelet_is_down_waits_for_the_old_pod(
    env: E2EEnv,
    node: Cluster,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    env.create("demo", RUNNING.template)
    wait_until_reached(env, "demo", RUNNING)

    with node_faults.kubelet_stopped(env.api, node):
        env.set("demo", template=MID_INIT.template)
        env.pipelines.wait("demo", "its Pod is terminating", terminating)

    last = env.pipelines.wait(
        "demo",
        "the new step runs",
        lambda state: run_number(state) == 2 and reason_of(state, "Ready") == "StepRunning",
    )
    assert_trace(
        env.pipelines.until("demo", last),
        f"""
        run 1 Created
        {RUNNING.trace}
        run 1 ended Initialized
        run 2 SpecChanged
        0/1 PodTerminating: the Pod "demo" of an earlier run is being deleted
        0/1 StepRunning: init container 1 of 1 "hangs" is running
        """,
    )
    assert_never_two_pods(env, "demo")


def test_deletion_of_a_pod_with_finalizer_is_a_loss_once_it_is_gone(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    core = client.CoreV1Api(env.api)
    held = {"metadata": {"finalizers": ["e2e.test/held"]}}
    env.create("demo", MID_INIT.template)
    wait_until_reached(env, "demo", MID_INIT)
    core.patch_namespaced_pod("demo", env.namespace, held)

    env.delete_pod("demo")
    env.pipelines.wait("demo", "its Pod is terminating", terminating)
    env.pods.wait("demo", "its containers have ended", lambda pod: pod_phase(pod) == "Failed")
    core.patch_namespaced_pod("demo", env.namespace, {"metadata": {"finalizers": None}})

    assert_lost(env, "demo", MID_INIT, DELETED)


def pod_phase(pod: Raw) -> str:
    return str(pod["status"]["phase"])


def test_pod_over_its_own_storage_limit_is_replaced_if_backoff_limit_allows(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    """Unlike a lost Pod, such a Pod stays in phase Failed until the operator deletes it."""
    greedy = container(
        "hangs",
        "dd if=/dev/zero of=/data/file bs=1M count=4 2>/dev/null; exec sleep 3600",
        volumeMounts=[{"name": "work", "mountPath": "/data"}],
    )
    volumes = [{"name": "work", "emptyDir": {"sizeLimit": "1Mi"}}]
    env.create("demo", template(greedy, volumes=volumes, **GRACE), backoffLimit=1)

    last = env.pipelines.wait("demo", "run 2", lambda state: run_number(state) == 2)
    message = 'Evicted: Usage of EmptyDir volume "work" exceeds the limit "1Mi".'
    assert_trace(
        env.pipelines.until("demo", last),
        f"""
        run 1 Created
        {MID_INIT.trace}
        run 1 ended Failed, PodEvicted: {message}
        run 2 Retry
        ?0/1 PodTerminating: the Pod "demo" of an earlier run is being ...
        """,
    )
    assert last["status"]["history"][0]["failedStep"]["name"] == "hangs"
    assert_never_two_pods(env, "demo")


def test_rejection_by_the_kubelet_is_a_loss_with_back_off(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    """The kubelet rejects each Pod, so the third run has to wait."""
    env.create("demo", template(HANGS, nodeName=NODE_NAME, nodeSelector={"e2e.test/no": "such"}))

    last = env.pipelines.wait(
        "demo", "the next run waits", lambda state: "nextRunTime" in state.get("status", {})
    )
    message = "Pod was rejected: Predicate NodeAffinity failed: ..."
    assert_trace(
        env.pipelines.until("demo", last),
        f"""
        run 1 Created
        run 1 ended Lost, PodLost: the Pod was lost: {message}
        run 2 PodLost
        ?0/1 PodTerminating: the Pod "demo" of an earlier run is being deleted
        run 2 ended Lost, PodLost: the Pod was lost: {message}
        0/1 RerunBackOff: the next run is delayed until ...
        """,
    )


def wait_until_reached(env: E2EEnv, name: str, stage: Stage) -> None:
    """Wait until the Pod has reached the stage and the pipeline reports it."""
    env.pods.wait(name, "the stage at which it is lost", stage.reached)

    def reported(state: Raw) -> bool:
        progress = state.get("status", {}).get("initProgress")
        return progress == stage.progress and reason_of(state, "Ready") == stage.reason

    env.pipelines.wait(name, f"{stage.progress} {stage.reason}", reported)


def assert_lost(env: E2EEnv, name: str, stage: Stage, cause: str, seconds: float = 60) -> None:
    """Assert the complete trace, from the first run to the Pod of the second."""
    last = env.pipelines.wait(name, "run 2", lambda state: run_number(state) == 2, seconds)
    why = cause.removeprefix("the Pod was lost").removeprefix(DELETED)
    assert_trace(
        env.pipelines.until(name, last),
        f"""
        run 1 Created
        {stage.trace}
        ?{stage.progress} NodeNotReady: the node lifecycle controller set Ready ...
        ?{stage.progress} PodTerminating: the Pod is being deleted
        ?{stage.progress} PodTerminating: the Pod is being deleted{why}
        run 1 ended Lost, PodLost: {cause}
        run 2 PodLost
        ?0/{stage.progress[-1]} PodTerminating: the Pod "{name}" of an earlier run is being ...
        """,
    )
    assert "failedStep" not in last["status"]["history"][0], "no step has failed"
    assert_never_two_pods(env, name)


def assert_never_two_pods(env: E2EEnv, name: str) -> None:
    """Assert that the Pod of run 2 was created only after the first Pod was gone."""

    def of_run_2(pod: Raw) -> bool:
        return bool(pod["metadata"].get("annotations", {}).get(names.RUN_ANNOTATION) == "2")

    env.pods.wait(name, "the Pod of run 2", of_run_2)
    existing: set[str] = set()
    seen: set[str] = set()
    for pod in env.pods.states:
        if pod["metadata"].get("labels", {}).get(names.NAME_LABEL) != name:
            continue
        uid = pod["metadata"]["uid"]
        seen.add(uid)
        (existing.discard if pod["event"] == "DELETED" else existing.add)(uid)
        assert len(existing) <= 1, f"two Pods at once: {existing}"
    assert len(seen) == 2, "one Pod for each run"
