"""Lives of pipelines to record: what is done to them, until what is said of them."""

from collections.abc import Callable
from typing import Final

from kubernetes import client

from initpipeline.api import names
from tests.e2e.conftest import World, reason_of, run_number, status_of
from tests.e2e.templates import container, template, two_steps
from tests.e2e.watching import Object, Story

NAME: Final = "demo"
"""The pipeline of each life."""

RUN_NUMBER: Final = {
    "name": "RUN",
    "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{names.RUN_ANNOTATION}']"}},
}

Life = Callable[[World], Object]
"""Returns the state that it ends with."""


def becomes_ready(world: World) -> Object:
    """Its template has the empty objects that Lua can't tell from empty lists."""
    volumes = [{"name": "scratch", "emptyDir": {}}]
    step = container("one", "sleep 1", securityContext={}, resources={})
    world.create(NAME, template(step, container("two", "sleep 1"), volumes=volumes))
    return world.wait_ready(NAME, run=1)


def succeeds(world: World) -> Object:
    world.create(NAME, template(container("one", "sleep 1"), app="true", restartPolicy="Never"))
    return _wait(world, lambda state: reason_of(state, "Ready") == "PodSucceeded")


def fails(world: World) -> Object:
    step = container("migrate", "echo the schema is locked; exit 3")
    world.create(NAME, template(container("one", "true"), step, restartPolicy="Never"))
    return _wait_for(world, "Stalled")


def is_asked_for_again(world: World) -> Object:
    fails(world)
    world.request_run(NAME, "again")
    return _wait(
        world, lambda state: run_number(state) == 2 and status_of(state, "Stalled") == "True"
    )


def is_retried(world: World) -> Object:
    step = container("one", 'sleep 1; [ "$RUN" = 2 ]', env=[RUN_NUMBER])
    world.create(NAME, template(step, restartPolicy="Never"), backoffLimit=1)
    return world.wait_ready(NAME, run=2)


def step_fails_for_a_while(world: World) -> Object:
    """The kubelet starts the step again until it succeeds: nobody is needed."""
    script = "sleep 1; [ -e /scratch/tried ] || { touch /scratch/tried; exit 1; }"
    mount = {"name": "scratch", "mountPath": "/scratch"}
    step = container("one", script, volumeMounts=[mount])
    world.create(NAME, template(step, volumes=[{"name": "scratch", "emptyDir": {}}]))
    return world.wait_ready(NAME, run=1)


def is_suspended_and_resumed(world: World) -> Object:
    world.create(NAME, two_steps())
    world.wait_ready(NAME, run=1)
    world.set(NAME, suspend=True)
    _wait(world, _is_suspended_and_at_rest)
    world.set(NAME, suspend=False)
    return world.wait_ready(NAME, run=2)


def is_created_suspended(world: World) -> Object:
    world.create(NAME, two_steps(), suspend=True)
    return _wait_for(world, "Suspended")


def loses_its_pod(world: World) -> Object:
    world.create(NAME, two_steps())
    world.wait_ready(NAME, run=1)
    world.delete_pod(NAME)
    return world.wait_ready(NAME, run=2)


def loses_its_pod_for_good(world: World) -> Object:
    world.create(NAME, two_steps(), rerunPolicy="Never")
    world.wait_ready(NAME, run=1)
    world.delete_pod(NAME)
    return _wait_for(world, "Stalled")


def app_keeps_ending(world: World) -> Object:
    """Until it ends once more while the operator waits before it runs everything again."""
    world.create(NAME, template(container("one", "true"), app="sleep 2; exit 1"))
    return _wait(
        world,
        lambda state: (
            reason_of(state, "Reconciling") == "RerunBackOff"
            and status_of(state, "Ready") == "False"
        ),
    )


def app_fails_without_rerun(world: World) -> Object:
    """It is initialized, nothing is under way, and it is not Ready."""
    app = template(container("one", "true"), app="sleep 2; exit 1")
    world.create(NAME, app, rerunPolicy="OnPodLoss")
    return _wait(world, lambda state: reason_of(state, "Ready") == "ContainerFailed")


def has_no_quota(world: World) -> Object:
    core = client.CoreV1Api(world.api)
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    core.create_namespaced_resource_quota(world.namespace, quota)
    _settle_quota(world)
    world.create(NAME, two_steps())
    _wait(world, lambda state: reason_of(state, "Ready") == "QuotaExceeded")
    core.delete_namespaced_resource_quota("none", world.namespace)
    return world.wait_ready(NAME, run=1)


def is_refused_for_a_while(world: World) -> Object:
    """By a LimitRange, which gives a step a limit below its request, until that is gone."""
    core = client.CoreV1Api(world.api)
    limits = [{"type": "Container", "default": {"cpu": "50m"}, "defaultRequest": {"cpu": "10m"}}]
    body = {"metadata": {"name": "small"}, "spec": {"limits": limits}}
    core.create_namespaced_limit_range(world.namespace, body)
    step = {**container("one", "true"), "resources": {"requests": {"cpu": "100m"}}}
    world.create(NAME, template(step))
    _wait_for(world, "Stalled")
    core.delete_namespaced_limit_range("small", world.namespace)
    return world.wait_ready(NAME, run=1)


def name_is_taken(world: World) -> Object:
    world.create_pod(NAME, two_steps())
    world.create(NAME, two_steps())
    return _wait(world, lambda state: reason_of(state, "Ready") == "NameConflict")


def template_changes(world: World) -> Object:
    world.create(NAME, two_steps())
    world.wait_ready(NAME, run=1)
    steps = [container("one", "echo changed"), container("two", "true")]
    world.set(NAME, template={"spec": {"initContainers": steps}})
    return world.wait_ready(NAME, run=2)


def is_asked_for(world: World) -> Object:
    world.create(NAME, two_steps())
    world.wait_ready(NAME, run=1)
    world.request_run(NAME, "please")
    return world.wait_ready(NAME, run=2)


def is_deleted(world: World) -> Object:
    world.create(NAME, two_steps())
    world.wait_ready(NAME, run=1)
    client.CustomObjectsApi(world.api).delete_namespaced_custom_object(
        names.GROUP,
        names.VERSION,
        world.namespace,
        names.PLURAL,
        NAME,
        body={"propagationPolicy": "Foreground"},
    )
    return _wait(world, lambda state: state["event"] == "DELETED")


LIVES: Final[dict[str, Life]] = {
    life.__name__.replace("_", "-"): life
    for life in (
        becomes_ready,
        succeeds,
        fails,
        is_asked_for_again,
        is_retried,
        step_fails_for_a_while,
        is_suspended_and_resumed,
        is_created_suspended,
        loses_its_pod,
        loses_its_pod_for_good,
        app_keeps_ending,
        app_fails_without_rerun,
        has_no_quota,
        is_refused_for_a_while,
        name_is_taken,
        template_changes,
        is_asked_for,
        is_deleted,
    )
}


def _wait(world: World, condition: Callable[[Object], bool]) -> Object:
    return world.pipelines.wait(NAME, "what ends this part of its life", condition, seconds=240)


def _wait_for(world: World, condition: str) -> Object:
    return _wait(world, lambda state: status_of(state, condition) == "True")


def _is_suspended_and_at_rest(state: Object) -> bool:
    return status_of(state, "Suspended") == "True" and status_of(state, "Reconciling") == ""


def _settle_quota(world: World) -> None:
    """A quota refuses only once it has been counted."""
    quotas = client.CoreV1Api(world.api).list_namespaced_resource_quota

    story = Story(quotas, world.namespace)
    story.wait("none", "the quota is counted", lambda quota: "hard" in quota["status"])
    story.end()
