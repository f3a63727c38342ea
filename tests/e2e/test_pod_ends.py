"""Pods that exceed their own limits, and restarts without a failure, on a real kubelet."""

from typing import Any

from kubernetes import client

from initpipeline.api.raw import Raw
from tests.cluster.cluster import Cluster
from tests.e2e.e2e_env import E2EEnv
from tests.operator_process import OperatorProcess
from tests.statuses import is_stalled, message_of, reason_of, run_number, runs
from tests.templates import container, sidecar, template

WORK = {"name": "work", "mountPath": "/scratch"}
RESIZABLE: dict[str, Any] = {
    "resources": {"requests": {"cpu": "20m", "memory": "16Mi"}},
    "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}],
}
ON_88 = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}


def run_of(state: Raw) -> dict[str, Any]:
    run: dict[str, Any] = state.get("status", {}).get("run", {})
    return run


def resize(env: E2EEnv, cpu: str) -> None:
    """Change the CPU request of the app container in place, as a VerticalPodAutoscaler does."""
    change = {"name": "app", "resources": {"requests": {"cpu": cpu}}}
    core = client.CoreV1Api(env.api)
    core.patch_namespaced_pod_resize("demo", env.namespace, {"spec": {"containers": [change]}})


def restarts(count: int) -> Any:
    """Return a condition: the app container is ready after that many restarts."""

    def met(pod: Raw) -> bool:
        statuses = pod["status"].get("containerStatuses", ())
        return any(s["restartCount"] == count and s["ready"] for s in statuses)

    return met


def test_step_over_its_own_storage_limit_is_a_failed_run(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    fills = "dd if=/dev/zero of=/scratch/f bs=1M count=8; exec sleep 3600"
    env.create(
        "demo",
        template(
            container("unpack", fills, volumeMounts=[WORK]),
            restartPolicy="Never",
            volumes=[{"name": "work", "emptyDir": {"sizeLimit": "1Mi"}}],
        ),
    )

    state = env.pipelines.wait("demo", "it is given up", is_stalled, seconds=180)

    assert runs(state) == [(1, "Created", "Failed")]
    [record] = state["status"]["history"]
    assert record["reason"] == "PodEvicted"
    assert 'exceeds the limit "1Mi"' in record["message"]
    assert record["failedStep"]["name"] == "unpack"


def test_app_over_its_active_deadline_is_a_failed_run(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    env.create("demo", template(container("one", "true"), activeDeadlineSeconds=5))

    state = env.pipelines.wait("demo", "it is given up", is_stalled)

    assert runs(state) == [(1, "Created", "Failed")]
    assert state["status"]["history"][0]["reason"] == "PodDeadlineExceeded"


def test_deadline_before_any_container_started_is_a_failed_run(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    missing = {**container("one", "true"), "image": "registry.test/nothing:1"}
    env.create("demo", template(missing, activeDeadlineSeconds=2))

    state = env.pipelines.wait("demo", "it is given up", is_stalled)

    assert runs(state) == [(1, "Created", "Failed")]
    assert "PodDeadlineExceeded" in {reason_of(state, "Ready"), reason_of(state, "Initialized")}


def test_resize_restart_starts_no_run_but_a_later_crash_does(
    env: E2EEnv,
    node: Cluster,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    before = env.create_ready("demo", template(container("one", "true"), **_app(RESIZABLE)))

    resize(env, "30m")

    env.pods.wait("demo", "the resize restarted the container", restarts(1))
    baseline = [{"name": "app", "restartCount": 1, "resources": {"requests.cpu": "30m"}}]
    state = env.pipelines.wait(
        "demo",
        "the restart was attributed to the resize",
        lambda state: run_of(state).get("restartBaselines") == baseline,
    )
    assert run_number(state) == 1
    assert env.pod("demo")["metadata"]["uid"] == before["status"]["podUID"]

    node.kill_container(env.namespace, "demo", "app")

    after = env.wait_ready("demo", run=2)
    assert after["status"]["run"]["trigger"] == "ContainerRestarted"


def test_rule_of_a_sidecar_names_it_as_the_cause(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    """The example of KEP-5532: a watcher exits, and all containers restart."""
    once = "[ -e /scratch/again ] && exec sleep 3600; touch /scratch/again; sleep 4; exit 88"
    watcher = sidecar("watcher", once, volumeMounts=[WORK], restartPolicyRules=[ON_88])
    env.create(
        "demo",
        template(
            container("one", "sleep 0.5"), watcher, volumes=[{"name": "work", "emptyDir": {}}]
        ),
    )

    state = env.wait_ready("demo", run=2)

    assert runs(state) == [(1, "Created", "Initialized"), (2, "RestartedInPlace", "")]
    cause = state["status"]["run"]["cause"]
    assert (cause["container"], cause["exitCode"]) == ("watcher", 88)


def test_step_that_only_its_own_rule_restarts_is_limited_by_max_restarts(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    """The Pod's restartPolicy is Never (KEP-5307)."""
    rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
    step = container("one", "exit 42", restartPolicy="Never", restartPolicyRules=[rule])
    env.create(
        "demo",
        template(step, restartPolicy="Never"),
        initPolicies=[{"name": "one", "maxRestarts": 1}],
    )

    state = env.pipelines.wait("demo", "it is given up", is_stalled)

    assert state["status"]["history"][0]["reason"] == "RestartLimitExceeded"
    assert "exited with 42" in message_of(state, "Stalled")


def _app(fields: dict[str, Any]) -> dict[str, Any]:
    return {"containers": [container("app", "exec sleep 3600", **fields)]}
