"""Scenarios to record: what is done to a pipeline, and the state that ends the recording."""

from collections.abc import Callable
from typing import Final

from kubernetes import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from tests.e2e.e2e_env import E2EEnv
from tests.statuses import reason_of, run_number, status_of
from tests.templates import container, template, two_steps
from tests.watching import WatchLog

NAME: Final = "demo"
"""The pipeline of each scenario."""

RUN_NUMBER: Final = {
    "name": "RUN",
    "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{names.RUN_ANNOTATION}']"}},
}

Scenario = Callable[[E2EEnv], Raw]
"""Returns the state that it ends with."""


def becomes_ready(env: E2EEnv) -> Raw:
    """Uses a template with empty objects, which Lua cannot distinguish from empty lists."""
    volumes = [{"name": "scratch", "emptyDir": {}}]
    step = container("one", "sleep 1", securityContext={}, resources={})
    env.create(NAME, template(step, container("two", "sleep 1"), volumes=volumes))
    return env.wait_ready(NAME, run=1)


def succeeds(env: E2EEnv) -> Raw:
    env.create(NAME, template(container("one", "sleep 1"), app="true", restartPolicy="Never"))
    return _wait(env, lambda state: reason_of(state, "Ready") == "PodSucceeded")


def fails(env: E2EEnv) -> Raw:
    step = container("migrate", "echo the schema is locked; exit 3")
    env.create(NAME, template(container("one", "true"), step, restartPolicy="Never"))
    return _wait_for(env, "Stalled")


def is_requested_after_failure(env: E2EEnv) -> Raw:
    fails(env)
    env.request_run(NAME, "again")
    return _wait(
        env, lambda state: run_number(state) == 2 and status_of(state, "Stalled") == "True"
    )


def is_retried(env: E2EEnv) -> Raw:
    step = container("one", 'sleep 1; [ "$RUN" = 2 ]', env=[RUN_NUMBER])
    env.create(NAME, template(step, restartPolicy="Never"), backoffLimit=1)
    return env.wait_ready(NAME, run=2)


def step_fails_temporarily(env: E2EEnv) -> Raw:
    """Lets the first attempt of a step fail. The kubelet restarts the step."""
    script = "sleep 1; [ -e /scratch/tried ] || { touch /scratch/tried; exit 1; }"
    mount = {"name": "scratch", "mountPath": "/scratch"}
    step = container("one", script, volumeMounts=[mount])
    env.create(NAME, template(step, volumes=[{"name": "scratch", "emptyDir": {}}]))
    return env.wait_ready(NAME, run=1)


def is_suspended_and_resumed(env: E2EEnv) -> Raw:
    env.create(NAME, two_steps())
    env.wait_ready(NAME, run=1)
    env.set(NAME, suspend=True)
    _wait(env, _is_suspended_and_at_rest)
    env.set(NAME, suspend=False)
    return env.wait_ready(NAME, run=2)


def is_created_suspended(env: E2EEnv) -> Raw:
    env.create(NAME, two_steps(), suspend=True)
    return _wait_for(env, "Suspended")


def loses_its_pod(env: E2EEnv) -> Raw:
    env.create(NAME, two_steps())
    env.wait_ready(NAME, run=1)
    env.delete_pod(NAME)
    return env.wait_ready(NAME, run=2)


def loses_its_pod_without_rerun(env: E2EEnv) -> Raw:
    env.create(NAME, two_steps(), rerunPolicy="Never")
    env.wait_ready(NAME, run=1)
    env.delete_pod(NAME)
    return _wait_for(env, "Stalled")


def app_keeps_restarting(env: E2EEnv) -> Raw:
    """Ends when the app terminates again while the operator delays the next run."""
    env.create(NAME, template(container("one", "true"), app="sleep 2; exit 1"))
    return _wait(
        env,
        lambda state: (
            reason_of(state, "Reconciling") == "RerunBackOff"
            and status_of(state, "Ready") == "False"
        ),
    )


