"""What a pipeline's Pod counts as, with what the real kubelet says that it was given."""

from typing import Any

from kubernetes import client

from tests.e2e.conftest import E2EEnv, run_number
from tests.e2e.templates import container, template
from tests.operator_process import OperatorProcess
from tests.watching import Object


def asking(name: str, script: str, cpu: str, memory: str, **more: Any) -> Object:
    resources = {"requests": {"cpu": cpu}, "limits": {"memory": memory}}
    return container(name, script, resources=resources, **more)


def given(pod: Object) -> list[str]:
    """The CPU that the kubelet says it gave the app containers."""
    statuses = pod["status"].get("containerStatuses", ())
    return [one["resources"]["requests"]["cpu"] for one in statuses if one.get("resources")]


def shown(pipeline: Object) -> Object | None:
    found: Object | None = pipeline.get("status", {}).get("effectiveResources")
    return found


def all_shown(env: E2EEnv) -> list[Object | None]:
    """In the order in which it was shown, since the first run began."""
    values: list[Object | None] = []
    for state in env.pipelines.of("demo"):
        if run_number(state) and shown(state) not in values[-1:]:
            values.append(shown(state))
    return values


def test_effective_resources_follow_a_resize_and_nothing_else(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    pod = template(
        asking("proxy", "exec sleep 3600", "1m", "16Mi", restartPolicy="Always"),
        asking("one", "true", "30m", "32Mi"),
    )
    pod["spec"]["containers"] = [asking("app", "exec sleep 3600", "0.0205", "0.0625Gi")]
    env.create("demo", pod)
    env.wait_ready("demo", run=1)
    before = {"requests": {"cpu": "31m", "memory": "80Mi"}, "limits": {"memory": "80Mi"}}
    after = {"requests": {"cpu": "51m", "memory": "80Mi"}, "limits": {"memory": "80Mi"}}
    env.pods.wait("demo", "the kubelet tells of it", lambda pod: given(pod) == ["21m"])

    more = {"name": "app", "resources": {"requests": {"cpu": "50m"}}}
    client.CoreV1Api(env.api).patch_namespaced_pod_resize(
        "demo", env.namespace, {"spec": {"containers": [more]}}
    )
    env.pods.wait("demo", "the kubelet has given more", lambda pod: given(pod) == ["50m"])
    env.pipelines.wait("demo", "the new size", lambda pipeline: shown(pipeline) == after)
    assert all_shown(env) == [before, after]
    assert run_number(env.pipeline("demo")) == 1