def app_fails_without_rerun(env: E2EEnv) -> Raw:
    """Ends with a pipeline that is initialized, has no run in progress, and is not Ready."""
    app = template(container("one", "true"), app="sleep 2; exit 1")
    env.create(NAME, app, rerunPolicy="OnPodLoss")
    return _wait(env, lambda state: reason_of(state, "Ready") == "ContainerFailed")


def exceeds_quota(env: E2EEnv) -> Raw:
    core = client.CoreV1Api(env.api)
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    core.create_namespaced_resource_quota(env.namespace, quota)
    _settle_quota(env)
    env.create(NAME, two_steps())
    _wait(env, lambda state: reason_of(state, "Ready") == "QuotaExceeded")
    core.delete_namespaced_resource_quota("none", env.namespace)
    return env.wait_ready(NAME, run=1)


def is_refused_temporarily(env: E2EEnv) -> Raw:
    """Creates a LimitRange that sets a limit below the request of a step, and deletes it."""
    core = client.CoreV1Api(env.api)
    limits = [{"type": "Container", "default": {"cpu": "50m"}, "defaultRequest": {"cpu": "10m"}}]
    body = {"metadata": {"name": "small"}, "spec": {"limits": limits}}
    core.create_namespaced_limit_range(env.namespace, body)
    step = {**container("one", "true"), "resources": {"requests": {"cpu": "100m"}}}
    env.create(NAME, template(step))
    _wait_for(env, "Stalled")
    core.delete_namespaced_limit_range("small", env.namespace)
    return env.wait_ready(NAME, run=1)


def name_is_taken(env: E2EEnv) -> Raw:
    env.create_pod(NAME, two_steps())
    env.create(NAME, two_steps())
    return _wait(env, lambda state: reason_of(state, "Ready") == "NameConflict")


def template_changes(env: E2EEnv) -> Raw:
    env.create(NAME, two_steps())
    env.wait_ready(NAME, run=1)
    steps = [container("one", "echo changed"), container("two", "true")]
    env.set(NAME, template={"spec": {"initContainers": steps}})
    return env.wait_ready(NAME, run=2)


def is_requested(env: E2EEnv) -> Raw:
    env.create(NAME, two_steps())
    env.wait_ready(NAME, run=1)
    env.request_run(NAME, "please")
    return env.wait_ready(NAME, run=2)


def is_deleted(env: E2EEnv) -> Raw:
    env.create(NAME, two_steps())
    env.wait_ready(NAME, run=1)
    env.delete(NAME, "Foreground")
    return _wait(env, lambda state: state["event"] == "DELETED")


SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.__name__.replace("_", "-"): scenario
    for scenario in (
        becomes_ready,
        succeeds,
        fails,
        is_requested_after_failure,
        is_retried,
        step_fails_temporarily,
        is_suspended_and_resumed,
        is_created_suspended,
        loses_its_pod,
        loses_its_pod_without_rerun,
        app_keeps_restarting,
        app_fails_without_rerun,
        exceeds_quota,
        is_refused_temporarily,
        name_is_taken,
        template_changes,
        is_requested,
        is_deleted,
    )
}


def _wait(env: E2EEnv, condition: Callable[[Raw], bool]) -> Raw:
    return env.pipelines.wait(NAME, "the next state of the scenario", condition, seconds=240)


def _wait_for(env: E2EEnv, condition: str) -> Raw:
    return _wait(env, lambda state: status_of(state, condition) == "True")


def _is_suspended_and_at_rest(state: Raw) -> bool:
    return status_of(state, "Suspended") == "True" and status_of(state, "Reconciling") == ""


def _settle_quota(env: E2EEnv) -> None:
    """Waits until the quota is counted: before, the API server does not enforce it."""
    quotas = client.CoreV1Api(env.api).list_namespaced_resource_quota

    watch_log = WatchLog(quotas, env.namespace)
    watch_log.wait("none", "the quota is counted", lambda quota: "hard" in quota["status"])
    watch_log.end()
